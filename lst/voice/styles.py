"""Who speaks: a style from a reference's mel, and a discriminator with a head for each speaker."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from lst.voice.blocks import HalvingPicture, mean_and_spread
from lst.voice.config import VoiceModelConfig
from lst.voice.mel import NUM_MELS

_NUM_HALVINGS = 4


class PictureTrunk(nn.Module):
    """Reads a mel as a picture; its last layer is the mean over frames and bins. Any number of frames will do.

    Args:
        config: gives the channels.
    """

    def __init__(self, config: VoiceModelConfig) -> None:
        super().__init__()
        dims = [min(config.style_channels << level, config.style_max_channels) for level in range(_NUM_HALVINGS + 1)]
        self.first = nn.Conv2d(1, dims[0], 3, padding=1)
        self.blocks = nn.ModuleList(HalvingPicture(*pair) for pair in pairwise(dims))
        self.last = nn.Conv2d(dims[-1], dims[-1], 5, padding=2)
        self.dim = dims[-1]

    def forward(self, mel_BMT: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """[B, dim], and the output of each layer before it."""
        features = [self.first(mel_BMT.unsqueeze(1))]
        for block in self.blocks:
            features.append(block(features[-1]))
        last = self.last(functional.leaky_relu(features[-1], 0.2)).mean(dim=(2, 3))
        return functional.leaky_relu(last, 0.2), features


class StyleEncoder(nn.Module):
    """The style of whoever speaks in a mel: numbers that are learned and, if relative, mean and spread of each bin."""

    def __init__(self, config: VoiceModelConfig) -> None:
        super().__init__()
        self.trunk = PictureTrunk(config)
        self.out = nn.Linear(self.trunk.dim, config.style_dim)
        self.is_relative = config.relative

    def forward(self, mel_BMT: torch.Tensor) -> torch.Tensor:
        """[B, S], of ``style_size``."""
        found: torch.Tensor = self.out(self.trunk(mel_BMT)[0])
        return torch.cat([found, *mean_and_spread(mel_BMT)], dim=1) if self.is_relative else found


def style_size(config: VoiceModelConfig) -> int:
    """How many numbers a style has."""
    return config.style_dim + 2 * NUM_MELS * config.relative


class Discriminator(nn.Module):
    """Whether a mel is of speech of a certain speaker: one score a speaker, 1 for speech and 0 for what was made.

    Args:
        config: gives the channels.
        num_speakers: of the training.
    """

    def __init__(self, config: VoiceModelConfig, num_speakers: int) -> None:
        super().__init__()
        self.trunk = PictureTrunk(config)
        self.out = nn.Linear(self.trunk.dim, num_speakers)

    def forward(self, mel_BMT: torch.Tensor, speakers_B: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The score of each row as its speaker, [B], and features."""
        hidden, features = self.trunk(mel_BMT)
        return self.out(hidden).gather(1, speakers_B.unsqueeze(1)).squeeze(1), features
