"""The joint vocabulary: text pieces, special tokens and speech units in one range of ids.

::

    0 … T−1        text BPE pieces
    T … T+4        <pad> <bos> <eos> <text> <speech>
    T+5 … T+4+K    speech units

``<text>`` and ``<speech>`` open every span of their modality; ``<bos>`` and ``<eos>`` stand once a document.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from lst.errors import UserError, raise_problems
from lst.storage import fingerprint, read_json, write_json

SPECIALS = ("<pad>", "<bos>", "<eos>", "<text>", "<speech>")
# Version 2 adds what the units are. A file of version 1 holds MFCC units, one a frame.
VERSION, READABLE = 2, (1, 2)
VERSION_1 = ("num_text", "num_units", "text_sha256", "units_sha256", "frame_rate_hz")


@dataclass(frozen=True)
class Vocabulary:
    """Sizes and origins of the joint vocabulary.

    Attributes:
        num_text: text pieces, T.
        num_units: speech units, K, or pieces of units.
        text_sha256: hash of the text tokenizer.
        units_sha256: hash of the unit codebook, or of it and the speech BPE over it (see ``of_pieces``).
        frame_rate_hz: frames of speech a second.
        unit_kind: what units are made of: mfcc, log_mel, hubert, whisper or encodec.
        unit_name: the same with layer and size, for people; two names of equal units are no difference.
        units_a_frame: units that stand for one frame, in a row (codebooks of a codec).
        deduplicated: whether repeated units are left out.
    """

    num_text: int
    num_units: int
    text_sha256: str
    units_sha256: str
    frame_rate_hz: int = 25
    unit_kind: str = "mfcc"
    unit_name: str = field(default="", compare=False)
    units_a_frame: int = 1
    deduplicated: bool = False

    @property
    def size(self) -> int:
        return self.num_text + len(SPECIALS) + self.num_units

    def of_pieces(self, num_pieces: int, pieces_sha256: str) -> Vocabulary:
        """The vocabulary in which pieces of units, joined by a speech BPE, take the place of units.

        Its ``units_sha256`` names the speech BPE and the codebook beneath it, so that another of either shows.
        """
        origin = hashlib.sha256(f"{self.units_sha256} {pieces_sha256}".encode()).hexdigest()
        return replace(self, num_units=num_pieces, units_sha256=origin)

    @property
    def pad_id(self) -> int:
        return self.num_text

    @property
    def bos_id(self) -> int:
        return self.num_text + 1

    @property
    def eos_id(self) -> int:
        return self.num_text + 2

    @property
    def text_id(self) -> int:
        return self.num_text + 3

    @property
    def speech_id(self) -> int:
        return self.num_text + 4

    @property
    def first_unit_id(self) -> int:
        return self.num_text + len(SPECIALS)

    @property
    def unit_rate_hz(self) -> int:
        """Units a second: frames a second times the units that stand for a frame."""
        return self.frame_rate_hz * self.units_a_frame

    @property
    def fingerprint(self) -> str:
        """Equal for vocabularies under which ids mean the same, in whatever version they were written."""
        values: dict[str, Any] = {"version": 1, "specials": list(SPECIALS)}
        for item in fields(self):
            value = getattr(self, item.name)
            # What version 1 could not say counts only where it says something else.
            if item.compare and (item.name in VERSION_1 or value != item.default):
                values[item.name] = value
        return fingerprint(values)

    def unit_ids(self, units: np.ndarray) -> np.ndarray:
        """Joint ids, int32 [n], of speech units [n]; raises ``ValueError`` for a unit outside the codebook."""
        if units.size and int(units.max()) >= self.num_units:
            raise ValueError(f"speech unit {int(units.max())} is outside the codebook of {self.num_units} units")
        return units.astype(np.int32) + self.first_unit_id

    def is_unit(self, ids: np.ndarray) -> np.ndarray:
        """Boolean mask of the ids that are speech units."""
        return ids >= self.first_unit_id

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, "specials": list(SPECIALS), **asdict(self)}

    def save(self, path: Path) -> None:
        write_json(path, self.to_dict())

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str) -> Vocabulary:
        """Builds from ``to_dict``'s output; raises ``UserError`` for another version or specials."""
        if not isinstance(values, dict):
            raise UserError(f"{where} is not a vocabulary: it holds {values!r}. Prepare the data again.")
        if values.get("version") not in READABLE or values.get("specials") != list(SPECIALS):
            raise UserError(
                f"{where}: vocabulary version {values.get('version')} with specials {values.get('specials')}; this "
                f"version of the project reads versions {READABLE} with {list(SPECIALS)}. Prepare the data again."
            )
        expected = VERSION_1 if values["version"] == 1 else tuple(cls.__dataclass_fields__)
        if missing := [key for key in expected if key not in values]:
            raise UserError(f"{where}: the vocabulary lacks {', '.join(missing)}. Prepare the data again.")
        return cls(**{key: values[key] for key in expected})

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        return cls.from_dict(
            read_json(path, dict[str, Any], "the joint vocabulary", "Make it with lst prepare."), str(path)
        )


def check_same_vocabulary(expected: Vocabulary, found: Vocabulary, expected_of: str, found_of: str) -> None:
    """Raises one ``UserError`` naming every field in which two vocabularies differ."""
    problems = [
        f"{item.name}: {found_of} has {getattr(found, item.name)}, {expected_of} has {getattr(expected, item.name)}"
        for item in fields(Vocabulary)
        if item.compare and getattr(expected, item.name) != getattr(found, item.name)
    ]
    raise_problems(
        f"the vocabulary of {found_of} differs from that of {expected_of}",
        problems,
        "Ids would mean different things: use the data and the model of one run, or train a new model on this data.",
    )
