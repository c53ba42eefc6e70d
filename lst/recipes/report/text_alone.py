"""The page of a run whose data is text alone: perplexities and learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lst.evaluation.perplexity import TextResult, read_text_result
from lst.recipes.report.page import Section
from lst.recipes.report.plots import curves_plot
from lst.recipes.report.record import ModelRecord, RunRecord
from lst.recipes.report.results import training_curve


@dataclass(frozen=True, kw_only=True)
class PerplexitySection(Section):
    """What ``lst eval`` found of each model, by name; None before it."""

    results: Mapping[str, TextResult | None]


def perplexity_section(run: RunRecord) -> PerplexitySection:
    """Perplexity a token and a byte of each model, with intervals."""
    results = {model.name: text_result(run, model) for model in run.models}
    return PerplexitySection("perplexity", "Perplexity", results=results)


def text_result(run: RunRecord, model: ModelRecord) -> TextResult | None:
    """An evaluation on the held-out text; None if there is none, or if the model or the data was made anew since."""
    path = run.folder.eval_text(model.name)
    found = read_text_result(path) if path.exists() else None
    made_now = (model.weights_sha256, run.data.fingerprint)
    return found if found is not None and (found["weights_sha256"], found["data"]) == made_now else None


def text_curves_section(run: RunRecord) -> Section:
    """How loss and bits a byte of held-out text fell."""
    curves = [curve for model in run.models if (curve := training_curve(model)) is not None]
    plots = {"curves": curves_plot(curves, run.colours, of_speech=False)} if curves else {}
    return Section("curves", "Learning curves", plots=plots, template="text_curves.html")
