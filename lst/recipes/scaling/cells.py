"""Trains and evaluates models of a plan in this process: a cell's lock ─▶ train ─▶ evaluate ─▶ point.json."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from lst.configs.scaling_schema import ScalingConfig
from lst.configs.schema import Config
from lst.errors import LstError, StoppedError, StorageError, UserError, printable
from lst.evaluation.accuracy import headline_accuracy
from lst.evaluation.results import EvalResult
from lst.evaluation.sounds import PartSounds
from lst.progress import say
from lst.recipes.evaluate import evaluate_model
from lst.recipes.scaling.branches import with_branch
from lst.recipes.scaling.grid import Cell, cell_fingerprint, grid_cells
from lst.recipes.scaling.plan import open_data_of
from lst.recipes.scaling.plan_file import CellRecord, PointFile, cell_folder, fitted_folder, point_path
from lst.recipes.scaling.points import NAMES
from lst.recipes.training.train import train
from lst.runs import RunFolder, open_trained
from lst.runs.fitted_patching import hand_over
from lst.storage import clear_partial_files, read_json, write_json
from lst.storage.locks import HeldError, folder_lock

_REMEDY = "or train other models with cells=[NAME]"


def finished(config: ScalingConfig, cell: CellRecord) -> PointFile | None:
    """The point of a cell; None before it is finished."""
    place = point_path(config, cell["name"])
    if not place.exists():
        return None
    point = read_json(place, PointFile, "the point of a model", f"Delete {place}.")
    if wrong := _row_problems(point["row"]):
        raise UserError(f"the point of a model is damaged: {place}: {'; '.join(wrong[:3])}. Delete {place}.")
    return point if point["made_from"] == cell["made_from"] else None


def _row_problems(row: Mapping[str, str | float]) -> list[str]:
    """What no row of a model is: without its names and sizes, or with texts where numbers are needed."""
    needed = ("arm", "size", "seed", "strategy", "N", "N_non_embedding", "D", "D_units", "D_text_bytes", "C")
    found = [f"row.{name} is missing" for name in needed if name not in row]
    return found + [
        f"row.{printable(name[:60])} must be a number, not {value[:60]!r}"
        for name, value in row.items()
        if isinstance(value, str) and name not in NAMES
    ]


def deadline(config: ScalingConfig, chosen: Sequence[CellRecord]) -> tuple[float, Sequence[CellRecord]]:
    """The monotonic time after which no model begins, and the order of models: with such a time, the cheapest first.

    Those that branch off others keep their order.
    """
    if config.hours is None:
        return math.inf, chosen
    order = chosen if config.scale.branch else sorted(chosen, key=lambda cell: cell["core_hours"])
    return time.monotonic() + 3600 * config.hours, order


def run_here(config: ScalingConfig, steps: Mapping[str, int], chosen: Sequence[CellRecord]) -> dict[str, str]:
    """Trains and evaluates here the models that no other process holds; returns the reasons of failures by name."""
    cells = {cell.name: cell for cell in grid_cells(config)}
    failed: dict[str, str] = {}
    end_s, order = deadline(config, chosen)
    for record in order:
        if time.monotonic() >= end_s:
            break
        try:
            with folder_lock(cell_folder(config, record["name"]), work="trained", remedy=_REMEDY):
                if finished(config, record) is None:
                    own = with_branch(config, record, steps, [*cells.values()])
                    _run_cell(config, cells[record["name"]], record, own)
        except HeldError as error:
            say(f"{record['name']} is left to its process: {error}")
        except (StoppedError, StorageError):
            raise
        except LstError as error:
            # The driver of a child takes its last line for the reason.
            if len(chosen) == 1:
                raise
            failed[record["name"]] = " ".join(str(error).split())
            say(f"{record['name']} has failed: {failed[record['name']]}")
    return failed


def _run_cell(config: ScalingConfig, cell: Cell, record: CellRecord, own: Config) -> None:
    """Trains and evaluates one model; its point comes last."""
    data = open_data_of(config)
    if cell_fingerprint(own, data) != record["made_from"]:
        raise UserError(
            f"{cell.name}: its options have changed since the plan was made: plan again with lst scale plan"
        )
    run = RunFolder.of(own)
    hand_over(own, data, fitted_folder(config), run.model(own.name))
    train(own)
    clear_partial_files(run.root, run.eval_result(own.name).parent)
    trained = open_trained(run, own.name, data, own.verify_models)
    result = evaluate_model(cell.config(record["steps"], is_evaluation=True), run, trained, PartSounds(data))
    point = PointFile(version=1, made_from=record["made_from"], row=_row(record, result))
    write_json(point_path(config, cell.name), point)


def _row(cell: CellRecord, result: EvalResult) -> dict[str, str | float]:
    """A row of ``points.csv``."""
    row: dict[str, str | float] = {
        "arm": cell["arm"],
        "size": cell["size"],
        "seed": cell["seed"],
        "strategy": cell["strategy"],
        "N": cell["N"],
        "N_non_embedding": cell["N_non_embedding"],
        "D": cell["units"] + cell["text_bytes"],
        "D_units": cell["units"],
        "D_text_bytes": cell["text_bytes"],
        "C": cell["flops"],
        "speech_bits": result["bits"]["bits_per_unit"],
    }
    if (bits_per_byte := result["bits"]["bits_per_byte"]) is not None:
        row["text_bits"] = bits_per_byte
    for direction, cloze in result["cloze"].items():
        row |= _share(f"{direction}/cloze", cloze["mean"]["accuracy"], cloze["num_items"])
    for direction, score in result.get("questions", {}).items():
        for stratum, found in score["strata"].items():
            headline = headline_accuracy(score, stratum)["accuracy"]
            row |= _share(f"{direction}/{stratum}", headline, found["num_items"])
    return row


def _share(of: str, accuracy: float, num_items: int) -> dict[str, float]:
    return {f"accuracy/{of}": accuracy, f"items/{of}": num_items}
