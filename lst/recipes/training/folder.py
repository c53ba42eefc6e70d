"""The folder of a training: the files that are there before its first step.

::

    FOLDER/settings.json    all that decides the weights: see ``lst.runs.formats``
    FOLDER/config.yaml      the whole configuration
    FOLDER/versions.json    package → version
    FOLDER/metrics.jsonl    see ``lst.runs.formats``
    FOLDER/checkpoints/     see ``lst.recipes.training.checkpoints``
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lst.configs.compose import to_yaml
from lst.recipes.training.checkpoints import SafeCheckpointIO, complete_checkpoints
from lst.runs.folder import versions
from lst.runs.formats import read_record, versioned
from lst.storage import differing_settings, write_json, write_text

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class TrainingFolder:
    """A training's folder.

    Attributes:
        path: where it is; it need not exist.
    """

    path: Path

    def conflicts(self, settings: Mapping[str, Any]) -> list[str]:
        """A line for each setting that differs from those the training was begun with."""
        path = self.path / "settings.json"
        if not path.exists():
            return []
        remedy = f"Delete {self.path} and train again."
        # Of the trainings of several kinds of models; the comparison names what a record lacks.
        before = read_record(path, dict[str, Any], "the record of the training's settings", remedy)
        return differing_settings(before, {**settings})

    def begin(self, settings: Mapping[str, Any], config: Any) -> None:
        """Writes settings, configuration and versions."""
        write_json(self.path / "settings.json", versioned(settings))
        write_text(self.path / "config.yaml", to_yaml(config))
        write_json(self.path / "versions.json", versions())

    @property
    def newest(self) -> Path | None:
        """The newest whole checkpoint, or None."""
        return next(reversed(complete_checkpoints(self.path / "checkpoints")), None)

    @property
    def steps_done(self) -> int:
        """Steps up to the newest whole checkpoint."""
        return int(self.newest.name.rpartition("-")[2]) if self.newest else 0

    def load_newest(self) -> tuple[Path | None, dict[str, Any]]:
        """The newest whole checkpoint and its state; None and nothing before the first."""
        return self.newest, SafeCheckpointIO().load_checkpoint(self.newest) if self.newest else {}
