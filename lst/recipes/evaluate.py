"""``lst eval``: scores of trained models on held-out utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lst.configs.schema import Config
from lst.data.prepared import PreparedData, speech_name
from lst.data.shards import LeftOut
from lst.data.utterance import Utterance
from lst.errors import LstError, ProblemsError, raise_problems
from lst.evaluation import (
    DIRECTIONS,
    HEADLINE,
    ClozeScore,
    EvalResult,
    Item,
    ItemRow,
    Scorer,
    StoryData,
    above_floor,
    cloze_accuracies,
    cloze_items,
    direction_scores,
    entropy_rates,
    floors_as_text,
    held_out_bits,
    joint_cost,
    question_items,
    score_cloze,
    score_items,
    usable_items,
    usable_questions,
    usable_utterances,
    utterance_bits,
)
from lst.evaluation.ceilings import ceilings_of
from lst.evaluation.ceilings_results import Ceilings, EntropyRow, OracleScore, read_ceilings
from lst.evaluation.cloze import ClozeItem
from lst.evaluation.contamination import (
    Contamination,
    check_contamination,
    contamination_as_text,
    contamination_of,
)
from lst.evaluation.controls import control_rows, control_scores, items_of_cloze
from lst.evaluation.items import items_fingerprint
from lst.evaluation.results import BITS_COLUMNS, NO_CLOZE, BitsRow, ClozeRow, ItemKind, read_result
from lst.evaluation.shown import controls_as_text, headline_cell, oracles_as_text
from lst.evaluation.sounds import PartSounds
from lst.evaluation.summary import ScoredModel, listed, run_results
from lst.progress import Progress, say
from lst.runs import RunFolder, TrainedModel, each_trained, open_data, open_trained, require_models
from lst.runs.formats import versioned
from lst.storage import clear_partial_files, fingerprint, read_jsonl, write_json, write_jsonl
from lst.storage.locks import folder_lock, reading_lock

# Raised when the same models and data would give other results.
VERSION = 4
# The same of the best listener.
CEILINGS_VERSION = 1

# A cell of a table for which there is no number.
ABSENT = "–"
# Options of benchmarks, of contamination, and of adapted models.
_OF_OTHER_FILES = (
    *("benchmark", "ngram", "task", "split", "max_utterances", "beams", "recognise", "recogniser_weights"),
)


class FailedModelsError(ProblemsError):
    """Models that could not be evaluated; all others were.

    Attributes:
        results: of the others.
    """

    results: dict[str, EvalResult]


def evaluate(config: Config) -> dict[str, EvalResult]:
    """Evaluates every trained model of the run. A model with an equal evaluation is not evaluated again.

    Returns:
        The result of each model by name, as in ``eval/NAME.json``.

    Raises:
        UserError: no model is trained, or the data makes no cloze item.
        FailedModelsError: some models are damaged or do not fit the data; the others are evaluated.
    """
    run = RunFolder.of(config)
    names = require_models(run, only_finite=False)
    folder = run.eval_result(names[0]).parent
    with reading_lock(run.data), folder_lock(folder, work="evaluated", remedy="or evaluate another run_dir=FOLDER"):
        clear_partial_files(folder)
        return _evaluate_all(config, run, names)


def _evaluate_all(config: Config, run: RunFolder, names: Sequence[str]) -> dict[str, EvalResult]:
    data = open_data(config)
    sounds = PartSounds(data)
    results, failed = each_trained(
        run, names, data, config.verify_models, lambda trained: evaluate_model(config, run, trained, sounds)
    )
    if results:
        write_ceilings(config, run, data, list(results))
        check_contamination(config, run, data, list(results))
    if failed:
        subject = f"{len(failed)} of {len(names)} models are not evaluated"
        failure = FailedModelsError(
            subject, failed, f"Train them again, or remove their folders from {run.root}/models."
        )
        failure.results = results
        raise failure
    return results


def evaluation_plan(config: Config) -> list[str]:
    """Plan of ``lst eval``, as lines of text.

    Raises:
        UserError: what ``evaluate`` would refuse before it scores; every model that does not open is named.
    """
    run = RunFolder.of(config)
    names = run.trained_models()
    if not names:
        return [f"eval: it waits for trained models in {run.root / 'models'}: none yet, run lst train"]
    data = open_data(config)
    items = cloze_items(list(data.valid), config.eval, config.seed)
    problems, lines = [], []
    for name in names:
        try:
            trained = open_trained(run, name, data, config.verify_models)
        except LstError as error:
            problems.append(f"{name}: {' '.join(str(error).split())}")
            continue
        path = run.eval_result(name, data_it_was_not_trained_on(run, trained))
        lines.append(f"  {name}: {trained.model.num_parameters:,} parameters, would write {path}")
    raise_problems(f"{len(problems)} of {len(names)} models cannot be evaluated", problems)
    asked = f"{len(items):,} cloze items" if items else "held-out speech"
    told = [] if items else [f"  {NO_CLOZE}"]
    return [f"eval: {len(names)} models on {asked} of {data.folder}", *told, *lines]


def evaluate_model(config: Config, run: RunFolder, trained: TrainedModel, sounds: PartSounds) -> EvalResult:
    """Cloze accuracies, bits a speech unit and bits a text byte of one model, and what controls answer to its items.

    Utterances and items that are longer than the model's context, or have nothing to score, are listed and left out.

    Args:
        config: of the command.
        run: gets the result.
        trained: the model, on the data of ``sounds``.
        sounds: measures parts of the items for the controls; those that are known are not measured again.

    Raises:
        UserError: weights are not finite, or nothing is left to score.
    """
    name, other_data = trained.name, data_it_was_not_trained_on(run, trained)
    made_from = _made_from(config, trained)
    path = run.eval_result(name, other_data)
    before = read_result(path) if path.exists() else None
    if before is not None and before["made_from"] == made_from:
        say(f"{name} is evaluated: nothing to do ({path})")
        return before
    scorer = Scorer.of(trained, config)
    held_out = list(trained.data.valid)
    cloze, all_questions = cloze_items(held_out, config.eval, config.seed), _questions(trained)
    utterances, items, questions, left_out = _usable(scorer, trained, held_out, cloze, all_questions)
    with Progress(len(items) * len(DIRECTIONS) + len(questions), f"evaluate {name}", unit="item") as progress:
        rows = score_cloze(scorer, items, progress.advance)
        question_rows = score_items(scorer, questions, progress.advance)
    bits_rows = utterance_bits(scorer, utterances)
    answered: dict[ItemKind, list[Item]] = {"cloze": items_of_cloze(items), "questions": questions}
    controls = {kind: control_rows(sounds, kind, asked) for kind, asked in answered.items() if asked}
    result: EvalResult = {
        "made_from": made_from,
        "name": name,
        "corpus": trained.data.index["description"],
        "data": trained.data.fingerprint,
        "weights_sha256": trained.weights_sha256,
        "seed": config.seed,
        "strategy": trained.strategy,
        "options": _decides(config),
        "num_parameters": trained.model.num_parameters,
        "cloze": cloze_accuracies(rows, config.eval.bootstrap_samples, config.seed) if rows else {},
        "bits": held_out_bits(bits_rows),
        "left_out": left_out,
        "controls": {
            kind: control_scores(own, sounds, config.eval.bootstrap_samples, config.seed)
            for kind, own in controls.items()
        },
        "items": {"cloze": items_fingerprint(items_of_cloze(cloze))} if cloze else {},
    }
    if trained.patching_note:
        result["patching_note"] = trained.patching_note
    # Where words end is what the aligner tells: speech without words has no such patches.
    if trained.model.config.boundary_head and (aligned := [one for one in utterances if one.words]):
        result["joint_cost"] = joint_cost(scorer, aligned)
    if all_questions:
        result["items"]["questions"] = items_fingerprint(all_questions)
    if question_rows:
        result["questions"] = direction_scores(question_rows, config.eval.bootstrap_samples, config.seed)
        write_jsonl(run.eval_questions(name, other_data), [{**row} for row in question_rows])
    write_jsonl(run.eval_controls(name, other_data), [{**row} for own in controls.values() for row in own])
    write_jsonl(run.eval_items(name, other_data), [{**row} for row in rows])
    write_jsonl(run.eval_bits(name, other_data), [{**row} for row in bits_rows])
    write_json(path, versioned(result))
    return result


def _usable(
    scorer: Scorer,
    trained: TrainedModel,
    held_out: Sequence[Utterance],
    cloze: Sequence[ClozeItem],
    questions: Sequence[Item],
) -> tuple[list[Utterance], list[ClozeItem], list[Item], list[LeftOut]]:
    """The utterances, cloze items and questions that the model can read, and all others, which are said.

    Raises:
        UserError: nothing is left to score.
    """
    items, faulty_items = usable_items(scorer, cloze)
    utterances, left_out = usable_utterances(scorer, held_out)
    left_out += faulty_items
    if not utterances or (cloze and not items):
        missing = "cloze item" if cloze and not items else "utterance"
        raise ProblemsError(
            f"{trained.name} can read no held-out {missing} of {trained.data.folder}",
            [f"{one['id']}: {one['reason']}" for one in left_out],
        )
    readable, faulty_questions = usable_questions(scorer, questions)
    left_out += faulty_questions
    for one in left_out:
        say(f"{trained.name}: {one['id']} is left out: {one['reason']}")
    return utterances, items, readable, left_out


def write_ceilings(config: Config, run: RunFolder, data: PreparedData, names: Sequence[str]) -> None:
    """Writes what the best listener could do beside the results of models; nothing where nobody knows."""
    stories = StoryData.of(data)
    if stories is None or not (stories.speech or data.questions):
        return
    others = {name: "" if run.data_of_training(name) in ("", data.fingerprint) else data.fingerprint for name in names}
    path, options = run.ceilings(min(others.values())), config.eval
    rows_path = path.with_suffix(".utterances.jsonl")
    made_from = fingerprint([CEILINGS_VERSION, data.fingerprint, _decides(config), config.seed])
    before = read_ceilings(path) if path.exists() and rows_path.exists() else None
    found = before
    if found is None or found["made_from"] != made_from:
        found = _measured_ceilings(config, stories, rows_path, made_from)
    rows = read_jsonl(rows_path, EntropyRow)
    compared = [
        above_floor(name, read_jsonl(run.eval_bits(name, other), BitsRow), rows, options.bootstrap_samples, config.seed)
        for name, other in others.items()
    ]
    found = {**found, "models": [model for model in compared if model is not None]}
    if found != before:
        write_json(path, versioned(found))


def _measured_ceilings(config: Config, stories: StoryData, rows_path: Path, made_from: str) -> Ceilings:
    """Measures what does not depend on models, and writes the utterances' part of it."""
    options, data = config.eval, stories.data
    num_utterances = min(options.ceiling_utterances, len(data.valid)) if stories.speech else 0
    with Progress(num_utterances + len(data.questions), "measure ceilings", unit="item") as progress:
        oracles = stories.oracles(options.bootstrap_samples, config.seed, progress.advance)
        rows = []
        for row in stories.entropy_rows(num_utterances):
            rows.append(row)
            progress.advance(1)
    write_jsonl(rows_path, [{**row} for row in rows])
    return {
        "made_from": made_from,
        "corpus": data.index["description"],
        "data": data.fingerprint,
        "seed": config.seed,
        "num_stories": stories.grammar.num_stories,
        "num_known": stories.num_known,
        "entropy": entropy_rates(rows, options.bootstrap_samples, config.seed) if rows else None,
        "oracles": oracles,
        "models": [],
    }


