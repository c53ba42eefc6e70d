"""A sample of a shard: the two members of one utterance in a tar, written, found by offset and read back.

KEY.json        everything but the units (see ``Utterance.to_record``)
KEY.units.npy   uint16 [num_units]
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from lst.data.shards.formats import SampleColumns
from lst.data.utterance import Utterance
from lst.storage.access import size_problem

SUFFIXES = ("json", "units.npy")
# What reading a foreign record or array may raise: numpy parses an array's header as Python's tokens, lets the
# tokenizer's errors through, and asks for the memory that the header states.
UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    SyntaxError,
    EOFError,
    RecursionError,
    MemoryError,
    OverflowError,
    tokenize.TokenError,
)
_BLOCK_BYTES = 512
# The header that numpy writes before a vector of uint16. numpy's own parser takes longer than all other reading.
_NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00\x76\x00\{'descr': '<u2', 'fortran_order': False, 'shape': \((\d+),\), \} *\n"
)
_NPY_HEADER_BYTES = 128


class SampleError(ValueError):
    """Raised where a sample cannot be read; the message says why."""


@dataclass(frozen=True)
class SampleTable:
    """Where the samples of one shard lie.

    Attributes:
        keys: of each sample, in order.
        places: int64 [num_samples, 4], offset and bytes of the JSON member, offset and bytes of the units' member.
        sha256: hash of each sample, 32 bytes each, joined: of the JSON's bytes and the units' after them.
    """

    keys: list[str]
    places: np.ndarray
    sha256: bytes

    def __len__(self) -> int:
        return len(self.keys)

    def to_json(self) -> SampleColumns:
        """The table as columns of JSON, the form it has in a receipt."""
        json_offset, json_bytes, units_offset, units_bytes = self.places.T.tolist()
        return {
            "key": self.keys,
            "json_offset": json_offset,
            "json_bytes": json_bytes,
            "units_offset": units_offset,
            "units_bytes": units_bytes,
            "sha256": [self.sha256[start : start + 32].hex() for start in range(0, len(self.sha256), 32)],
        }

    @classmethod
    def from_json(cls, columns: SampleColumns) -> SampleTable:
        """Inverse of ``to_json``; raises ``ValueError`` if columns differ in length or a hash is not a SHA-256."""
        places = [columns["json_offset"], columns["json_bytes"], columns["units_offset"], columns["units_bytes"]]
        hashes = [bytes.fromhex(text) for text in columns["sha256"]]
        num_samples = len(columns["key"])
        if any(len(column) != num_samples for column in places) or [*map(len, hashes)] != [32] * num_samples:
            raise ValueError("its columns are not of one length, or a hash has not 64 digits")
        return cls(columns["key"], np.array(places, np.int64).T.reshape(-1, 4), b"".join(hashes))

    def check(self, num_samples: int, num_bytes: int) -> None:
        """Raises ``ValueError`` unless it holds so many samples, each in order within a tar of so many bytes."""
        if len(self) != num_samples:
            raise ValueError(f"it has {len(self):,} samples, the index says {num_samples:,}")
        json_offset, json_bytes, units_offset, units_bytes = self.places.T
        inside = (self.places >= 0) & (self.places <= num_bytes)
        if not (
            inside.all()
            and (json_offset + json_bytes <= units_offset).all()
            and (units_offset + units_bytes <= num_bytes).all()
        ):
            raise ValueError("a sample lies outside of the tar, or its units before its text")
        largest = int((units_offset + units_bytes - json_offset).max(initial=0))
        if problem := size_problem(largest, "a sample has"):
            raise ValueError(problem)

    def range_of(self, number: int) -> tuple[int, int]:
        """Offset and number of the bytes that hold a sample."""
        json_offset, _, units_offset, units_bytes = self.places[number].tolist()
        return json_offset, units_offset + units_bytes - json_offset

    def decode(self, number: int, content: bytes, check_hash: bool) -> Utterance:
        """The utterance in ``content``, the bytes of ``range_of``; raises ``SampleError`` where they were altered."""
        json_offset, json_bytes, units_offset, units_bytes = self.places[number].tolist()
        wanted = units_offset + units_bytes - json_offset
        if len(content) != wanted:
            raise SampleError(f"is cut short: {len(content):,} of {wanted:,} bytes are there")
        record, units = content[:json_bytes], content[units_offset - json_offset :]
        if check_hash:
            digest = hashlib.sha256(record)
            digest.update(units)
            if digest.digest() != self.sha256[32 * number : 32 * number + 32]:
                raise SampleError("was altered: its SHA-256 is not the recorded one")
        utterance = decode_sample(record, units)
        if utterance.id != self.keys[number]:
            raise SampleError(f"cannot be read (utterance {utterance.id!r} lies in its place)")
        return utterance


def write_samples(file: IO[bytes], utterances: Sequence[Utterance]) -> SampleTable:
    """Writes a tar of utterances by webdataset's writer. The same utterances give the same bytes.

    Args:
        file: open for writing; the writer never opens a file by name.
        utterances: in order.
    """
    # Here and not above: webdataset loads torch, which readers of shards do not need.
    from webdataset import TarWriter

    places, digests = [], []
    # Owner, mode and time are fixed, so that they do not depend on who writes the shard, and when.
    with TarWriter(file, user="lst", group="lst", mode=0o644, mtime=0, encoder=False) as tar:
        for utterance in utterances:
            place: list[int] = []
            digest = hashlib.sha256()
            for suffix, content in zip(SUFFIXES, encode_sample(utterance), strict=True):
                tar.write({"__key__": utterance.id, suffix: content})
                padded_bytes = -(-len(content) // _BLOCK_BYTES) * _BLOCK_BYTES
                place += [tar.tarstream.offset - padded_bytes, len(content)]
                digest.update(content)
            places.append(place)
            digests.append(digest.digest())
    return SampleTable(
        [utterance.id for utterance in utterances], np.array(places, np.int64).reshape(-1, 4), b"".join(digests)
    )


def encode_sample(utterance: Utterance) -> tuple[bytes, bytes]:
    """The two members' content."""
    units = io.BytesIO()
    np.lib.format.write_array(units, utterance.units.astype("<u2"), allow_pickle=False)
    return json.dumps(utterance.to_record(), ensure_ascii=False).encode(), units.getvalue()


def decode_sample(record: bytes, units: bytes) -> Utterance:
    """Inverse of ``encode_sample``; raises ``SampleError``."""
    try:
        return Utterance.from_record(json.loads(record), _read_units(units))
    except UNREADABLE as error:
        raise SampleError(f"cannot be read ({error})") from error


def _read_units(content: bytes) -> np.ndarray:
    header = _NPY_HEADER.match(content[:_NPY_HEADER_BYTES])
    if header is None or len(content) != _NPY_HEADER_BYTES + 2 * int(header[1]):
        units: np.ndarray = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        if units.dtype != np.uint16 or units.ndim != 1:
            raise ValueError(f"units are {units.dtype} {list(units.shape)}, not uint16 [n]")
        return units
    return np.frombuffer(content, "<u2", offset=_NPY_HEADER_BYTES)
