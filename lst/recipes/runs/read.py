"""Finds the folders of trainings, and reads what one of them says. Faults are collected, never raised."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lst.data.shards import INDEX_FILE
from lst.errors import LstError
from lst.evaluation.accuracy import ALL, headline_accuracy
from lst.evaluation.perplexity import TextResult, read_text_result
from lst.evaluation.results import EvalResult, read_result
from lst.model.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from lst.model.hashes import HASHES_FILE, ModelHashes
from lst.model.pretrained import read_model_config
from lst.recipes.runs.formats import FolderProblem, ModelLine
from lst.runs import RunFolder
from lst.runs.formats import LanguageModelRow, TrainingSettings, ValidationRow, read_record
from lst.runs.versions import code_version
from lst.storage import FormatError, flat_settings, parse_json, read_json, read_range, size
from lst.storage.locks import is_held
from lst.storage.tensors import read_header

MODELS = "models"
# Folders of a run that hold no other runs.
_INNER = {MODELS, "data", "eval", "logs", "multirun"}
# The end of metrics.jsonl that is read: thousands of steps.
TAIL_BYTES = 1 << 20
# A training's folder has one of these.
_MARKS = ("settings.json", "metrics.jsonl", "final")
_NAMED = ", ".join(_MARKS)
T = TypeVar("T")
LastRows = tuple[LanguageModelRow | None, ValidationRow | None]


def found_models(top: Path) -> Iterator[tuple[Path, str] | FolderProblem]:
    """Run and name of every training in and below a folder, in order; links are not followed.

    Folders that look like runs without models, and folders that cannot be read, come as problems.
    """
    faults: list[OSError] = []
    for place, folders, files in os.walk(top, onerror=faults.append):
        folder = Path(place)
        names = _children(folder / MODELS) if MODELS in folders else []
        for name in names:
            if is_training(folder / MODELS / name):
                yield folder, name
            else:
                yield {"folder": str(folder / MODELS / name), "problem": f"is no model: it has none of {_NAMED}"}
        if not names and (MODELS in folders or "commands.json" in files or (folder / "data" / INDEX_FILE).exists()):
            yield {"folder": str(folder), "problem": "no model is trained here yet"}
        folders[:] = sorted(name for name in folders if name not in _INNER and not name.startswith("."))
        while faults:
            yield {"folder": str(faults[0].filename), "problem": f"cannot be read ({faults.pop(0).strerror})"}


def is_training(folder: Path) -> bool:
    """Whether a folder looks like that of a training."""
    return any((folder / name).exists() for name in _MARKS)


def _children(folder: Path) -> list[str]:
    """Names of the folders directly in a folder; none where it cannot be read."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[:1] != ".")
    except OSError:
        return []


@dataclass
class ReadModel:
    """What the folder of a training says.

    Attributes:
        run: its run.
        name: within the run.
        problems: what could not be read.
    """

    run: RunFolder
    name: str
    problems: list[str] = field(default_factory=list)

    def tried(self, read: Callable[[], T], default: T) -> T:
        """What ``read`` returns; where it fails, ``default``, and the reason among the problems."""
        try:
            return read()
        except (LstError, OSError, ValueError) as error:
            self.problems.append(str(error))
            return default

    def settings(self) -> TrainingSettings | None:
        """The record of its settings; None where there is none."""
        path = self.run.model(self.name) / "settings.json"
        return self.tried(lambda: read_record(path, TrainingSettings, "the record of settings", ""), None)

    def versions(self) -> dict[str, str]:
        """Versions of packages that it was trained with."""
        path = self.run.model(self.name) / "versions.json"
        return self.tried(lambda: read_json(path, dict[str, str], "the record of versions", ""), {})

    def last_rows(self) -> LastRows:
        """The last step and the last validation of its metrics; None before the first."""
        none: LastRows = (None, None)
        return self.tried(lambda: last_rows(self.run.model(self.name) / "metrics.jsonl"), none)

    def num_parameters(self) -> int | None:
        """Of the final model; None where it is not whole."""
        final = self.run.final(self.name)

        def read() -> int:
            read_model_config(final / CONFIG_FILE)
            return read_header(final / WEIGHTS_FILE, "the model's weights are", "").num_elements

        return self.tried(read, None)

    def weights_sha256(self) -> str:
        """As the final model's own record has it; empty without one."""
        path = self.run.final(self.name) / HASHES_FILE
        if not path.exists():
            return ""
        hashes = self.tried(lambda: read_json(path, ModelHashes, "the record of hashes", ""), None)
        return hashes["files"].get(WEIGHTS_FILE, "") if hashes else ""

    def result(self, weights_sha256: str) -> EvalResult | None:
        """Its evaluation on the data of the run; None where there is none of these weights."""
        path = self.run.eval_result(self.name)
        result = self.tried(lambda: read_result(path), None) if path.exists() else None
        if result is not None and weights_sha256 not in ("", result["weights_sha256"]):
            self.problems.append(f"{path} is of other weights: run lst eval again")
            return None
        return result

    def text_scores(self, weights_sha256: str) -> TextResult | None:
        """Its evaluation on text alone; None where there is none of these weights."""
        path = self.run.eval_text(self.name)
        result = self.tried(lambda: read_text_result(path), None) if path.exists() else None
        return None if result is None or weights_sha256 not in ("", result["weights_sha256"]) else result


