"""``lst eval``: scores of trained models on held-out utterances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lst.configs.schema import Config
from lst.evaluation import (
    DIRECTIONS,
    ClozeScore,
    EvalResult,
    Scorer,
    cloze_accuracies,
    cloze_items,
    held_out_bits,
    score_cloze,
)
from lst.evaluation.results import BITS_COLUMNS
from lst.progress import Progress, say
from lst.runs import RunFolder, TrainedModel, open_data, open_trained, require_models
from lst.runs.formats import read_record, versioned
from lst.storage import fingerprint, write_json, write_jsonl

# Raised when the same models and data would give other results.
VERSION = 3


def evaluate(config: Config) -> dict[str, EvalResult]:
    """Evaluates every trained model of the run. A model with an equal evaluation is not evaluated again.

    Returns:
        The result of each model by name, as in ``eval/NAME.json``.

    Raises:
        UserError: no model is trained, or a model's vocabulary is not that of the data.
    """
    run = RunFolder.of(config)
    names = require_models(run)
    data = open_data(config)
    return {name: evaluate_model(config, run, open_trained(run, name, data)) for name in names}


def evaluate_model(config: Config, run: RunFolder, trained: TrainedModel) -> EvalResult:
    """Cloze accuracies, bits a speech unit and bits a text byte of one model."""
    name, patching, weights_sha256 = trained.name, trained.patching, trained.weights_sha256
    options = asdict(config.eval)
    made_from = fingerprint(
        [
            VERSION,
            weights_sha256,
            patching.config.recorded(),
            trained.data.fingerprint,
            options,
            config.seed,
            *patching.hashes,
        ]
    )
    path = run.eval_result(name)
    if path.exists():
        before = read_record(path, EvalResult, "the evaluation", f"Delete {path} and run lst eval again.")
        if before.get("made_from") == made_from:
            say(f"{name} is evaluated: nothing to do ({path})")
            return before
    scorer = Scorer.of(trained, config)
    utterances = list(trained.data.valid)
    items = cloze_items(utterances, config.eval, config.seed)
    with Progress(len(items) * len(DIRECTIONS), f"evaluate {name}", unit="item") as progress:
        rows = score_cloze(scorer, items, progress.advance)
    result: EvalResult = {
        "made_from": made_from,
        "name": name,
        "weights_sha256": weights_sha256,
        "seed": config.seed,
        "strategy": trained.strategy,
        "options": options,
        "num_parameters": trained.model.num_parameters,
        "cloze": cloze_accuracies(rows, config.eval.bootstrap_samples, config.seed),
        "bits": held_out_bits(scorer, utterances),
    }
    write_jsonl(run.eval_items(name), [{**row} for row in rows])
    write_json(path, versioned(result))
    return result


def results_as_text(results: dict[str, EvalResult]) -> str:
    """A line for each model: accuracies in per cent, by mean and by sum, and bits."""
    first = next(iter(results.values()))
    num_items = first["cloze"][DIRECTIONS[0]]["num_items"]
    width = max(map(len, [*results, "model"]))
    header = "  ".join(
        [f"{'model':<{width}}", *(f"{direction:>17}" for direction in DIRECTIONS)]
        + [f"{column.short:>10}" for column in BITS_COLUMNS.values()]
    )
    lines = [
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
    counts = {name: result["bits"]["num_units"] for name, result in results.items()}
    if len(set(counts.values())) > 1:
        once = ", ".join(name for name, count in counts.items() if count < max(counts.values()))
        lines.append(
            f"bits/unit of {once} are of units read once (patching.deduplicate=true): these and others do not compare"
        )
    return "\n".join(lines)


def cloze_cell(cell: ClozeScore) -> str:
    """``61.2 [55–67]/58.0``: accuracy by mean log-likelihood with its interval, then accuracy by sum."""
    mean, total = cell["mean"], cell["sum"]
    return (
        f"{100 * mean['accuracy']:.1f} [{100 * mean['low']:.0f}–{100 * mean['high']:.0f}]/{100 * total['accuracy']:.1f}"
    )