def _questions(trained: TrainedModel) -> list[Item]:
    data = trained.data
    return question_items(data.questions, {part.id: part for part in data.question_parts}) if data.questions else []


def data_it_was_not_trained_on(run: RunFolder, trained: TrainedModel) -> str:
    """The fingerprint of the data if the model was trained on other data; empty if on this, or if that is unknown."""
    return _other_data(run, trained.name, trained.data.fingerprint)


def _other_data(run: RunFolder, name: str, data: str) -> str:
    return data if run.data_of_training(name) not in ("", data) else ""


def _decides(config: Config) -> dict[str, Any]:
    """The options of the evaluation without those that decide other files."""
    return {key: value for key, value in asdict(config.eval).items() if key not in _OF_OTHER_FILES}


def _made_from(config: Config, trained: TrainedModel) -> str:
    """Fingerprint of all that decides a result."""
    patching = trained.patching
    return fingerprint(
        [
            VERSION,
            trained.weights_sha256,
            patching.config.recorded(),
            trained.data.fingerprint,
            _decides(config),
            config.seed,
            *patching.hashes,
        ]
    )


def found_ceilings(config: Config, results: dict[str, EvalResult]) -> Ceilings | None:
    """What the best listener could do on the data of some results; None where it was not measured."""
    return ceilings_of(RunFolder.of(config), next(iter(results.values())).get("data", ""))


