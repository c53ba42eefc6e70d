"""The file of a speech tokenizer: safetensors whose metadata describes, as JSON, what made the units.

::

    metadata   lst       UnitsDescription as JSON: what the units are; part of their hash
               weights   where a model's weights were; no part of the hash
    tensors    centroids and feature_scale, the layers of a classifier, or codebooks
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import numpy as np
from safetensors.numpy import save

from lst.storage import Between, parse_json, write_bytes
from lst.storage.tensors import open_tensors
from lst.tokenizers.config import MAX_CODEBOOKS
from lst.tokenizers.frames import EncoderSpec

# MFCC codebooks keep the format of version 1: old data stays readable and hashes stay the same.
MFCC_FORMAT: Literal["lst-mfcc-kmeans-1"] = "lst-mfcc-kmeans-1"
FORMAT: Literal["lst-units-2"] = "lst-units-2"
IMPORTED_FORMAT: Literal["lst-imported-units-1"] = "lst-imported-units-1"
# Upper bounds of the size of a codebook, whose units are uint16, and of frames a second.
MAX_UNITS, MAX_RATE_HZ = 65_535, 100
# Prefixes of places of weights that are the same for everybody.
PUBLISHED = ("hub:", "bundle:")
Rate = Annotated[int, Between(1, MAX_RATE_HZ)]


class UnitsDescription(TypedDict, total=False):
    """What a units file says of its units.

    ``format`` and ``frame_rate_hz`` are always there; ``kind`` and ``encoder`` from version 2 on; ``quantiser`` for
    k-means and classifiers; ``num_units`` for imported units, and
    ``simulated``, a fingerprint, for simulated ones.
    """

    format: str
    frame_rate_hz: Rate
    kind: str
    encoder: EncoderSpec
    quantiser: str
    num_units: Annotated[int, Between(0, MAX_UNITS)]
    simulated: str


class MfccUnits(TypedDict):
    """The description of a k-means codebook of MFCC."""

    format: Literal["lst-mfcc-kmeans-1"]
    frame_rate_hz: Rate


class ModelUnits(TypedDict):
    """The description of units of every other kind."""

    format: Literal["lst-units-2"]
    frame_rate_hz: Rate
    kind: str
    encoder: EncoderSpec


class QuantisedUnits(ModelUnits):
    """The description of units of quantised frames."""

    quantiser: Literal["centroids", "classifier"]


class CodecSpec(TypedDict):
    """The ``encoder`` of a codec's units."""

    num_codebooks: Annotated[int, Between(1, MAX_CODEBOOKS)]
    codebook_pattern: Literal["flattened", "delayed"]
    weights_sha256: str


class _Simulated(TypedDict, total=False):
    simulated: str


class ImportedDescription(_Simulated):
    """The description of units that were read from files; ``simulated`` is the fingerprint of simulated ones."""

    format: Literal["lst-imported-units-1"]
    frame_rate_hz: Rate
    num_units: Annotated[int, Between(0, MAX_UNITS)]


class ReadUnits(NamedTuple):
    """What a units file holds.

    Attributes:
        description: JSON that is not checked yet; ``{}`` for a foreign file.
        tensors: by name.
        place: where the weights of the model were, as the file says.
    """

    description: dict[str, Any]
    tensors: dict[str, np.ndarray]
    place: str | None


class UnitsFile(ABC):
    """A speech tokenizer that is saved in one safetensors file."""

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """What decides the units, as arrays by name."""

    @abstractmethod
    def description(self) -> UnitsDescription:
        """What decides the units besides the tensors."""

    @property
    def place(self) -> str | None:
        """Where the weights of the model are; None without weights."""
        return None

    @property
    def sha256(self) -> str:
        """Hash of everything that decides the units; shards and vocabularies record it."""
        return hashlib.sha256(self._to_bytes({})).hexdigest()

    def save(self, path: Path, names_local_weights: bool = True) -> None:
        """Writes the tensors and their description as safetensors, whole or not at all.

        Args:
            path: of the file.
            names_local_weights: whether the place of a model's weights is noted where it is on this machine.
        """
        place = self.place if names_local_weights or (self.place or "").startswith(PUBLISHED) else None
        write_bytes(path, self._to_bytes({"weights": place} if place else {}))

    def _to_bytes(self, more: dict[str, str]) -> bytes:
        return save(self.tensors(), metadata={"lst": json.dumps(self.description(), sort_keys=True), **more})


def read_units_file(path: Path) -> ReadUnits:
    """What ``UnitsFile.save`` wrote.

    Raises:
        OSError: the file is missing or cannot be opened.
        FormatError: it is damaged; the message begins with a verb.
    """
    file = open_tensors(path)
    described = parse_json(file.metadata.get("lst", "{}").encode(), dict[str, Any])
    tensors = {name: tensor.float().numpy() for name, tensor in file.read().items()}
    return ReadUnits(described, tensors, file.metadata.get("weights"))
