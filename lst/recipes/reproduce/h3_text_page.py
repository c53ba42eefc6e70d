"""The page of ``lst reproduce h3_text``, and its summary for the terminal."""

from __future__ import annotations

from datetime import datetime, timezone

from lst.recipes.report.page import page
from lst.recipes.reproduce.formats import H3TextFile, TextPairRecord
from lst.recipes.scaling.formats import Interval
from lst.recipes.scaling.page import ScalingSection
from lst.recipes.scaling.tables import NONE, Table
from lst.storage import Folder, write_text

PAGE_FILE = "h3_text.html"


def write_h3_text_page(out: Folder, found: H3TextFile) -> None:
    """Writes the page."""
    sections = [_models_section(found), _pairs_section(found), _sweep_section(found)]
    html = page("lst.recipes.reproduce", PAGE_FILE, sections, found=found, written=datetime.now(timezone.utc))
    write_text(out / PAGE_FILE, html)


def summary(found: H3TextFile, numbers: Folder) -> str:
    """What the command prints."""
    missing = [f"not finished: {', '.join(found['missing'])}"] if found["missing"] else []
    parts = [models_table(found).text(), pairs_table(found).text(), order_text(found)]
    return "\n\n".join([*parts, *missing, f"page: {numbers.parent / PAGE_FILE}; numbers: {numbers}"])


def models_table(found: H3TextFile) -> Table:
    """A row a model, the least perplexity first."""
    header = ["model", "perplexity a token", "bits a byte", "of each seed", "rate", "parameters", "tokens", "FLOPs"]
    rows = [
        [
            one["model"],
            _interval(one["perplexity"], 2),
            f"{one['bits_per_byte']:.4f}",
            ", ".join(f"{value:.2f}" for value in one["by_seed"].values()),
            NONE if one["rate"] is None else f"{one['rate']:g}",
            f"{one['parameters']:,}",
            f"{one['tokens']:,}",
            f"{one['training_flops']:.3g}",
            NONE if one["published"] is None else f"{one['published']:g}",
        ]
        for one in sorted(found["models"], key=lambda one: one["perplexity"]["value"])
    ]
    return Table("", [*header, "published"], rows)


def pairs_table(found: H3TextFile) -> Table:
    """A row a pair of models: the ratio of their perplexities, and which is better, here and in the paper."""
    rows = [
        [
            f"{one['first']} / {one['second']}",
            _interval(one["ratio"], 3),
            f"{one['p_holm']:.2g}",
            one["better"] or "not separated",
            one["published_better"] or NONE,
            _agreement(one),
        ]
        for one in found["pairs"]
    ]
    return Table("", ["pair", "ratio of perplexities", "p (Holm)", "better here", "in the paper", "agree"], rows)


def order_text(found: H3TextFile) -> str:
    """One sentence: what is ordered, and how much of the paper's order that is."""
    if not found["pairs"]:
        return "No order: two models with all their seeds are needed."
    ordered = [one for one in found["pairs"] if one["better"]]
    published = [one for one in ordered if one["published_better"]]
    agree = [one for one in published if one["better"] == one["published_better"]]
    told = "; ".join(
        f"{one['better']} is better than {one['second'] if one['better'] == one['first'] else one['first']}"
        for one in ordered
    )
    return f"{len(ordered)} of {len(found['pairs'])} pairs are separated" + (
        f": {told}. {len(agree)} of these {len(published)} are as in the paper." if ordered else ": no order."
    )


def _agreement(one: TextPairRecord) -> str:
    if not (one["better"] and one["published_better"]):
        return NONE
    return "yes" if one["better"] == one["published_better"] else "no"


def _interval(found: Interval, digits: int) -> str:
    value = f"{found['value']:.{digits}f}"
    if found["low"] is None or found["high"] is None:
        return value
    return f"{value} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"


def _models_section(found: H3TextFile) -> ScalingSection:
    return ScalingSection(
        "models",
        "Perplexities",
        template="section.html",
        lead=f"Text: {found['corpus']}. All models have the same tokens and schedule, and equal parameters as far as "
        f"their widths allow. Perplexities are of {found['num_texts']:,} held-out texts, {found['num_tokens']:,} "
        f"tokens and {found['num_bytes']:,} bytes; 95 % intervals have seeds and texts as random. Published are those "
        "of models of 125 M parameters on OpenWebText (arXiv 2212.14052), with another tokenizer: compare their "
        "order, not their size.",
        tables=[models_table(found)],
        notes=[f"Not finished: {', '.join(found['missing'])}."] if found["missing"] else [],
    )


def _pairs_section(found: H3TextFile) -> ScalingSection:
    return ScalingSection(
        "order",
        "Order",
        template="section.html",
        lead="Perplexity of the first model over that of the second, on the same texts. A pair is ordered only where "
        "the whole interval, corrected for the number of pairs by Holm's method, leaves 1 out. " + order_text(found),
        tables=[pairs_table(found)] if found["pairs"] else [],
    )


def _sweep_section(found: H3TextFile) -> ScalingSection:
    rows = [
        [one["model"], f"{one['rate']:g}", f"{one['steps']:,}", f"{one['perplexity']:.2f}"] for one in found["sweep"]
    ]
    return ScalingSection(
        "sweep",
        "Learning rates",
        template="section.html",
        lead=f"Short trainings choose the rate of each model, on {found['num_choosing']:,} held-out texts that nothing "
        "else is measured on.",
        tables=[Table("", ["model", "rate", "steps", "perplexity a token"], rows)] if rows else [],
    )
