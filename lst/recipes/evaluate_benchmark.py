"""``lst eval eval.benchmark=FOLDER``: every trained model of a run on a benchmark, apart from the run's own results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from lst.configs.schema import CONTAMINATION, Config
from lst.data.prepared import PreparedData
from lst.errors import ProblemsError, raise_problems
from lst.evaluation import (
    DIRECTIONS,
    Item,
    Scorer,
    direction_scores,
    score_items,
    usable_questions,
)
from lst.evaluation.accuracy import ALL
from lst.evaluation.benchmark import Benchmark, BenchmarkCard, BenchmarkResult, headlines_of, open_benchmark
from lst.evaluation.contamination import (
    Contamination,
    contamination_as_text,
    item_text,
    training_data,
    write_contamination,
)
from lst.evaluation.controls import control_rows, control_scores
from lst.evaluation.items import items_fingerprint
from lst.evaluation.results import Direction, DirectionScore, ItemRow
from lst.evaluation.shown import controls_as_text, headline_cell
from lst.evaluation.sounds import PartSounds
from lst.progress import Progress, say
from lst.runs import RunFolder, TrainedModel, each_trained, open_data, require_models
from lst.runs.formats import read_record, versioned
from lst.storage import clear_partial_files, fingerprint, write_json, write_jsonl
from lst.storage.locks import folder_lock, reading_lock

# Raised when the same models and benchmark would give other results.
VERSION = 1


def evaluate_benchmark(config: Config) -> str:
    """Scores every trained model on the benchmark; returns the results as text.

    A model with an equal result is not scored again.

    Raises:
        UserError: the benchmark is damaged or of other units, or no model is trained.
        ProblemsError: some models cannot be scored; the others are, and their results are said.
    """
    run = RunFolder.of(config)
    names = require_models(run, only_finite=False)
    data, benchmark = open_data(config), _opened(config)
    benchmark.check_units(data)
    folder = run.root / "eval"
    with (
        reading_lock(run.data),
        reading_lock(benchmark.folder),
        folder_lock(folder, work="evaluated", remedy="or evaluate another run_dir=FOLDER"),
    ):
        clear_partial_files(folder)
        say(named_scores(benchmark.card))
        sounds = PartSounds(data, benchmark.manifest)
        results, failed = each_trained(
            run, names, data, config.verify_models, lambda trained: _score(config, run, trained, benchmark, sounds)
        )
        found = _contamination(config, run, benchmark, data, list(results)) if results else None
    shown = results_as_text(benchmark.card, results) if results else ""
    if found is not None:
        shown = "\n".join([shown, *contamination_as_text(found)])
    if failed:
        say(shown)
    raise_problems(f"{len(failed)} of {len(names)} models are not scored on {benchmark.card['name']}", failed)
    return shown


def _contamination(
    config: Config, run: RunFolder, benchmark: Benchmark, data: PreparedData, names: Sequence[str]
) -> Contamination | None:
    """Counts the items of the benchmark that occur in the training; None with ``eval.ngram=0``."""
    if not config.eval.ngram:
        return None
    texts = {item.id: item_text(item) for item in benchmark.items}
    path = run.eval_benchmark(CONTAMINATION, benchmark.card["name"], benchmark.fingerprint)
    training = training_data(run, names, data)
    return write_contamination(path, benchmark.fingerprint, training, {"benchmark": texts}, config.eval.ngram)


def benchmark_plan(config: Config) -> list[str]:
    """Plan of ``lst eval eval.benchmark=``, as lines of text; raises ``UserError`` for what it would refuse."""
    run, benchmark = RunFolder.of(config), _opened(config)
    names = run.trained_models()
    if not names:
        return [f"eval: it waits for trained models in {run.root / 'models'}: none yet, run lst train"]
    benchmark.check_units(open_data(config))
    places = [run.eval_benchmark(name, benchmark.card["name"], benchmark.fingerprint) for name in names]
    return [
        f"eval: {len(names)} models on {benchmark.card['num_items']:,} items of {benchmark.folder}",
        *(f"  {name}: would write {place}" for name, place in zip(names, places, strict=True)),
    ]


def _opened(config: Config) -> Benchmark:
    return open_benchmark(str(config.eval.benchmark), config.data.verify == "hash")


def named_scores(card: BenchmarkCard) -> str:
    """The headline scores in words, which are named before anything is scored."""
    scores = ", ".join(f"{direction} by {score}" for direction, score in headlines_of(card).items())
    swap = (
        f"; swap takes away what an ending costs after {card['other_contexts']}"
        if "swap" in headlines_of(card).values()
        else ""
    )
    return f"headline scores: {scores}{swap}"


def _score(
    config: Config, run: RunFolder, trained: TrainedModel, benchmark: Benchmark, sounds: PartSounds
) -> BenchmarkResult:
    """The result of one model, written unless it is there."""
    card, name = benchmark.card, trained.name
    path, folder = run.eval_benchmark(name, card["name"], benchmark.fingerprint), str(benchmark.folder.resolve())
    options = {"bootstrap_samples": config.eval.bootstrap_samples, "rows_a_batch": config.eval.rows_a_batch}
    made_from = fingerprint(
        [
            VERSION,
            trained.weights_sha256,
            trained.patching.config.recorded(),
            benchmark.fingerprint,
            trained.data.fingerprint,
            options,
            config.seed,
            *trained.patching.hashes,
        ]
    )
    if path.exists():
        before = read_record(path, BenchmarkResult, "the evaluation", f"Delete {path} and run lst eval again.")
        if before["made_from"] == made_from:
            say(f"{name} is evaluated: nothing to do ({path})")
            if before.get("folder") != folder:
                # It was moved, or the result is of an earlier version.
                before["folder"] = folder
                write_json(path, versioned({**before}))
            return before
    scorer = Scorer.of(trained, config)
    headlines = headlines_of(card)
    directions: list[Direction] = [direction for direction in DIRECTIONS if direction in headlines]
    start_s = time.monotonic()
    items, left_out = usable_questions(scorer, benchmark.items, directions)
    if not items:
        raise ProblemsError(f"{name} can read no item", [f"{one['id']}: {one['reason']}" for one in left_out])
    for one in left_out:
        say(f"{name}: {one['id']} is left out: {one['reason']}")
    with Progress(len(items), f"evaluate {name}", unit="item") as progress:
        rows = score_items(scorer, items, progress.advance, directions)
    seconds = time.monotonic() - start_s
    say(f"{name}: {len(items):,} items in {seconds:,.1f} s, {len(items) / max(seconds, 1e-9):,.1f} items/s")
    controls = [] if benchmark.is_written else control_rows(sounds, "benchmark", items)
    chance = chance_of(items)
    samples = config.eval.bootstrap_samples, config.seed
    result: BenchmarkResult = {
        "made_from": made_from,
        "name": name,
        "benchmark": card["name"],
        "data": benchmark.fingerprint,
        "items": items_fingerprint(benchmark.items),
        "folder": folder,
        "weights_sha256": trained.weights_sha256,
        "seed": config.seed,
        "strategy": trained.strategy,
        "options": options,
        "num_parameters": trained.model.num_parameters,
        "chance": chance,
        "num_items": len(items),
        "left_out": left_out,
        "directions": direction_scores(rows, *samples, headlines, benchmark.question_of),
        "voices": _voice_scores(rows, benchmark, samples),
        "controls": control_scores(controls, sounds, *samples, chance) if controls else {},
    }
    write_jsonl(path.with_suffix(".items.jsonl"), [{**row} for row in rows])
    write_jsonl(path.with_suffix(".controls.jsonl"), [{**row} for row in controls])
    write_json(path, versioned({**result}))
    return result


def _voice_scores(
    rows: Sequence[ItemRow], benchmark: Benchmark, samples: tuple[int, int]
) -> dict[str, dict[str, DirectionScore]]:
    """Accuracies by voice, where several voices say each item."""
    if benchmark.card.get("num_voices", 1) == 1:
        return {}
    by_voice: dict[str, list[ItemRow]] = {}
    for row in rows:
        by_voice.setdefault(row["item"].rpartition("--")[2], []).append(row)
    headlines = headlines_of(benchmark.card)
    return {voice: direction_scores(own, *samples, headlines) for voice, own in by_voice.items()}


def chance_of(items: Sequence[Item]) -> float:
    """The accuracy of guessing."""
    return sum(1 / len(item.endings) for item in items) / len(items)


def results_as_text(card: BenchmarkCard, results: Mapping[str, BenchmarkResult]) -> str:
    """A line for each model and kind of items; then the controls."""
    first = next(iter(results.values()))
    headlines = headlines_of(card)
    width = max(map(len, [*results, "model"]))
    voices = {voice for result in results.values() for voice in result.get("voices", {})}
    kinds = max(map(len, [*card["strata"], *voices, "stratum"]))
    lines = [
        f"{card['name']}: {first['num_items']:,} items, {card['speech']}; chance is {100 * first['chance']:.3g}",
        named_scores(card),
        "accuracy, % (headline [95 % interval] / mean log-likelihood a token)",
        "  ".join(
            [f"{'model':<{width}}  {'stratum':<{kinds}}  items", *(f"{direction:>19}" for direction in headlines)]
        ),
    ]
    for name, result in results.items():
        for stratum, counted in next(iter(result["directions"].values()))["strata"].items():
            shown = [headline_cell(result["directions"][direction], stratum) for direction in headlines]
            lines.append("  ".join([f"{name:<{width}}  {stratum:<{kinds}}  {counted['num_items']:>5}", *shown]))
        for voice, directions in result.get("voices", {}).items():
            shown = [headline_cell(directions[direction], ALL) for direction in headlines]
            count = next(iter(directions.values()))["strata"][ALL]["num_items"]
            lines.append("  ".join([f"{name:<{width}}  {voice:<{kinds}}  {count:>5}", *shown]))
    lines += [
        f"{name}: {len(result['left_out'])} items are left out, each with its reason in its result"
        for name, result in results.items()
        if result["left_out"]
    ]
    controls = controls_as_text({"benchmark": first["controls"]}, first["chance"]) if first["controls"] else []
    return "\n".join(lines + controls)
