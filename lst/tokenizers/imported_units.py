"""Speech units that came as numbers, without what made them: their count is known, and audio cannot be encoded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lst.errors import UserError
from lst.storage import write_bytes

FORMAT = "lst-imported-units-1"


@dataclass(frozen=True)
class ImportedUnits:
    """Stands where a speech tokenizer stands.

    Attributes:
        num_units: size of the codebook.
        frame_rate_hz: units a second.
    """

    num_units: int
    frame_rate_hz: int = 25
    units_a_frame: int = 1
    name: str = "imported units"
    kind: str = "imported"

    @property
    def sha256(self) -> str:
        """Hash of the file's content; shards record it."""
        return hashlib.sha256(self._to_bytes()).hexdigest()

    def prepare(self) -> None:
        """Nothing is needed, for nothing can be encoded."""

    def encode(self, waveforms: Any, sample_rate_hz: int = 16_000) -> NoReturn:
        """Always raises ``UserError``."""
        raise UserError(
            "these speech units were read from files, and what made them is not known: audio cannot be encoded. "
            "Prepare from recordings to use spoken prompts."
        )

    def _to_bytes(self) -> bytes:
        values = {"format": FORMAT, "frame_rate_hz": self.frame_rate_hz, "num_units": self.num_units}
        return save({}, metadata={"lst": json.dumps(values, sort_keys=True)})

    def save(self, path: Path) -> None:
        """Writes the counts as safetensors without tensors."""
        write_bytes(path, self._to_bytes())

    @classmethod
    def load(cls, path: Path) -> ImportedUnits | None:
        """Reads such a file; None where it is absent, damaged or of another kind."""
        try:
            with safe_open(path, framework="numpy") as file:
                values = json.loads((file.metadata() or {}).get("lst", "{}"))
            if values.get("format") != FORMAT:
                return None
            return cls(int(values["num_units"]), int(values["frame_rate_hz"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