def found_contamination(config: Config, results: dict[str, EvalResult]) -> Contamination | None:
    """What of the data of some results occurs in the training; None where it was not looked for."""
    return contamination_of(RunFolder.of(config), next(iter(results.values())).get("data", ""))


def results_as_text(
    results: dict[str, EvalResult], ceilings: Ceilings | None = None, contamination: Contamination | None = None
) -> str:
    """A line for each model: accuracies in per cent, by mean and by sum, and bits; then ceilings and contamination.

    Where no held-out utterance has words, bits of speech alone.
    """
    first = next(iter(results.values()))
    lines = [
        *(
            [f"held-out speech{' and text' * bool(first['bits']['num_bytes'])} of: {first['corpus']}"]
            if "corpus" in first
            else []
        ),
        *_scores_as_text(results),
    ]
    lines += [
        f"{name}: {len(result['left_out'])} utterances or items are left out, each with its reason in its result"
        for name, result in results.items()
        if result.get("left_out")
    ]
    lines += [f"{name}: {result['patching_note']}" for name, result in results.items() if "patching_note" in result]
    lines += [
        f"{name}: on the aligner's own patches {cost['bits_per_unit']:.3f} bits/unit and "
        f"{cost['boundary_bits_per_unit']:.3f} for where they end, {cost['joint_bits_per_unit']:.3f} in all"
        for name, result in results.items()
        if (cost := result.get("joint_cost"))
    ]
    lines += questions_as_text(results, ceilings["oracles"] if ceilings else ())
    lines += controls_as_text(first.get("controls", {}))
    counts = {name: result["bits"]["num_units"] for name, result in results.items()}
    if len(set(counts.values())) > 1:
        a_unit = listed([column.short for column in BITS_COLUMNS.values() if column.is_a_unit])
        once = ", ".join(name for name, count in counts.items() if count < max(counts.values()))
        lines.append(
            f"{a_unit} of {once} are of units read once (patching.deduplicate=true): these and others do not compare"
        )
    lines += floors_as_text(ceilings) if ceilings else []
    return "\n".join(lines + (contamination_as_text(contamination) if contamination else []))


