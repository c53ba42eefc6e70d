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
class H3TextPlan(Options, prefix="h3_text."):
    """What ``lst reproduce h3_text`` trains and compares."""

    prepare: list[str] = option([], "options of lst prepare that make the data, but for text=")
    num_stories: int = option(24_000, "stories that are the text where text= names none", low=20, needs="text=null")
    common: list[str] = option([], "options of lst train that all models share")
    models: dict[str, list[str]] = option({}, "models by name, and options of lst train of each")
    rates: list[float] = option([1e-3, 2e-3, 4e-3], "learning rates, of which each model takes its best", above=0)
    sweep_share: float = option(0.25, "length of the trainings that choose the rate", above=0, high=1)
    seeds: list[int] = option([0, 1, 2], "seeds of the trainings that are compared", low=0)

    def rules(self) -> list[str]:
        """Every training has a name of its own."""
        return [
            f"h3_text.{name}={list(values)}: each may be there once"
            for name, values in (("rates", self.rates), ("seeds", self.seeds))
            if len(set(values)) != len(values) or not values
        ]


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
    text: str | None = option(
        None,
        "h3_text: file, folder, names with * or URL of the text; without, stories of this project",
        path="file or folder",
        url_allowed=True,
    )
    law: LawPlan = field(default_factory=LawPlan)
    lst: LstPlan = field(default_factory=LstPlan)
    h3: H3Plan = field(default_factory=H3Plan)
    h3_text: H3TextPlan = field(default_factory=H3TextPlan)
