"""``lst eval``: scores of trained models on held-out utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lst.configs.schema import Config
from lst.errors import LstError, ProblemsError, StorageError, raise_problems
from lst.evaluation import (
    DIRECTIONS,
    HEADLINE,
    ClozeScore,
    DirectionScore,
    EvalResult,
    Item,
    Scorer,
    cloze_accuracies,
    cloze_items,
    direction_scores,
    held_out_bits,
    joint_cost,
    question_items,
    score_cloze,
    score_items,
    usable_items,
    usable_questions,
    usable_utterances,
)
from lst.evaluation.results import BITS_COLUMNS, read_result
from lst.progress import Progress, say
from lst.runs import RunFolder, TrainedModel, open_data, open_trained, require_models
from lst.runs.formats import versioned
from lst.storage import clear_partial_files, fingerprint, write_json, write_jsonl
from lst.storage.locks import folder_lock, reading_lock

# Raised when the same models and data would give other results.
VERSION = 4


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
    results: dict[str, EvalResult] = {}
    failed: list[str] = []
    for name in names:
        try:
            results[name] = evaluate_model(config, run, open_trained(run, name, data, config.verify_models))
        except StorageError:
            raise
        except LstError as error:
            failed.append(f"{name}: {' '.join(str(error).split())}")
            say(f"not evaluated: {failed[-1]}")
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
    return [f"eval: {len(names)} models on {len(items):,} cloze items of {data.folder}", *lines]


def evaluate_model(config: Config, run: RunFolder, trained: TrainedModel) -> EvalResult:
    """Cloze accuracies, bits a speech unit and bits a text byte of one model.

    Utterances and items that are longer than the model's context, or have nothing to score, are listed and left out.

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
    items, faulty_items = usable_items(scorer, cloze_items(held_out, config.eval, config.seed))
    utterances, left_out = usable_utterances(scorer, held_out)
    left_out += faulty_items
    if not (items and utterances):
        raise ProblemsError(
            f"{name} can read no held-out {'utterance' if items else 'cloze item'} of {trained.data.folder}",
            [f"{one['id']}: {one['reason']}" for one in left_out],
        )
    questions, faulty_questions = usable_questions(scorer, _questions(trained))
    left_out += faulty_questions
    for one in left_out:
        say(f"{name}: {one['id']} is left out: {one['reason']}")
    with Progress(len(items) * len(DIRECTIONS) + len(questions), f"evaluate {name}", unit="item") as progress:
        rows = score_cloze(scorer, items, progress.advance)
        question_rows = score_items(scorer, questions, progress.advance)
    result: EvalResult = {
        "made_from": made_from,
        "name": name,
        "corpus": trained.data.index["description"],
        "data": trained.data.fingerprint,
        "weights_sha256": trained.weights_sha256,
        "seed": config.seed,
        "strategy": trained.strategy,
        "options": asdict(config.eval),
        "num_parameters": trained.model.num_parameters,
        "cloze": cloze_accuracies(rows, config.eval.bootstrap_samples, config.seed),
        "bits": held_out_bits(scorer, utterances),
        "left_out": left_out,
    }
    if trained.patching_note:
        result["patching_note"] = trained.patching_note
    if trained.model.config.boundary_head:
        result["joint_cost"] = joint_cost(scorer, utterances)
    if question_rows:
        result["questions"] = direction_scores(question_rows, config.eval.bootstrap_samples, config.seed)
        write_jsonl(run.eval_questions(name, other_data), [{**row} for row in question_rows])
    write_jsonl(run.eval_items(name, other_data), [{**row} for row in rows])
    write_json(path, versioned(result))
    return result


def _questions(trained: TrainedModel) -> list[Item]:
    data = trained.data
    return question_items(data.questions, {part.id: part for part in data.question_parts}) if data.questions else []


def data_it_was_not_trained_on(run: RunFolder, trained: TrainedModel) -> str:
    """The fingerprint of the data if the model was trained on other data; empty if on this, or if that is unknown."""
    of_training, of_data = run.data_of_training(trained.name), trained.data.fingerprint
    return of_data if of_training not in ("", of_data) else ""


