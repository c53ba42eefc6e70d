"""Evaluates trained models on held-out utterances: what ``lst eval`` runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.evaluation import DIRECTIONS, cloze_accuracies, cloze_items, held_out_bits, score_cloze
from lst.model.checkpoint import WEIGHTS_FILE, load_model
from lst.model.patching import inference_strategy
from lst.progress import Progress, say
from lst.runs import RunFolder, load_patching, open_data, require_models
from lst.storage import fingerprint, read_json, sha256, write_json, write_jsonl
from lst.tokenizers.vocabulary import Vocabulary, check_same_vocabulary

# Raised when the same models and data would give other results.
VERSION = 3


def evaluate(config: Config) -> dict[str, dict[str, Any]]:
    """Evaluates every trained model of the run; a model that was evaluated alike before is not evaluated again.

    Returns:
        The result of each model by name, as in ``eval/NAME.json``.

    Raises:
        UserError: no model is trained, or a model's vocabulary is not the data's.
    """
    run = RunFolder.of(config)
    names = require_models(run)
    data = open_data(config)
    return {name: evaluate_model(config, run, data, name) for name in names}


def evaluate_model(config: Config, run: RunFolder, data: PreparedData, name: str) -> dict[str, Any]:
    """Cloze accuracies, bits a speech unit and bits a text byte of one model."""
    model, patching, vocabulary = load_model(run.final(name))
    fitted = load_patching(run.final(name), patching, data)
    check_same_vocabulary(
        fitted.vocabulary, Vocabulary.from_dict(vocabulary, str(run.final(name))), "the prepared data", f"model {name}"
    )
    weights_sha256 = sha256(run.final(name) / WEIGHTS_FILE)
    made_from = fingerprint(
        [VERSION, weights_sha256, asdict(patching), data.fingerprint, asdict(config.eval), config.seed, *fitted.hashes]
    )
    path = run.eval_result(name)
    if path.exists():
        before: dict[str, Any] = read_json(
            path, dict[str, Any], "the evaluation", f"Delete {path} and run lst eval again."
        )
        if before.get("made_from") == made_from:
            say(f"{name} is evaluated: nothing to do ({path})")
            return before
    strategy = inference_strategy(patching)
    builder = fitted.builder(config, data)
    utterances = list(data.valid)
    items = cloze_items(utterances, config.eval, config.seed)
    with Progress(len(items) * len(DIRECTIONS), f"evaluate {name}", unit="item") as progress:
        rows = score_cloze(
            model,
            builder,
            items,
            patching,
            strategy,
            config.train.row_patches,
            config.eval.rows_a_batch,
            progress.advance,
        )
    result = {
        "made_from": made_from,
        "name": name,
        "weights_sha256": weights_sha256,
        "seed": config.seed,
        "strategy": strategy,
        "options": asdict(config.eval),
        "num_parameters": model.num_parameters,
        "cloze": cloze_accuracies(rows, config.eval.bootstrap_samples, config.seed),
        "bits": held_out_bits(model, builder, utterances, patching, strategy, config),
    }
    write_jsonl(run.root / "eval" / f"{name}.items.jsonl", rows)
    write_json(path, result)
    return result


def results_as_text(results: dict[str, dict[str, Any]]) -> str:
    """A line a model: accuracies in per cent, length-normalised and summed, and bits."""
    first = next(iter(results.values()))
    num_items = first["cloze"][DIRECTIONS[0]]["num_items"]
    width = max(map(len, [*results, "model"]))
    header = (
        f"{'model':<{width}}  " + "  ".join(f"{direction:>17}" for direction in DIRECTIONS) + "   bits/unit  bits/byte"
    )
    lines = [
        f"cloze accuracy, % (mean log-likelihood a token [95 % interval] / summed), {num_items} items; chance is 50",
        header,
    ]
    for name, result in results.items():
        cells = [cloze_cell(result["cloze"][direction]) for direction in DIRECTIONS]
        bits = result["bits"]
        lines.append(
            f"{name:<{width}}  "
            + "  ".join(f"{cell:>17}" for cell in cells)
            + f"   {bits['bits_per_unit']:>9.3f}  {bits['bits_per_byte']:>9.3f}"
        )
    counts = {name: result["bits"]["num_units"] for name, result in results.items()}
    if len(set(counts.values())) > 1:
        once = ", ".join(name for name, count in counts.items() if count < max(counts.values()))
        lines.append(
            f"bits/unit of {once} are of units read once (patching.deduplicate=true): these and others do not compare"
        )
    return "\n".join(lines)


def cloze_cell(cell: dict[str, Any]) -> str:
    """``61.2 [55–67]/58.0``: mean-normalised accuracy with its interval, then the summed one."""
    mean, total = cell["mean"], cell["sum"]
    return (
        f"{100 * mean['accuracy']:.1f} [{100 * mean['low']:.0f}–{100 * mean['high']:.0f}]/{100 * total['accuracy']:.1f}"
    )
