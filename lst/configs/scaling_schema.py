"""Options of ``lst scale fit`` and ``lst scale plot``. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field

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
class ScalingConfig(Options):
    """All options of ``lst scale fit`` and ``lst scale plot``."""

    points: str | None = option(
        None, "table of trained models, CSV or JSON, with the columns N, D and loss", path="file", url_allowed=True
    )
    out: str = option("runs/scaling", "folder of fit.json, tables and plots", path="folder")
    seed: int = option(0, "seed of the bootstrap", low=0)
    fit: FitConfig = field(default_factory=FitConfig)
