"""What is said: content at 40 frames a second, from phones, from a mel or from speech units.

All fronts make the same kind of content, so one decoder serves them all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from lst.voice.blocks import Residual, doubled, halved, instance_norm
from lst.voice.mel import NUM_MELS
from lst.voice.pitch import NUM_PROSODY

# Decoders are told this much of a run's logarithmic length at most: about 400 frames.
_MOST_LOG_FRAMES = 6.0


class SymbolFront(nn.Module):
    """Content of a symbol a frame: embedding, three convolutions of five frames, an LSTM in both directions.

    Args:
        num_symbols: kinds of symbols.
        dim: width of the content; even.
    """

    def __init__(self, num_symbols: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, dim)
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, dim, 5, padding=2) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.lstm = nn.LSTM(dim, dim // 2, batch_first=True, bidirectional=True)

    def forward(self, symbols_BT: torch.Tensor) -> torch.Tensor:
        """[B, dim, T] of int64 [B, T]."""
        x_BTC = self.embedding(symbols_BT)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x_BTC = functional.leaky_relu(norm(convolution(x_BTC.mT).mT), 0.2)
        found: torch.Tensor = self.lstm(x_BTC)[0].mT
        return found


class MelFront(nn.Module):
    """Content of a mel of any speaker: a convolution of seven frames and five residual blocks; one halves time.

    Instance norms take out what is the same in all frames, such as much of the speaker.

    Args:
        dim: width of the content.
        is_relative: whether each bin of a mel is heard with mean 0 and spread 1: says less of the speaker.
    """

    def __init__(self, dim: int, is_relative: bool = False) -> None:
        super().__init__()
        inner, self.is_relative = dim // 2, is_relative
        self.first = nn.Conv1d(NUM_MELS, inner, 7, padding=3)
        self.blocks = nn.Sequential(
            Residual(inner, inner),
            Residual(inner, inner),
            Residual(inner, dim, resample=halved),
            Residual(dim, dim),
            Residual(dim, dim),
        )

    def forward(self, mel_BMT: torch.Tensor) -> torch.Tensor:
        """[B, dim, T / 2] of [B, 80, T]; T is even."""
        heard = instance_norm(mel_BMT) if self.is_relative else mel_BMT
        found: torch.Tensor = self.blocks(self.first(heard))
        return found


class Prediction(NamedTuple):
    """What a front of units says of how they are spoken.

    Attributes:
        pitch, voicing, energy: [B, 2 T], of each mel frame: relative pitch, log-odds of a voice, relative loudness.
    """

    pitch: torch.Tensor
    voicing: torch.Tensor
    energy: torch.Tensor

    def prosody(self) -> torch.Tensor:
        """As ``prosody_of`` makes it, [B, 3, 2 T]."""
        is_voiced = self.voicing > 0
        return torch.stack([torch.where(is_voiced, self.pitch, 0.0), is_voiced.float(), self.energy], dim=1)


class UnitFront(nn.Module):
    """Content of speech units, with a small predictor of their lengths, pitch and loudness.

    Args:
        num_units: kinds of units.
        dim: width of the content; even.
    """

    def __init__(self, num_units: int, dim: int) -> None:
        super().__init__()
        self.symbols = SymbolFront(num_units, dim)
        self.of_frames = nn.Sequential(Residual(dim, dim), Residual(dim, dim), nn.Conv1d(dim, 2 * NUM_PROSODY, 1))
        self.run_embedding = nn.Embedding(num_units, dim)
        self.of_runs = nn.Sequential(
            nn.Conv1d(dim, dim, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv1d(dim, 1, 3, padding=1)
        )

    def forward(self, units_BT: torch.Tensor) -> torch.Tensor:
        """[B, dim, T] of the unit of each content frame, int64 [B, T]."""
        found: torch.Tensor = self.symbols(units_BT)
        return found

    def predict(self, content_BCT: torch.Tensor) -> Prediction:
        """Pitch, voicing and loudness of content of units."""
        pitch, voicing, energy = self.of_frames(content_BCT).unflatten(1, (NUM_PROSODY, 2)).mT.flatten(2).unbind(1)
        return Prediction(pitch, voicing, energy)

    def log_lengths(self, runs_BL: torch.Tensor) -> torch.Tensor:
        """Logarithm of the units that each run lasts, [B, L] of the unit of each run, int64 [B, L]."""
        found: torch.Tensor = self.of_runs(self.run_embedding(runs_BL).mT).squeeze(1)
        return found.clamp(0.0, _MOST_LOG_FRAMES)


class Reading(NamedTuple):
    """What a reader finds in a mel.

    Attributes:
        hidden: [B, C, T / 2].
        phones: logits, [B, num_phones, T / 2].
        pitch, voicing: [B, T]: standard logarithmic pitch, log-odds of a voice.
    """

    hidden: torch.Tensor
    phones: torch.Tensor
    pitch: torch.Tensor
    voicing: torch.Tensor


class Reader(nn.Module):
    """Reads phones and pitch from a mel: it judges what the decoder makes, and is not needed afterwards.

    It stands for two networks of the paper, the text aligner and the pitch network: phone times are known here.

    Args:
        num_phones: kinds of phones.
        dim: width; even.
    """

    def __init__(self, num_phones: int, dim: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(NUM_MELS, dim, 7, padding=3)
        self.blocks = nn.Sequential(Residual(dim, dim), Residual(dim, dim, resample=halved), Residual(dim, dim))
        self.lstm = nn.LSTM(dim, dim // 2, batch_first=True, bidirectional=True)
        self.phones = nn.Conv1d(dim, num_phones, 1)
        self.pitch = nn.Sequential(
            nn.Conv1d(dim + NUM_MELS, dim, 5, padding=2), nn.LeakyReLU(0.2), nn.Conv1d(dim, 2, 1)
        )

    def forward(self, mel_BMT: torch.Tensor) -> Reading:
        """Reads [B, 80, T]; T is even."""
        hidden = self.lstm(self.blocks(self.first(mel_BMT)).mT)[0].mT
        # Absolute pitch: the spectrum itself, which no norm has touched.
        pitch, voicing = self.pitch(torch.cat([doubled(hidden), mel_BMT], dim=1)).unbind(1)
        return Reading(hidden, self.phones(hidden), pitch, voicing)
