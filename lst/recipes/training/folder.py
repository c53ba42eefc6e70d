"""The folder of a training: the files that are there before its first step.

::

    FOLDER/settings.json    all that decides the weights: see ``lst.runs.formats``
    FOLDER/config.yaml      the whole configuration
    FOLDER/versions.json    package → version
    FOLDER/metrics.jsonl    see ``lst.runs.formats``
    FOLDER/speed.jsonl      see ``lst.recipes.training.watch``
    FOLDER/samples.jsonl    see ``lst.recipes.training.held_out``
    FOLDER/tensorboard/     the numbers and texts of all three
    FOLDER/checkpoints/     see ``lst.recipes.training.checkpoints``
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lst.configs.compose import to_yaml
from lst.errors import UserError
from lst.parallel import ALONE, Ranks
from lst.progress import say
from lst.recipes.training.checkpoints import (
    Checkpoint,
    DamagedCheckpointError,
    clear_unfinished,
    complete_checkpoints,
    read_checkpoint,
    step_of,
)
from lst.runs.fitted_patching import UNIT_MODEL_FOLDER
from lst.runs.formats import Format, read_record, versioned
from lst.runs.versions import versions
from lst.storage import clear_partial_files, differing_settings, write_json, write_text

METRICS_FILE, TENSORBOARD_FOLDER = "metrics.jsonl", "tensorboard"


@dataclass(frozen=True)
class TrainingFolder:
    """A training's folder.

    Attributes:
        path: where it is; it need not exist.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.path / "checkpoints"

    def record(self, kind: type[Format]) -> Format | None:
        """The settings that the training was begun with, in the format of its kind; None before it was begun."""
        path = self.path / "settings.json"
        if not path.exists():
            return None
        remedy = f"Delete {self.path} and train again."
        return read_record(path, kind, "the record of the training's settings", remedy)

    def conflicts(self, settings: Mapping[str, Any]) -> list[str]:
        """A line for each setting that differs from those the training was begun with."""
        # Of any kind: the comparison names what a record lacks.
        before = self.record(dict[str, Any])
        return [] if before is None else differing_settings(before, {**settings})

    def begin(self, settings: Mapping[str, Any], config: Any) -> None:
        """Removes what killed processes left; writes settings, configuration and versions."""
        clear_unfinished(self.checkpoints)
        clear_partial_files(self.path, self.path / "final", self.path / UNIT_MODEL_FOLDER)
        write_json(self.path / "settings.json", versioned(settings))
        write_text(self.path / "config.yaml", to_yaml(config))
        write_json(self.path / "versions.json", versions())

    @property
    def steps_done(self) -> int:
        """Steps up to the newest complete checkpoint."""
        return max(map(step_of, complete_checkpoints(self.checkpoints)), default=0)

    def load_newest(self, verify: bool = True, ranks: Ranks = ALONE, reshard: bool = False) -> Checkpoint | None:
        """The newest good checkpoint; None before the first. A damaged one is named, and the one before it is taken.

        Args:
            verify, ranks, reshard: see ``read_checkpoint``. All ranks take the same one.

        Raises:
            UserError: there are checkpoints, and all of them are damaged.
        """
        found = complete_checkpoints(self.checkpoints)
        for path in reversed(found):
            try:
                with ranks.together():
                    return read_checkpoint(path, verify, ranks, reshard)
            except DamagedCheckpointError as error:
                say(str(error).partition(" Delete ")[0])
                if path != found[0]:
                    say(f"going on from the checkpoint before {path.name}")
        if found:
            raise UserError(
                f"all {len(found)} checkpoints in {self.checkpoints} are damaged: put good ones back, or delete "
                f"{self.path} and train again"
            )
        return None
