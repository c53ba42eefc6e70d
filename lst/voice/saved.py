"""A finished voice in one file.

::

    NAME.safetensors    the weights of fronts, style encoder and decoder, and ``default_style`` [S];
                        metadata ``lst``: ``StyleVoiceDescription``
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypedDict

import torch
from safetensors.torch import save

from lst.errors import UserError
from lst.storage import Between, FormatError, Seconds, parse_json, write_bytes
from lst.storage.tensors import read_header, read_weights
from lst.voice.config import VoiceModelConfig
from lst.voice.model import VoiceModel
from lst.voice.styles import style_size

STYLE_VOICE_FILE = "style_voice.safetensors"
STYLE_VOICE_FORMAT: Literal["lst-style-voice-1"] = "lst-style-voice-1"
_DEFAULT_STYLE = "default_style"
_REMEDY = "Put the original file back, or make it again with lst voice train."
# Wider networks than anybody trains: a damaged file must not ask for all memory.
_MOST = 8192


class LaterSizes(TypedDict, total=False):
    """What earlier files lack."""

    relative: bool


class VoiceSizes(LaterSizes):
    """Sizes of the networks; see ``VoiceModelConfig``."""

    sample_rate_hz: Annotated[int, Between(16_000, 48_000)]
    content_dim: Annotated[int, Between(8, _MOST)]
    decoder_dim: Annotated[int, Between(8, _MOST)]
    style_dim: Annotated[int, Between(4, _MOST)]
    style_channels: Annotated[int, Between(2, _MOST)]
    style_max_channels: Annotated[int, Between(2, _MOST)]
    reader_dim: Annotated[int, Between(8, _MOST)]


class StyleVoiceDescription(TypedDict):
    """What the file of a voice says of itself, as JSON in its metadata.

    Keys:
        name: that it was trained under.
        model: sizes.
        phones: names of the phones, in the order of their ids.
        num_units, unit_rate_hz, units_sha256: of the speech units that it reads.
        has_student: whether it converts; one that does not speaks units alone.
        has_units: whether its front of units is trained.
        num_speakers, duration_s: of the speech that it was trained on.
    """

    format: Literal["lst-style-voice-1"]
    name: str
    model: VoiceSizes
    phones: list[str]
    num_units: Annotated[int, Between(1, 65_536)]
    unit_rate_hz: Annotated[int, Between(1, 100)]
    units_sha256: str
    has_student: bool
    has_units: bool
    num_speakers: Annotated[int, Between(1)]
    duration_s: Seconds


@dataclass(frozen=True, eq=False)
class SavedVoice:
    """A finished voice: its networks in evaluation mode, what it says of itself, and the style it has by default.

    Attributes:
        model: without reader and discriminator.
        description: see there.
        default_style: float32 [S], of ``style_size``.
    """

    model: VoiceModel
    description: StyleVoiceDescription
    default_style: torch.Tensor

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.kept().items()}
        tensors[_DEFAULT_STYLE] = self.default_style.detach().cpu().contiguous()
        write_bytes(path, save(tensors, metadata={"lst": json.dumps(self.description, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> SavedVoice:
        """Reads what ``save`` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        file = read_header(path, "the voice is", _REMEDY)
        try:
            described = parse_json(file.metadata.get("lst", "{}").encode(), StyleVoiceDescription)
            config = VoiceModelConfig(**described["model"])
            if problems := config.problems():
                raise FormatError("; ".join(problems))
            with torch.device("meta"):
                model = VoiceModel(config, len(described["phones"]), described["num_units"])
            needed = {name: list(tensor.shape) for name, tensor in model.kept().items()}
            needed[_DEFAULT_STYLE] = [style_size(config)]
            tensors = read_weights(file, needed)
        except FormatError as error:
            raise UserError(f"the voice is damaged: {path} {error}. {_REMEDY}") from None
        style = tensors.pop(_DEFAULT_STYLE)
        model.load_state_dict(tensors, assign=True)
        return cls(model.eval().requires_grad_(False), described, style)


def sizes_of(config: VoiceModelConfig) -> VoiceSizes:
    """The sizes of a configuration as a file records them."""
    return VoiceSizes(**config.recorded())  # type: ignore[typeddict-item]