def last_rows(path: Path) -> LastRows:
    """The last row of steps and of validations in the last ``TAIL_BYTES`` of ``metrics.jsonl``.

    Raises:
        FormatError: a row is damaged. A last row without a line break is being written.
    """
    if not path.exists():
        return None, None
    num_bytes = size(path)
    lines = read_range(path, max(0, num_bytes - TAIL_BYTES), TAIL_BYTES).split(b"\n")[:-1]
    # The first line of a part of the file is a part of a line.
    lines = lines[num_bytes > TAIL_BYTES :]
    step: LanguageModelRow | None = None
    validation: ValidationRow | None = None
    kind: Any = LanguageModelRow | ValidationRow
    for line in filter(None, reversed(lines)):
        try:
            row = parse_json(line, kind)
        except FormatError as error:
            raise FormatError(f"{path} {error}") from None
        if "loss" in row:
            step = step or row
        else:
            validation = validation or row
        if step and validation:
            break
    return step, validation


def read_model(run: Path, name: str) -> ModelLine:
    """All that is listed of a training."""
    model = ReadModel(RunFolder(run), name)
    folder = model.run.model(name)
    settings, versions, (step, validation) = model.settings(), model.versions(), model.last_rows()
    is_finished = (model.run.final(name) / CONFIG_FILE).exists()
    num_parameters = model.num_parameters() if is_finished else None
    weights_sha256 = model.weights_sha256() if is_finished else ""
    result = model.result(weights_sha256) if is_finished else None
    on_text = model.text_scores(weights_sha256) if is_finished and result is None else None
    bits: Any = result["bits"] if result else {}
    if on_text is not None:
        bits = {"bits_per_byte": on_text["bits_per_byte"]["value"]}
    trained: Any = validation or {}
    options = flat_settings({**settings}) if settings else {}
    return {
        "run": str(run),
        "name": name,
        "state": _state(folder, is_finished, num_parameters is not None),
        "strategy": str(options.get("patching.strategy", "")),
        "seed": settings["seed"] if settings else None,
        "num_parameters": num_parameters,
        "steps": step["step"] if step else None,
        "max_steps": steps if isinstance(steps := options.get("train.max_steps"), int) else None,
        "tokens": step["tokens"] if step else None,
        "training_flops": step["training_flops"] if step else None,
        "loss": step["loss"] if step else None,
        "bits_per_unit": bits.get("bits_per_unit", trained.get("valid_bits_per_unit")),
        "bits_per_byte": bits.get("bits_per_byte", trained.get("valid_bits_per_byte")),
        "is_evaluated": result is not None or on_text is not None,
        "asked": ""
        if result is None
        else "questions"
        if result.get("questions")
        else "cloze"
        if result["cloze"]
        else "",
        "accuracy": accuracies_of(result) if result else {},
        "data": settings["data"] if settings else "",
        "code": code_version(versions),
        "weights_sha256": weights_sha256,
        "problems": model.problems,
    }


def _state(folder: Path, is_finished: bool, is_whole: bool) -> Any:
    if is_held(folder):
        return "running"
    if is_finished:
        return "finished" if is_whole else "damaged"
    return "stopped"


def accuracies_of(result: EvalResult) -> dict[str, float]:
    """Accuracy by direction: of all questions by the headline score, else of cloze items by the mean a token."""
    asked = result.get("questions")
    if not asked:
        return {direction: score["mean"]["accuracy"] for direction, score in result["cloze"].items()}
    return {direction: headline_accuracy(score, ALL)["accuracy"] for direction, score in asked.items()}
