"""Vocoders of mels behind one interface, and the file of the one that is trained here.

::

    FOLDER/vocoder.safetensors    the weights of a ``SpectrumNetwork``; metadata ``lst``: ``VocoderDescription``
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypedDict

import numpy as np
import torch
from safetensors.torch import save

from lst.errors import UserError
from lst.storage import Between, FormatError, Seconds, parse_json, write_bytes
from lst.storage.tensors import read_header, read_weights
from lst.voice.config import SpectrumConfig
from lst.voice.mel import MelScale
from lst.voice.vocoders.spectral import SpectrumNetwork

VOCODER_FILE = "vocoder.safetensors"
VOCODER_FORMAT: Literal["lst-vocoder-1"] = "lst-vocoder-1"
_REMEDY = "Delete it, or make it again with lst voice train part=vocoder."
# Wider networks than anybody trains: a damaged file must not ask for all memory.
_MOST = 8192


class MelVocoder(Protocol):
    """Makes sound of mels."""

    @property
    def name(self) -> str:
        """What it is, for people."""

    def waveform(self, mel: np.ndarray, scale: MelScale) -> np.ndarray:
        """A waveform, float32 [num_frames · hop], of a mel, float32 [80, num_frames], of this scale.

        Raises:
            UserError: it makes no sound of this rate.
        """


@dataclass(frozen=True)
class GriffinLim:
    """Spectra by non-negative updates, phases by Griffin and Lim: no weights."""

    name = "Griffin and Lim"

    def waveform(self, mel: np.ndarray, scale: MelScale) -> np.ndarray:
        """See ``MelVocoder``."""
        return scale.waveform(mel)


class VocoderDescription(TypedDict):
    """What the file of a vocoder says of itself, as JSON in its metadata.

    Keys:
        name: of the voice that it was trained beside.
        dim, layers: see ``SpectrumConfig``.
        sample_rate_hz, duration_s: of the speech that it was trained on.
    """

    format: Literal["lst-vocoder-1"]
    name: str
    dim: Annotated[int, Between(8, _MOST)]
    layers: Annotated[int, Between(1, 1000)]
    sample_rate_hz: Annotated[int, Between(16_000, 48_000)]
    duration_s: Seconds


@dataclass(frozen=True, eq=False)
class TrainedVocoder:
    """Spectra by a network that was trained here, phases by Griffin and Lim.

    Attributes:
        network: in evaluation mode.
        description: see there.
    """

    network: SpectrumNetwork
    description: VocoderDescription
    name = "a vocoder trained on speech"

    @torch.inference_mode()
    def waveform(self, mel: np.ndarray, scale: MelScale) -> np.ndarray:
        """See ``MelVocoder``."""
        if scale != self.network.scale:
            own_hz = self.network.scale.sample_rate_hz
            raise UserError(
                f"the vocoder makes sound of {own_hz} Hz, the voice of {scale.sample_rate_hz}: train another"
            )
        return scale.waveform(mel, self.network(torch.from_numpy(mel)[None])[0].exp())

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        weights = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        write_bytes(path, save(weights, metadata={"lst": json.dumps(self.description, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> TrainedVocoder:
        """Reads what ``save`` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        file = read_header(path, "the vocoder is", _REMEDY)
        try:
            described = parse_json(file.metadata.get("lst", "{}").encode(), VocoderDescription)
            with torch.device("meta"):
                config = SpectrumConfig(described["dim"], described["layers"])
                network = SpectrumNetwork(config, MelScale(described["sample_rate_hz"]))
            needed = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
            tensors = read_weights(file, needed)
        except FormatError as error:
            raise UserError(f"the vocoder is damaged: {path} {error}. {_REMEDY}") from None
        network.load_state_dict(tensors, assign=True)
        return cls(network.eval().requires_grad_(False), described)


def vocoder_beside(voice: Path) -> MelVocoder:
    """The vocoder that was trained beside a voice, of its file; Griffin and Lim where there is none."""
    place = voice.with_name(VOCODER_FILE)
    return TrainedVocoder.load(place) if place.exists() else GriffinLim()