def _scores_as_text(results: Mapping[str, EvalResult]) -> list[str]:
    """The table of cloze accuracies and bits, and what stands over it."""
    counts = sorted({one["cloze"][DIRECTIONS[0]]["num_items"] for one in results.values() if one["cloze"]})
    directions = DIRECTIONS if counts else ()
    width = max(map(len, [*results, "model"]))
    items = " or ".join(map(str, counts))
    lines = [
        f"cloze accuracy, % (mean log-likelihood a token [95 % interval] / summed), {items} items; chance is 50"
        if counts
        else NO_CLOZE,
        "  ".join(
            [f"{'model':<{width}}", *(f"{direction:>17}" for direction in directions)]
            + [f"{column.short:>10}" for column in BITS_COLUMNS.values()]
        ),
    ]
    for name, result in results.items():
        cells = [cloze_cell(result["cloze"][one]) if result["cloze"] else ABSENT for one in directions]
        bits: Mapping[str, Any] = result["bits"]
        shown = (ABSENT if bits[key] is None else f"{bits[key]:.3f}" for key in BITS_COLUMNS)
        lines.append(
            "  ".join([f"{name:<{width}}", *(f"{cell:>17}" for cell in cells), *(f"{cell:>10}" for cell in shown)])
        )
    return lines


def verdict_of(config: Config, results: Mapping[str, EvalResult]) -> str:
    """One sentence about evaluated models, one or more; as the report opens with."""
    run, data = RunFolder.of(config), open_data(config)
    models = []
    for name, result in results.items():
        other_data = _other_data(run, name, data.fingerprint)
        questions = read_jsonl(run.eval_questions(name, other_data), ItemRow) if "questions" in result else []
        models.append(ScoredModel(result, questions, read_jsonl(run.eval_items(name, other_data), ClozeRow)))
    options = config.eval.bootstrap_samples, config.seed
    return run_results(models, data.index["description"], speech_name(data.index), data.fingerprint, *options)[
        "verdict"
    ]


def questions_as_text(results: dict[str, EvalResult], oracles: Sequence[OracleScore] = ()) -> list[str]:
    """A line for each model and stratum: the headline accuracy of each direction; then a line for each oracle.

    There is no line without questions.
    """
    asked = {name: result["questions"] for name, result in results.items() if "questions" in result}
    if not asked:
        return []
    headlines = ", ".join(f"{direction} by {headline}" for direction, headline in HEADLINE.items())
    width = max(map(len, [*asked, "model"]))
    lines = [
        "",
        f"questions whose parts were spoken separately: accuracy, % [95 % interval], {headlines} / mean a token; "
        "chance is 50",
        "  ".join([f"{'model':<{width}}  {'stratum':<8}  items", *(f"{direction:>19}" for direction in DIRECTIONS)]),
    ]
    for name, scores in asked.items():
        for stratum, first in next(iter(scores.values()))["strata"].items():
            cells = [headline_cell(scores[direction], stratum) for direction in DIRECTIONS]
            lines.append("  ".join([f"{name:<{width}}  {stratum:<8}  {first['num_items']:>5}", *cells]))
    return lines + oracles_as_text(oracles)


def cloze_cell(cell: ClozeScore) -> str:
    """``61.2 [55–67]/58.0``: accuracy by mean log-likelihood with its interval, then accuracy by sum."""
    mean, total = cell["mean"], cell["sum"]
    return (
        f"{100 * mean['accuracy']:.1f} [{100 * mean['low']:.0f}–{100 * mean['high']:.0f}]/{100 * total['accuracy']:.1f}"
    )
