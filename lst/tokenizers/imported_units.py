"""Speech units that were imported as numbers: their count is known, but audio cannot be encoded to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from lst.errors import UserError
from lst.storage import FormatError
from lst.storage.typed import checked
from lst.tokenizers.units_file import IMPORTED_FORMAT, ImportedDescription, UnitsDescription, UnitsFile, read_units_file


@dataclass(frozen=True)
class ImportedUnits(UnitsFile):
    """Takes the place of a speech tokenizer for imported units.

    Attributes:
        num_units: size of the codebook; 0 where there is no speech.
        frame_rate_hz: units a second.
        simulated: fingerprint of what simulated units were drawn from; empty for others.
    """

    num_units: int
    frame_rate_hz: int = 25
    units_a_frame: int = 1
    name: str = "imported units"
    kind: str = "imported"
    simulated: str = ""

    def prepare(self) -> None:
        """Does nothing: no audio can be encoded, so nothing is needed for it."""

    def encode(self, waveforms: Any, sample_rate_hz: int = 16_000) -> NoReturn:
        """Always raises ``UserError``."""
        raise UserError(
            "these speech units were read from files, and the model that made them is not known: audio cannot be "
            "encoded. Prepare from recordings to use spoken prompts."
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """No tensors: the count is all that is known."""
        return {}

    def description(self) -> UnitsDescription:
        """Format, rate and number of units."""
        values: UnitsDescription = {
            "format": IMPORTED_FORMAT,
            "frame_rate_hz": self.frame_rate_hz,
            "num_units": self.num_units,
        }
        return {**values, "simulated": self.simulated} if self.simulated else values

    @classmethod
    def load(cls, path: Path) -> ImportedUnits | None:
        """Reads such a file; None where the file is missing, damaged or of another kind."""
        try:
            values = checked(read_units_file(path).description, ImportedDescription)
        except (OSError, FormatError):
            return None
        return cls(values["num_units"], values["frame_rate_hz"], simulated=values.get("simulated", ""))