def _made_from(config: Config, trained: TrainedModel) -> str:
    """Fingerprint of all that decides a result."""
    patching = trained.patching
    return fingerprint(
        [
            VERSION,
            trained.weights_sha256,
            patching.config.recorded(),
            trained.data.fingerprint,
            asdict(config.eval),
            config.seed,
            *patching.hashes,
        ]
    )


def results_as_text(results: dict[str, EvalResult]) -> str:
    """A line for each model: accuracies in per cent, by mean and by sum, and bits."""
    first = next(iter(results.values()))
    num_items = " or ".join(map(str, sorted({one["cloze"][DIRECTIONS[0]]["num_items"] for one in results.values()})))
    width = max(map(len, [*results, "model"]))
    header = "  ".join(
        [f"{'model':<{width}}", *(f"{direction:>17}" for direction in DIRECTIONS)]
        + [f"{column.short:>10}" for column in BITS_COLUMNS.values()]
    )
    lines = [
        *([f"held-out speech and text of: {first['corpus']}"] if "corpus" in first else []),
        f"cloze accuracy, % (mean log-likelihood a token [95 % interval] / summed), {num_items} items; chance is 50",
        header,
    ]
    for name, result in results.items():
        cells = [cloze_cell(result["cloze"][direction]) for direction in DIRECTIONS]
        bits: Mapping[str, Any] = result["bits"]
        lines.append(
            "  ".join(
                [
                    f"{name:<{width}}",
                    *(f"{cell:>17}" for cell in cells),
                    *(f"{bits[key]:>10.3f}" for key in BITS_COLUMNS),
                ]
            )
        )
    lines += [
        f"{name}: {len(result['left_out'])} utterances or items are left out, each with its reason in its result"
        for name, result in results.items()
        if result.get("left_out")
    ]
    lines += questions_as_text(results)
    lines += [f"{name}: {result['patching_note']}" for name, result in results.items() if "patching_note" in result]
    lines += [
        f"{name}: on the aligner's own patches {cost['bits_per_unit']:.3f} bits/unit and "
        f"{cost['boundary_bits_per_unit']:.3f} for where they end, {cost['joint_bits_per_unit']:.3f} in all"
        for name, result in results.items()
        if (cost := result.get("joint_cost"))
    ]
    counts = {name: result["bits"]["num_units"] for name, result in results.items()}
    if len(set(counts.values())) > 1:
        once = ", ".join(name for name, count in counts.items() if count < max(counts.values()))
        lines.append(
            f"bits/unit of {once} are of units read once (patching.deduplicate=true): these and others do not compare"
        )
    return "\n".join(lines)


def questions_as_text(results: dict[str, EvalResult]) -> list[str]:
    """A line for each model and stratum: the headline accuracy of each direction; none without questions."""
    asked = {name: result["questions"] for name, result in results.items() if "questions" in result}
    if not asked:
        return []
    headlines = ", ".join(f"{direction} by {headline}" for direction, headline in HEADLINE.items())
    width = max(map(len, [*asked, "model"]))
    lines = [
        "",
        f"questions whose parts were spoken separately: accuracy, % [95 % interval], {headlines}; chance is 50",
        "  ".join([f"{'model':<{width}}  {'stratum':<8}  items", *(f"{direction:>15}" for direction in DIRECTIONS)]),
    ]
    for name, scores in asked.items():
        for stratum, first in scores[DIRECTIONS[0]]["strata"].items():
            cells = [_headline_cell(scores[direction], stratum) for direction in DIRECTIONS]
            lines.append("  ".join([f"{name:<{width}}  {stratum:<8}  {first['num_items']:>5}", *cells]))
    return lines


def _headline_cell(score: DirectionScore, stratum: str) -> str:
    found: Mapping[str, Any] = score["strata"][stratum]
    best = found[score["headline"]]
    return f"{100 * best['accuracy']:.1f} [{100 * best['low']:.0f}–{100 * best['high']:.0f}]".rjust(15)


def cloze_cell(cell: ClozeScore) -> str:
    """``61.2 [55–67]/58.0``: accuracy by mean log-likelihood with its interval, then accuracy by sum."""
    mean, total = cell["mean"], cell["sum"]
    return (
        f"{100 * mean['accuracy']:.1f} [{100 * mean['low']:.0f}–{100 * mean['high']:.0f}]/{100 * total['accuracy']:.1f}"
    )
