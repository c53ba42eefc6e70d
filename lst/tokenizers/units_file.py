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
from typing import TypedDict

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from lst.storage import write_bytes
from lst.tokenizers.frames import EncoderSpec

# MFCC codebooks keep the format of version 1: old data stays readable and hashes stay the same.
MFCC_FORMAT, FORMAT, IMPORTED_FORMAT = "lst-mfcc-kmeans-1", "lst-units-2", "lst-imported-units-1"


class UnitsDescription(TypedDict, total=False):
    """What a units file says of its units.

    ``format`` and ``frame_rate_hz`` are always there; ``kind`` and ``encoder`` from version 2 on; ``quantiser`` for
    k-means and classifiers; ``num_units`` for imported units, and
    ``simulated``, a fingerprint, for simulated ones.
    """

    format: str
    frame_rate_hz: int
    kind: str
    encoder: EncoderSpec
    quantiser: str
    num_units: int
    simulated: str


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

    def save(self, path: Path) -> None:
        """Writes the tensors and their description as safetensors, whole or not at all."""
        write_bytes(path, self._to_bytes({"weights": self.place} if self.place else {}))

    def _to_bytes(self, more: dict[str, str]) -> bytes:
        return save(self.tensors(), metadata={"lst": json.dumps(self.description(), sort_keys=True), **more})


def read_units_file(path: Path) -> tuple[object, dict[str, np.ndarray], str | None]:
    """What ``UnitsFile.save`` wrote: the description as parsed JSON, the tensors, and where the weights were.

    The description of a foreign file is ``{}``. It is not checked here.

    Raises:
        SafetensorError, OSError, ValueError: the file is damaged or missing.
    """
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return json.loads(metadata.get("lst", "{}")), tensors, metadata.get("weights")
