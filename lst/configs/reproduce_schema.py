"""Options of ``lst reproduce``. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field

from lst.options import Options, option


@dataclass
class LawPlan(Options, prefix="law."):
    """What ``lst reproduce law`` trains."""

    prepare: list[str] = option([], "options of lst prepare that make the data")
    grids: dict[str, list[str]] = option({}, "grids that the law is fitted to: names, and options of lst scale of each")
    repeated: dict[str, list[str]] = option(
        {}, "grids on stories that repeat, which are compared with the others at equal size and budget"
    )


@dataclass
class LstPlan(Options, prefix="lst."):
    """What ``lst reproduce lst`` trains and compares."""

    prepare: list[str] = option([], "options of lst prepare that make the data and its questions")
    grids: dict[str, list[str]] = option(
        {}, "grids, each with its own control: names, and options of lst scale of each"
    )


@dataclass
class H3Plan(Options, prefix="h3."):
    """What ``lst reproduce h3`` trains."""

    trainings: dict[str, list[str]] = option({}, "names, and options of lst synthetic of each")


@dataclass
class ReproduceConfig(Options):
    """All options of ``lst reproduce``."""

    out: str = option("runs/reproduce", "folder of the data, the models, the page and its JSON", path="folder")
    seed: int = option(0, "seed of intervals; those of trainings are in the plans", low=0)
    jobs: int | None = option(
        None,
        "models that train at the same time; without, one for each thread of the machine; 0: here, one by one",
        low=0,
    )
    threads: int | None = option(None, "threads of each training; without, OMP_NUM_THREADS, or 1", low=1)
    hours: float | None = option(
        None, "no model begins after so many hours; the page says which ones are missing", above=0, unit="hours"
    )
    page_only: bool = option(False, "train nothing: write the page of what is finished")
    law: LawPlan = field(default_factory=LawPlan)
    lst: LstPlan = field(default_factory=LstPlan)
    h3: H3Plan = field(default_factory=H3Plan)
