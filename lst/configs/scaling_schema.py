"""Options of ``lst scale``. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field

from lst.configs.schema import CONTROLS
from lst.data.config import EXECUTORS
from lst.model.config import FAMILY_DEPTHS
from lst.options import Options, option


@dataclass
class FitConfig(Options, prefix="fit."):
    """Options of the fit of a scaling law."""

    delta: float = option(1e-3, "threshold of the Huber loss on log loss, summed over the points", above=0)
    bootstrap_samples: int = option(400, "laws fitted to redrawn losses, for intervals", low=100, high=10_000)
    size: str = option(
        "N", "the column that N is: all parameters, or those without embeddings", choices=("N", "N_non_embedding")
    )
    base_arm: str | None = option(
        None, "arm that others are compared with; without, baseline, or the first of the table"
    )
    flops_factor: float = option(6.0, "FLOPs are this times N·D where the table has no column C", above=0)
    loss_unit: str | None = option(
        None, "unit of the losses, as plots name it; without, bits, or what lst scale fit was given", is_prose=True
    )


@dataclass
class GridConfig(Options, prefix="scale."):
    """The grid of models that ``lst scale plan`` plans: every size with every budget, arm and seed."""

    words: list[str] = option([], "options of lst train and lst eval that all models share, such as experiment=smoke")
    sizes: dict[str, list[str]] = option({}, "sizes: name and options of lst train")
    depths: list[int] = option(
        [],
        "depths of model=family, which the arms choose: each is a size, named d2, d3 and so on",
        low=FAMILY_DEPTHS[0],
        high=FAMILY_DEPTHS[1],
        is_later=True,
    )
    arms: dict[str, list[str]] = option(
        {},
        "what is compared: name and options of lst train, in which <size> stands for the size's name; the steps of all "
        "follow from the first",
    )
    budgets: list[float] = option([], "what each training spends, in the unit of scale.budget", above=0)
    budget: str = option(
        "steps",
        "unit of the budgets: steps of the first arm, its patches (compute), tokens (data) or flops",
        choices=CONTROLS,
    )
    control: str = option(
        "flops",
        "what the other arms have in common with the first arm of their size, budget and seed: steps, compute "
        "(patches), data (tokens) or flops",
        choices=CONTROLS,
    )
    seeds: list[int] = option([0], "seeds of weights and batches; held-out items are the same for all", low=0)
    branch: bool = option(
        False,
        "with train.schedule=wsd, train the largest budget of each size, arm and seed; the others branch off it",
        is_later=True,
    )
    max_hours: float = option(3.0, "a plan of more predicted core-hours is refused", above=0, unit="hours of one core")

    @property
    def all_sizes(self) -> dict[str, list[str]]:
        """Sizes and depths: name and options of ``lst train``."""
        return {**self.sizes, **{f"d{depth}": [f"model.depth={depth}"] for depth in self.depths}}


@dataclass
class ScalingConfig(Options):
    """All options of ``lst scale``."""

    points: str | None = option(
        None, "table of trained models, CSV or JSON, with the columns N, D and loss", path="file", url_allowed=True
    )
    out: str = option("runs/scaling", "folder of the plan, its models, points.csv, fit.json and plots", path="folder")
    seed: int = option(0, "seed of the bootstrap", low=0)
    data_dir: str | None = option(
        None, "prepared data of all models, a folder or a URL", path="folder", url_allowed=True
    )
    jobs: int | None = option(
        None,
        "models that train at the same time; without, one for each thread of the machine; 0: here, one by one",
        low=0,
    )
    threads: int | None = option(None, "threads of each training; without, OMP_NUM_THREADS, or 1", low=1)
    hours: float | None = option(
        None, "no model begins after so many hours; those that take least come first", above=0, unit="hours"
    )
    executor: str = option(
        "local",
        "what trains: local (processes here), or ray, whose nodes must see the folders out= and data_dir=",
        choices=EXECUTORS,
    )
    address: str | None = option(None, "Ray cluster (auto, ray://HOST:PORT); without, Ray is started here")
    slurm: str | None = option(None, "write a SLURM array script to this file and run nothing", path="file")
    cells: list[str] = option([], "train these models of the plan only")
    scale: GridConfig = field(default_factory=GridConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def rules(self) -> list[str]:
        """Ways of running the models that exclude one another."""
        if self.executor == "local":
            is_lost = self.address is not None
            return [f"address={self.address} is of a Ray cluster: add executor=ray, or leave it out"] if is_lost else []
        given = {"slurm": self.slurm is not None, "jobs": self.jobs == 0}
        return [
            f"{key}={getattr(self, key)}: no model would be trained on Ray; leave it out, or executor=ray"
            for key, is_given in given.items()
            if is_given
        ]
