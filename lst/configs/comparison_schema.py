"""Options of ``lst runs`` and ``lst compare``. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from lst.options import Options, option


@dataclass
class ComparisonConfig(Options):
    """All options of ``lst runs`` and ``lst compare``."""

    runs: list[str] = option(
        [],
        "folders, a word each: runs or single models of them (RUN/models/NAME); lst runs list looks below any folder",
        path="folder",
    )
    out: str | None = option(
        None,
        "file that is written: the page of lst compare, with its numbers as JSON beside it; JSON of lst runs",
        path="file",
    )
    json: bool = option(False, "print JSON in place of a table")
    base: str | None = option(
        None, "model that the others are compared with, MODEL or RUN/MODEL; without, the first one without patches"
    )
    num_items: int = option(12, "items to read and listen to, drawn from the seed", low=0)
    bootstrap_samples: int = option(2000, "resamples for the 95 % intervals of differences", low=100)
    seed: int = option(0, "seed of the resampling and of the items that are shown", low=0)
