"""A small vocoder of our own: it restores the spectrum that a mel blurs, and Griffin and Lim find its phases.

::

    mel [80, T] ─┬─ convolution, ConvNeXt blocks ─ correction ─┐
                 └─ power that the bins imply ─────────────────┴─▶ spectrum [T, F] ─ phases ─▶ waveform

The network is that of Vocos (Siuzdak, 2023) but for its phases, which need a discriminator and days to be learned. It
learns from recordings alone, in minutes of one core.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from lst.voice.config import SpectrumConfig
from lst.voice.mel import LEAST_POWER, NUM_MELS, OFFSET, SCALE, MelScale

# Windows of ``spectral_distance``, in samples; hops are a quarter.
RESOLUTIONS = (256, 512, 1024)
# Power below this, and magnitudes below its root, are silence.
SILENT_POWER = 1e-10


class ConvNeXt(nn.Module):
    """A convolution of seven frames in each channel, a norm, and a layer three times as wide, beside a short cut.

    Args:
        dim: channels.
        num_layers: blocks in all; each adds its share.
    """

    def __init__(self, dim: int, num_layers: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv1d(dim, dim, 7, padding=3, groups=dim), nn.LayerNorm(dim)
        self.wide, self.narrow = nn.Linear(dim, 3 * dim), nn.Linear(3 * dim, dim)
        self.share = nn.Parameter(torch.full((dim,), 1 / num_layers))

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        """[B, T, C]."""
        hidden = functional.gelu(self.wide(self.norm(self.depthwise(x_BTC.mT).mT)))
        found: torch.Tensor = x_BTC + self.share * self.narrow(hidden)
        return found


class SpectrumNetwork(nn.Module):
    """From a mel to the spectrum that it was computed of.

    Args:
        config: sizes.
        scale: of the mel.
        seed: of the first weights.
    """

    def __init__(self, config: SpectrumConfig, scale: MelScale, seed: int = 0) -> None:
        super().__init__()
        self.config, self.scale = config, scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first, self.norm = nn.Conv1d(NUM_MELS, config.dim, 7, padding=3), nn.LayerNorm(config.dim)
            self.blocks = nn.Sequential(*(ConvNeXt(config.dim, config.layers) for _ in range(config.layers)))
            self.last, self.out = nn.LayerNorm(config.dim), nn.Linear(config.dim, scale.fft_samples // 2 + 1)
        # It begins with what the bins imply.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, mel_BMT: torch.Tensor) -> torch.Tensor:
        """Logarithm of the power of each frequency, float32 [B, T, F]."""
        hidden_BTC = self.blocks(self.norm(self.first(mel_BMT).mT))
        found: torch.Tensor = implied_power(mel_BMT, self.scale).log() + self.out(self.last(hidden_BTC))
        return found


def implied_power(mel_BMT: torch.Tensor, scale: MelScale) -> torch.Tensor:
    """Power of each frequency, float32 [B, T, F]: the mean of the bins that hold it, ``SILENT_POWER`` or more."""
    power_BTM = (mel_BMT * SCALE - OFFSET).exp().sub(LEAST_POWER).clamp(min=0).mT
    filters_FM = scale.filters.to(mel_BMT.device)
    # Low bins may lie between two frequencies.
    spread_BTF = power_BTM @ (filters_FM / filters_FM.sum(dim=0).clamp(min=1e-3)).T
    return spread_BTF / filters_FM.sum(dim=1).clamp(min=1e-3) + SILENT_POWER


def spectral_distance(made: torch.Tensor, wanted: torch.Tensor) -> float:
    """How far two waveforms are apart, at three resolutions; 0 for equal ones.

    The mean of two terms: of log magnitudes, and of magnitudes in proportion to those that are wanted.

    Args:
        made, wanted: float32 [num_samples].
    """
    terms = []
    for window_samples in RESOLUTIONS:
        window = torch.hann_window(window_samples)
        first, second = (
            torch.stft(
                waveform, window_samples, window_samples // 4, window=window, pad_mode="constant", return_complex=True
            )
            .abs()
            .clamp(min=SILENT_POWER**0.5)
            for waveform in (made, wanted)
        )
        terms += [(first.log() - second.log()).abs().mean(), (first - second).norm() / second.norm()]
    return float(torch.stack(terms).sum()) / len(RESOLUTIONS)
