"""The report's results: accuracies and bits, what the training cost, how it went, and single cloze items."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lst.data.documents import span_frames
from lst.data.utterance import Utterance
from lst.evaluation import DIRECTIONS
from lst.evaluation.cloze import ending_start, item_credits
from lst.recipes.report.page import (
    Html,
    Section,
    bold,
    caption,
    cell,
    code,
    colour_dot,
    element,
    figure,
    head,
    joined,
    paragraph,
    table,
)
from lst.recipes.report.plots import DIRECTION_NAMES, Curve, accuracy_plot, curves_plot, smoothing_window
from lst.recipes.report.record import ModelRecord, RunRecord

FEW_ITEMS = 200
NUM_SHOWN_ITEMS = 4
SHOWN_DIRECTIONS = ("T→T", "S→S")
NORMALISATION_NAMES = {"mean": "mean", "sum": "summed"}


def model_head(model: ModelRecord, small: str = "", **attributes: str) -> Html:
    return head(colour_dot(model.colour), model.name, small=small, scope="row", **attributes)


def results_section(run: RunRecord) -> Section:
    """Cloze accuracy in four directions and bits, as a table and as a plot."""
    results = run.results
    parts = [how_it_is_measured(run)]
    if waiting := [model.name for model in run.models if model.name not in results]:
        parts.append(
            paragraph(
                f"Trained but not evaluated: {', '.join(waiting)}. Run ",
                code(shlex.join(["lst", "eval", *run.overrides])),
                " and make the report again.",
                class_="note",
            )
        )
    if results:
        numbers = sorted({result["cloze"][d]["num_items"] for result in results.values() for d in DIRECTIONS})
        parts += [*_item_notes(numbers), results_table(run), _table_caption(run, numbers), _above_chance(run)]
        parts.append(
            figure(
                accuracy_plot(results, run.colours),
                bold("Accuracy by direction. "),
                "Filled dots: mean log-likelihood a token; hollow dots: summed. Lines are 95 % bootstrap intervals "
                "over the items; the dashed line is chance. Where two models' intervals overlap by much, their order "
                "is not known.",
            )
        )
    return Section("results", "Results", joined(*parts), run.badge)


def how_it_is_measured(run: RunRecord) -> Html:
    """What a cloze item is, and how its false ending is drawn."""
    options = run.config.eval
    return paragraph(
        "A ",
        bold("cloze item"),
        " is a held-out utterance with two endings: its own and a false one. A model is "
        "right when it gives the true ending the higher log-likelihood after the same context; chance is 50 %, and a "
        "tie counts ½. The context is everything before the last sentence or, where no sentences are known, the first "
        f"{100 * options.context_share:g} % of the words. The false ending is that of another held-out utterance, by "
        "the same speaker where there is one; each ending is the false one of one item (where no two are "
        "alike), drawn from the seed; all models and directions judge the same pairs. The true ending goes on in the "
        "same recording, the false one is spliced in, so S→S also rewards hearing the splice. Context → ending are "
        f"spoken (S: units of {run.speech}) or written (T). Shorter ones than {options.min_words} words make none.",
    )


def _item_notes(numbers: Sequence[int]) -> list[Html]:
    if len(numbers) > 1:
        return [
            paragraph(
                f"The models were evaluated on different numbers of items ({', '.join(map(str, numbers))}): their rows "
                "cannot be compared. Run lst eval once more for all of them.",
                class_="note",
            )
        ]
    if numbers[0] < FEW_ITEMS:
        return [
            paragraph(
                f"{numbers[0]} items are few: the intervals are wide, and small differences mean nothing.",
                class_="note",
            )
        ]
    return []


def results_table(run: RunRecord) -> Html:
    """Two rows a model: normalised by length, and summed."""
    models = run.evaluated
    header = [
        head("model"),
        head("score", class_="left"),
        *(head(direction, small=DIRECTION_NAMES[direction]) for direction in DIRECTIONS),
        head("bits a unit", small=run.speech),
        head("bits a byte", small="text"),
    ]
    best_accuracy = {
        (direction, normalisation): _best(
            [model.result["cloze"][direction][normalisation]["accuracy"] for model in models if model.result], max
        )
        for direction in DIRECTIONS
        for normalisation in NORMALISATION_NAMES
    }
    best_bits = {
        key: _best([model.result["bits"][key] for model in models if model.result], min)
        for key in ("bits_per_unit", "bits_per_byte")
    }
    if len(_units_read(run)) > 1:
        best_bits["bits_per_unit"] = None
    rows, classes = [], []
    for model in models:
        assert model.result is not None
        for normalisation, name in NORMALISATION_NAMES.items():
            row = [cell(name, class_="left")]
            for direction in DIRECTIONS:
                found = model.result["cloze"][direction][normalisation]
                is_best = found["accuracy"] == best_accuracy[direction, normalisation]
                interval = f"{100 * found['low']:.1f}–{100 * found['high']:.1f}"
                row.append(cell(f"{100 * found['accuracy']:.1f}", small=interval, class_="best" if is_best else ""))
            if normalisation == "mean":
                row = [model_head(model, model.patching_text, rowspan="2", class_="left"), *row]
                row += [
                    cell(
                        f"{model.result['bits'][key]:.3f}",
                        rowspan="2",
                        class_="best" if model.result["bits"][key] == best else "",
                    )
                    for key, best in best_bits.items()
                ]
            rows.append(row)
            classes.append("joined" if normalisation == "mean" else "")
    return table(header, rows, classes)


def _best(values: Sequence[float], choose: Callable[[Sequence[float]], float]) -> float | None:
    """The best of several values; None where there is nothing to choose."""
    return choose(values) if len(set(values)) > 1 else None


def _units_read(run: RunRecord) -> list[int]:
    """Units of held-out speech that models read, rising: fewer where repeated units are read once."""
    return sorted({result["bits"]["num_units"] for result in run.results.values()})


def _table_caption(run: RunRecord, numbers: Sequence[int]) -> Html:
    result = next(iter(run.results.values()))
    units = " or ".join(f"{count:,}" for count in _units_read(run))
    if len(_units_read(run)) > 1:
        units += " (where repeated units are read once, so that bits a unit of these and the others do not compare)"
    items = " or ".join(f"{number:,}" for number in numbers)
    return caption(
        bold(f"Cloze accuracy in %, {items} items a direction, "),
        f"with its 95 % bootstrap interval "
        f"({run.config.eval.bootstrap_samples:,} resamples of the items) below. “mean”: log-likelihood divided by the "
        "number of tokens (length-normalised); “summed”: not divided, which favours short endings. Bits (lower is "
        f"better) are over whole held-out utterances: {units} units of {run.speech}, "
        f"{result['bits']['num_bytes']:,} bytes of text. The best of each column and row kind is shaded; where all are "
        "equal, none is. Every model cuts speech as at inference: no patches or static ones.",
    )


def _above_chance(run: RunRecord) -> Html:
    lines = []
    for model in run.evaluated:
        assert model.result is not None
        above = [direction for direction in DIRECTIONS if model.result["cloze"][direction]["mean"]["low"] > 0.5]
        lines.append(element("li", bold(model.name), ": ", ", ".join(above) if above else "in no direction"))
    return joined(
        paragraph("Above chance, that is, with the whole interval of the length-normalised score above 50 %:"),
        element("ul", *lines),
    )


def cost_section(run: RunRecord) -> Section:
    """What each training used, and on what terms the models compare."""
    header = [
        head("model"),
        head("parameters"),
        head("steps"),
        head("slots", small="of patches"),
        head("patches", small="packing waste"),
        head("tokens", small="a patch"),
        head("speech tokens", small="share"),
        head("cut", small="documents"),
        head("FLOPs", small="training, analytic"),
    ]
    rows = []
    for model in run.models:
        cost = model.cost
        first = [model_head(model, model.patching_text, class_="left"), f"{model.num_parameters:,}"]
        if cost is None:
            rows.append(
                [*first, cell("metrics.jsonl is missing or empty: nothing is known", colspan="7", class_="left")]
            )
            continue
        rows.append(
            [
                *first,
                f"{cost['step']:,}",
                f"{cost['slots']:,}",
                cell(f"{cost['patches']:,}", small=f"{packing_waste(cost):.1%}"),
                cell(f"{cost['tokens']:,}", small=f"{cost['tokens'] / max(cost['patches'], 1):.2f}"),
                cell(f"{cost['speech_tokens']:,}", small=f"{cost['speech_tokens'] / max(cost['tokens'], 1):.1%}"),
                f"{cost['cut_documents']:,}",
                scientific(cost["training_flops"]),
            ]
        )
    text = caption(
        bold("What training used. "),
        "Slots are rows × patches a row, summed over the steps; packing waste is the "
        "share of slots that stayed empty, 1 − patches / slots. For a model without patches a patch is a token. "
        "Documents longer than a row come in pieces. FLOPs are counted from the model's shape, forward and backward "
        f"together, not measured. Speech tokens are units of {run.speech}"
        + (", or pieces of several units under speech BPE." if _has_pieces(run) else "."),
    )
    return Section("cost", "Cost", joined(_terms(run), table(header, rows), text), run.badge)


def _has_pieces(run: RunRecord) -> bool:
    return any(model.patching.strategy == "speech_bpe" for model in run.models)


def packing_waste(cost: dict[str, Any]) -> float:
    """Share of the patch slots that stayed empty."""
    return 1 - float(cost["patches"]) / max(float(cost["slots"]), 1.0)


def _terms(run: RunRecord) -> Html:
    """Whether the models saw equally many patches, as the comparison supposes."""
    slots = {model.name: model.cost["slots"] for model in run.models if model.cost}
    if len(slots) == 1:
        return paragraph("One model is trained: there is nothing to compare its cost with.")
    if len(set(slots.values())) > 1:
        listed = ", ".join(f"{name} {number:,}" for name, number in slots.items())
        return paragraph(
            f"These models were not trained on equally many patch slots ({listed}): a difference between them may come "
            "from that alone.",
            class_="note",
        )
    return paragraph(
        "The models are compared at equal steps × patches: their backbones take the same number of positions. "
        "A patch of speech holds several units, so the patched models see more tokens a patch, and hence "
        "more speech, for about the same backbone cost; their encoder and decoder come on top."
    )


def scientific(number: float) -> str:
    """``6.29 × 10⁸``."""
    if number <= 0:
        return "0"
    exponent = math.floor(math.log10(number))
    digits = f"{number / 10**exponent:.2f}"
    if digits == "10.00":
        digits, exponent = "1.00", exponent + 1
    return f"{digits} × 10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def curves_section(run: RunRecord) -> Section:
    """How loss and held-out bits fell."""
    curves = [curve for model in run.models if (curve := training_curve(model)) is not None]
    if not curves:
        content = paragraph("No training has left metrics: there are no curves.", class_="note")
        return Section("curves", "Learning curves", content)
    window = smoothing_window(max(len(curve.losses) for curve in curves))
    smoothed = f", pale, and its running mean over {window} steps" if window > 1 else ""
    content = figure(
        curves_plot(curves, run.colours),
        bold("Training over steps (above) and over training FLOPs (below). "),
        f"Left: the loss of each step{smoothed}. It is a mean over all tokens, and how many of them are speech differs "
        "between models, so compare models by the held-out curves. Middle and right: "
        f"bits a unit of held-out {run.speech} and bits a byte of held-out text, on the "
        f"{run.config.train.eval_utterances} utterances at most that are scored during training; lower is better. "
        "Which curve lies lower at the same place above compares at equal patches, below at equal computation.",
    )
    return Section("curves", "Learning curves", content, run.badge)


def training_curve(model: ModelRecord) -> Curve | None:
    """The curve of one model; None where its metrics are gone."""
    train = [row for row in model.metrics if "loss" in row]
    if not train:
        return None
    flops = {row["step"]: row["training_flops"] for row in train}
    valid = [row for row in model.metrics if "valid_bits_per_unit" in row and row["step"] in flops]
    return Curve(
        model.name,
        np.array([row["step"] for row in train], float),
        np.array([row["loss"] for row in train], float),
        np.array([row["training_flops"] for row in train], float),
        np.array([row["step"] for row in valid], float),
        np.array([flops[row["step"]] for row in valid], float),
        np.array([row["valid_bits_per_unit"] for row in valid], float),
        np.array([row["valid_bits_per_byte"] for row in valid], float),
    )


def cloze_section(run: RunRecord) -> Section:
    """A few items with what each model gave their endings."""
    utterances = {utterance.id: utterance for utterance in run.valid}
    scored = {model.name: {(row["direction"], row["utterance"]): row for row in model.items} for model in run.models}
    first = next((model for model in run.models if model.items), None)
    ids = [row["utterance"] for row in first.items if row["direction"] == SHOWN_DIRECTIONS[0]] if first else []
    if not ids:
        content = paragraph("No item is scored yet: run lst eval, then make the report again.", class_="note")
        return Section("items", "Cloze items", content)
    places = sorted(set(np.linspace(0, len(ids) - 1, NUM_SHOWN_ITEMS).round().astype(int).tolist()))
    shown = [_item(run, utterances, scored, ids[place]) for place in places]
    intro = paragraph(
        f"{len(places)} of {len(ids):,} items, evenly spaced in the list and not chosen by their outcome. Numbers are "
        "mean log-likelihoods in nats a token: the closer to 0, the likelier. A model is right where the true ending's "
        f"is higher. S→S is scored on units of {run.speech}.",
    )
    return Section("items", "Cloze items", joined(intro, *shown), run.badge)


def _item(
    run: RunRecord,
    utterances: dict[str, Utterance],
    scored: dict[str, dict[tuple[str, str], dict[str, Any]]],
    utterance_id: str,
) -> Html:
    rows, other_ids = [], set()
    for model in run.models:
        found = [scored[model.name].get((direction, utterance_id)) for direction in SHOWN_DIRECTIONS]
        other_ids |= {row["other"] for row in found if row}
        if any(found):
            rows.append([model_head(model, class_="left"), *(part for row in found for part in _scores(row))])
    other_id = sorted(other_ids)[0]
    if utterance_id not in utterances or other_id not in utterances or len(other_ids) > 1:
        text = f"Item {utterance_id}: the evaluation was made on other data than is here; run lst eval again."
        return element("div", paragraph(text), class_="item")
    own, other = utterances[utterance_id], utterances[other_id]
    own_start, other_start = (ending_start(u, run.config.eval.context_share) for u in (own, other))
    header = [
        head("model"),
        *(head(text, small=direction) for direction in SHOWN_DIRECTIONS for text in ("true", "false", "verdict")),
    ]
    note = Html("")
    if not _same_cut(own, own_start, next(iter(scored.values())).get(("S→S", utterance_id))):
        note = paragraph("Scored with another eval.context_share than this report was made with.", class_="tagged")
    texts = [
        ("context", _words(own, 0, own_start)),
        ("true ending", _words(own, own_start, len(own.words))),
        ("false ending", _words(other, other_start, len(other.words))),
    ]
    listed = [part for name, text in texts for part in (element("dt", name), element("dd", text))]
    source = paragraph(
        code(own.id), ", false ending of ", code(other.id), f", speaker {own.speaker or 'unknown'}", class_="tagged"
    )
    return element("div", element("dl", *listed, class_="endings"), table(header, rows), note, source, class_="item")


def _words(utterance: Utterance, first: int, last: int) -> str:
    return " ".join(word.text for word in utterance.words[first:last])


def _same_cut(utterance: Utterance, start: int, row: dict[str, Any] | None) -> bool:
    """Whether the spoken ending has as many units as were scored."""
    if row is None:
        return True
    first, last = span_frames(utterance, start, len(utterance.words))
    return bool(last - first == row["true_tokens"])


def _scores(row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return ["–", "–", "–"]
    true, false = (row[f"{kind}_nats"] / max(row[f"{kind}_tokens"], 1) for kind in ("true", "false"))
    verdict = {1.0: ("right", "yes"), 0.5: ("tie", ""), 0.0: ("wrong", "no")}[float(item_credits([row], "mean")[0])]
    return [signed(true), signed(false), cell(verdict[0], class_=verdict[1])]


def signed(number: float) -> str:
    """Two digits after the point, with a true minus sign."""
    return f"{number:.2f}".replace("-", "−")
