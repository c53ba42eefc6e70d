"""The joint vocabulary: text pieces, special tokens and speech units in one range of ids.

::

    0 … T−1        text BPE pieces
    T … T+4        <pad> <bos> <eos> <text> <speech>
    T+5 … T+4+K    speech units

``<text>`` and ``<speech>`` open every span of their modality. A document has one ``<bos>`` and one ``<eos>``.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from lst.errors import UserError, raise_problems
from lst.storage import Between, FormatError, fingerprint, read_json, write_json
from lst.storage.typed import checked

# Ids are int32.
Size = Annotated[int, Between(1, 2**30)]
NumUnits = Annotated[int, Between(0, 2**30)]
SPECIALS = ("<pad>", "<bos>", "<eos>", "<text>", "<speech>")
# Version 2 added the fields that describe the units. A file of version 1 is of MFCC units, one for each frame.
VERSION, READABLE = 2, (1, 2)
VERSION_1 = ("num_text", "num_units", "text_sha256", "units_sha256", "frame_rate_hz")


@dataclass(frozen=True)
class Vocabulary:
    """Sizes and origins of the joint vocabulary. ``vocabulary.json`` holds these fields.

    >>> vocabulary = Vocabulary(num_text=300, num_units=100, text_sha256="a", units_sha256="b")
    >>> vocabulary.size, vocabulary.speech_id, vocabulary.first_unit_id
    (405, 304, 305)
    >>> ids = vocabulary.unit_ids(np.array([0, 99]))
    >>> ids.tolist(), vocabulary.is_unit(ids).tolist()
    ([305, 404], [True, True])

    Attributes:
        num_text: text pieces, T.
        num_units: speech units, or pieces of units, K; 0 for text alone.
        text_sha256: hash of the text tokenizer.
        units_sha256: hash of the unit codebook, or of the codebook and the speech BPE over it (see ``of_pieces``).
        frame_rate_hz: frames of speech a second.
        unit_kind: one of ``lst.tokenizers.config.KINDS``, or imported.
        unit_name: kind, layer and size, for people. It is not compared: equal units may have two names.
        units_a_frame: units in a row that stand for one frame (the codebooks of a codec).
        deduplicated: whether each run of equal units is one unit.
    """

    num_text: Size
    num_units: NumUnits
    text_sha256: str
    units_sha256: str
    frame_rate_hz: Size = 25
    unit_kind: str = "mfcc"
    unit_name: str = field(default="", compare=False)
    units_a_frame: Size = 1
    deduplicated: bool = False

    @property
    def size(self) -> int:
        """Number of ids: T + 5 + K."""
        return self.num_text + len(SPECIALS) + self.num_units

    def of_pieces(self, num_pieces: int, pieces_sha256: str) -> Vocabulary:
        """The vocabulary with the pieces of a speech BPE in place of units.

        Its ``units_sha256`` is a hash of both the speech BPE and the codebook beneath it.
        """
        origin = hashlib.sha256(f"{self.units_sha256} {pieces_sha256}".encode()).hexdigest()
        return replace(self, num_units=num_pieces, units_sha256=origin)

    @property
    def pad_id(self) -> int:
        """Id of ``<pad>``."""
        return self.num_text

    @property
    def bos_id(self) -> int:
        """Id of ``<bos>``, which opens a document."""
        return self.num_text + 1

    @property
    def eos_id(self) -> int:
        """Id of ``<eos>``, which ends a document."""
        return self.num_text + 2

    @property
    def text_id(self) -> int:
        """Id of ``<text>``, which opens a span of text."""
        return self.num_text + 3

    @property
    def speech_id(self) -> int:
        """Id of ``<speech>``, which opens a span of speech."""
        return self.num_text + 4

    @property
    def first_unit_id(self) -> int:
        """Id of speech unit 0."""
        return self.num_text + len(SPECIALS)

    @property
    def unit_rate_hz(self) -> int:
        """Units a second: frames a second times units for each frame."""
        return self.frame_rate_hz * self.units_a_frame

    @property
    def fingerprint(self) -> str:
        """Equal for vocabularies whose ids mean the same, whatever version of the file they come from."""
        values: dict[str, Any] = {"version": 1, "specials": list(SPECIALS)}
        for item in fields(self):
            value = getattr(self, item.name)
            # Fields that version 1 did not have count only where they differ from its meaning.
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
        """The content of ``vocabulary.json``: version, special tokens, and the fields of this class."""
        return {"version": VERSION, "specials": list(SPECIALS), **asdict(self)}

    def save(self, path: Path) -> None:
        """Writes ``vocabulary.json``."""
        write_json(path, self.to_dict())

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str) -> Vocabulary:
        """Builds a vocabulary from the output of ``to_dict``.

        Args:
            values: the parsed JSON.
            where: the file, for the error.

        Raises:
            UserError: the version or the special tokens are others, or a field is missing or of another type.
        """
        if values.get("version") not in READABLE or values.get("specials") != list(SPECIALS):
            raise UserError(
                f"{where}: vocabulary version {values.get('version')} with specials {values.get('specials')}; this "
                f"version of the project reads versions {READABLE} with {list(SPECIALS)}. Prepare the data again."
            )
        expected = VERSION_1 if values["version"] == 1 else tuple(cls.__dataclass_fields__)
        if missing := [key for key in expected if key not in values]:
            raise UserError(f"{where}: the vocabulary lacks {', '.join(missing)}. Prepare the data again.")
        try:
            return checked({key: values[key] for key in expected}, cls)
        except FormatError as error:
            raise FormatError(f"{where}: the vocabulary {error}. Prepare the data again.") from None

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Reads ``vocabulary.json``; raises ``UserError`` where it is missing, damaged or of another version."""
        values = read_json(path, dict[str, Any], "the joint vocabulary", "Make it with lst prepare.")
        return cls.from_dict(values, str(path))


def check_same_vocabulary(expected: Vocabulary, found: Vocabulary, expected_of: str, found_of: str) -> None:
    """Raises one ``UserError`` that names every field in which two vocabularies differ.

    Args:
        expected, found: the vocabularies.
        expected_of, found_of: whose vocabularies they are, for the error.
    """
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
