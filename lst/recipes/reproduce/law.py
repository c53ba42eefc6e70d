"""``lst reproduce law``: the scaling law of simulated speech, whose floor is known.

::

    out/run/                       prepared stories
    out/GRID/                      plan and models of each grid, as lst scale run leaves them
    out/entropy.json               what the best listener pays for the held-out stories
    out/points.csv, out/fit/       the law, as lst scale fit writes it
    out/law.json, law.html, *.svg  the page, and its numbers; written last
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lst.configs.reproduce_schema import ReproduceConfig
from lst.configs.scaling_schema import FitConfig, ScalingConfig
from lst.data.prepared import PreparedData
from lst.errors import LstError, UserError
from lst.recipes.reproduce.floor import floor_checks, known_entropy
from lst.recipes.reproduce.formats import KnownEntropy, LawFile, LawRecord
from lst.recipes.reproduce.grids import (
    Grid,
    dry_run,
    grids_of,
    prepare_data,
    raise_failures,
    train_grids,
    trained_models,
    what_ran,
)
from lst.recipes.reproduce.law_page import law_as_text, write_law_page
from lst.recipes.reproduce.repetition import repetition_records
from lst.recipes.scaling.fit import FIT_FILE, scale_fit
from lst.recipes.scaling.formats import FitFile, FitRecord
from lst.recipes.scaling.points import write_points
from lst.storage import read_json, sha256, write_json

LAW_FILE = "law.json"


def law(config: ReproduceConfig) -> str:
    """Trains what is not trained, and writes the page of what there is; returns a summary.

    Raises:
        UserError: the plan is wrong, or models have failed; the page has all others.
    """
    fresh = grids_of(config, config.law.grids)
    repeated = grids_of(config, config.law.repeated) if config.law.repeated else []
    data = prepare_data(config, config.law.prepare)
    out = Path(config.out)
    known = known_entropy(data, out / "entropy.json")
    failed = [] if config.page_only else train_grids(config, [*fresh, *repeated])
    found, fits = _measured(config, data, known, fresh, repeated)
    write_law_page(out, found, fits)
    write_json(out / LAW_FILE, found)
    raise_failures(failed)
    return f"{law_as_text(found)}\n\npage: {out / 'law.html'}; numbers: {out / LAW_FILE}"


def law_plan(config: ReproduceConfig) -> list[str]:
    """The plan of ``lst reproduce law``, as lines of text."""
    return dry_run(config, config.law.prepare, {**config.law.grids, **config.law.repeated})


def _measured(
    config: ReproduceConfig, data: PreparedData, known: KnownEntropy, fresh: Sequence[Grid], repeated: Sequence[Grid]
) -> tuple[LawFile, FitFile | None]:
    """All numbers of what is finished, and the fit behind them; None where no law can be fitted."""
    models = trained_models([*fresh, *repeated])
    names = {grid.name for grid in fresh}
    rows = [_losses(one.row) for one in models if one.point is not None and one.grid in names]
    fits, why_not = _fitted(config, rows)
    records = fits["fits"] if fits else []
    noise = {fit["arm"]: fit["noise"]["used_sd"] for fit in records if fit["loss"] == "speech_bits"}
    heard = [one.row for one in models if one.point is not None and one.grid not in names]
    units_a_pass = sum(utterance.num_frames for utterance in data.train)
    found = LawFile(
        version=1,
        ran=what_ran(models),
        known=known,
        why_no_law=why_not,
        floors=floor_checks(records, known),
        laws=[_law_record(fit) for fit in records],
        gains=fits["gains"] if fits else [],
        repetition=repetition_records(rows, heard, units_a_pass, noise, config.seed),
        points=rows,
    )
    return found, fits


def _fitted(config: ReproduceConfig, rows: Sequence[dict[str, str | float]]) -> tuple[FitFile | None, str]:
    """The fit of ``lst scale fit``; or none, and why. A table that has one is not fitted again."""
    out = Path(config.out)
    if not rows:
        return None, "no model is finished"
    write_points(out / "points.csv", rows)
    options = FitConfig(base_arm=str(rows[0]["arm"]), loss_unit="bits")
    scaling = ScalingConfig(points=str(out / "points.csv"), out=str(out / "fit"), seed=config.seed, fit=options)
    try:
        if not _is_fitted(scaling):
            scale_fit(scaling)
    except UserError as error:
        return None, " ".join(str(error).split())
    return read_json(out / "fit" / FIT_FILE, FitFile, "the fit", "Delete it."), ""


def _is_fitted(config: ScalingConfig) -> bool:
    """Whether there is a fit of this very table and of the same draws."""
    try:
        found = read_json(Path(config.out) / FIT_FILE, FitFile, "the fit", "")
    except LstError:
        return False
    drawn = (found["seed"], found["bootstrap_samples"])
    is_same_table = found["points_sha256"] == sha256(Path(str(config.points)))
    return is_same_table and drawn == (config.seed, config.fit.bootstrap_samples)


def _losses(row: Mapping[str, str | float]) -> dict[str, str | float]:
    """A row without accuracies: the few items of these evaluations tell nothing."""
    return {name: value for name, value in row.items() if "/" not in name}


def _law_record(fit: FitRecord) -> LawRecord:
    return LawRecord(
        arm=fit["arm"],
        loss=fit["loss"],
        num_points=fit["num_points"],
        E=fit["E"],
        A=fit["A"],
        B=fit["B"],
        alpha=fit["alpha"],
        beta=fit["beta"],
        a=fit["frontier"]["a"],
        b=fit["frontier"]["b"],
        flags=fit["flags"],
    )
