"""The numbers of a training for Weights & Biases (``train.logger=wandb``).

Where they go is the user's setting, as everywhere: ``wandb login`` once, or ``WANDB_MODE=offline`` in the environment,
which writes to the training's folder and sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lst.lazy import import_or_explain
from lst.storage import fingerprint


class WandbLog:
    """A run of Weights & Biases, which a resumed training goes on with.

    Args:
        folder: of the training; its files of wandb lie there.
        name: of the run.
        settings: shown beside the numbers.

    Raises:
        UserError: the package is missing.
    """

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        wandb: Any = import_or_explain("wandb", "train.logger=wandb", "pip install 'latent-speech-text[wandb]'")
        self._run = wandb.init(
            project="lst",
            name=name,
            id=fingerprint(str(folder.resolve()))[:16],
            dir=folder,
            resume="allow",
            config=dict(settings),
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds the numbers of a row at its step."""
        numbers = {key: value for key, value in row.items() if key != "step" and value is not None}
        self._run.log(numbers, step=row["step"])

    def close(self) -> None:
        """Waits until all is written."""
        self._run.finish()
