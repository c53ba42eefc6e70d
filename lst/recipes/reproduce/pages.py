"""What the pages of all reproductions have: a table of what ran, and the models that are missing."""

from __future__ import annotations

from collections.abc import Sequence

from lst.recipes.reproduce.formats import Ran
from lst.recipes.scaling.page import ScalingSection
from lst.recipes.scaling.tables import Table


def ran_section(ran: Sequence[Ran]) -> ScalingSection:
    """What was trained of each grid, and which models are missing."""
    rows = [
        [one["grid"], f"{one['num_models']}", f"{one['num_finished']}", ", ".join(one["missing"]) or "none"]
        for one in ran
    ]
    return ScalingSection(
        "ran",
        "What ran",
        template="section.html",
        lead="Each model is a training of its own. The same command goes on with those that are missing.",
        tables=[Table("", ["grid", "models", "finished", "missing"], rows)],
    )
