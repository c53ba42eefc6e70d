"""All networks of a voice in one module, and batches of speech to train it on.

::

    stage 1   phones, reader, style, decoder (the teacher), discriminator
    stage 2   sound (the student) and its classifier, units, discriminator; all else stays as it is
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import nn

from lst.voice.config import VoiceModelConfig
from lst.voice.decoder import Decoder
from lst.voice.fronts import MelFront, Reader, SymbolFront, UnitFront
from lst.voice.styles import Discriminator, StyleEncoder

Stage = Literal[1, 2]
# Parts that learn in each stage.
LEARNING: dict[int, tuple[str, ...]] = {
    1: ("phones", "reader", "style", "decoder", "discriminator"),
    2: ("sound", "classifier", "units", "discriminator"),
}
# What a finished voice keeps.
KEPT = ("phones", "sound", "classifier", "units", "style", "decoder")


@dataclass(frozen=True)
class VoiceBatch:
    """Pieces of utterances of one length. T mel frames, R frames of references, L runs of units.

    Attributes:
        mel: float32 [B, 80, T].
        prosody: float32 [B, 3, T]; see ``prosody_of``.
        pitch: float32 [B, T], standard logarithmic pitch, 0 without a voice.
        phones, units: int64 [B, T / 2], of each content frame.
        runs: int64 [B, L], the unit of each run.
        run_lengths: float32 [B, L], units that it lasts; 0 where it is not known.
        speakers: int64 [B], numbers of the speakers.
        reference: float32 [B, 80, R], of the same speaker.
        others, other: the speaker and the mel of another reference, of any speaker.
    """

    mel: torch.Tensor
    prosody: torch.Tensor
    pitch: torch.Tensor
    phones: torch.Tensor
    units: torch.Tensor
    runs: torch.Tensor
    run_lengths: torch.Tensor
    speakers: torch.Tensor
    reference: torch.Tensor
    others: torch.Tensor
    other: torch.Tensor

    def to(self, device: torch.device) -> VoiceBatch:
        """The same on another device."""
        return replace(self, **{item.name: getattr(self, item.name).to(device) for item in fields(self)})


class VoiceModel(nn.Module):
    """A style encoder and a decoder with three fronts, and the networks that judge them in training.

    Args:
        config: sizes.
        num_phones, num_units: kinds of phones and units.
        num_speakers: heads of the discriminator; 0 for a finished voice, which has neither discriminator nor reader.
        seed: of the first weights.
    """

    def __init__(
        self, config: VoiceModelConfig, num_phones: int, num_units: int, num_speakers: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        self.config, self.num_phones, self.num_units = config, num_phones, num_units
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.style, self.decoder = StyleEncoder(config), Decoder(config)
            self.phones = SymbolFront(num_phones, config.content_dim)
            self.sound, self.classifier = (
                MelFront(config.content_dim, config.relative),
                nn.Conv1d(config.content_dim, num_phones, 1),
            )
            self.units = UnitFront(num_units, config.content_dim)
            self.reader = Reader(num_phones, config.reader_dim) if num_speakers else None
            self.discriminator = Discriminator(config, num_speakers) if num_speakers else None

    @property
    def num_parameters(self) -> int:
        """Of all networks."""
        return sum(parameter.numel() for parameter in self.parameters())

    def learn(self, stage: Stage) -> None:
        """Lets the parts of a stage learn, and no other."""
        for name, part in self.named_children():
            part.requires_grad_(name in LEARNING[stage])

    def kept(self) -> dict[str, torch.Tensor]:
        """The weights of a finished voice."""
        weights = self.state_dict()
        return {name: tensor for name, tensor in weights.items() if name.partition(".")[0] in KEPT}
