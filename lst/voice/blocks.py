"""Residual blocks of a voice's networks. Legend: B rows, C channels, T frames, M bins, S numbers of a style."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

_SLOPE, _EPSILON = 0.2, 1e-5
# Silence has no spread.
_LEAST_SPREAD = 0.05


def instance_norm(x_BCT: torch.Tensor) -> torch.Tensor:
    """Each channel of each row with mean 0 and spread 1 over time."""
    mean = x_BCT.mean(dim=-1, keepdim=True)
    variance = x_BCT.var(dim=-1, keepdim=True, unbiased=False)
    return (x_BCT - mean) * (variance + _EPSILON).rsqrt()


def mean_and_spread(x_BCT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each channel over time, [B, C] both; no spread is 0."""
    return x_BCT.mean(dim=-1), (x_BCT.var(dim=-1, unbiased=False) + _LEAST_SPREAD**2).sqrt()


def halved(x_BCT: torch.Tensor) -> torch.Tensor:
    """Means of two frames each, [B, C, T / 2]; T is even."""
    return x_BCT.unflatten(-1, (-1, 2)).mean(dim=-1)


def doubled(x_BCT: torch.Tensor) -> torch.Tensor:
    """Each frame twice, [B, C, 2 T]."""
    return x_BCT.unsqueeze(-1).expand(*x_BCT.shape, 2).flatten(-2)


def unchanged(x: torch.Tensor) -> torch.Tensor:
    """The same."""
    return x


class StyleNorm(nn.Module):
    """Instance norm whose scale and shift follow from a style (AdaIN; Huang and Belongie, 2017), or are learned.

    Args:
        dim: channels.
        style_dim: numbers of a style; 0 for a norm without one.
    """

    def __init__(self, dim: int, style_dim: int = 0) -> None:
        super().__init__()
        self.of_style = nn.Linear(style_dim, 2 * dim) if style_dim else None
        self.affine = None if style_dim else nn.Parameter(torch.zeros(2 * dim))

    def forward(self, x_BCT: torch.Tensor, style_BS: torch.Tensor | None = None) -> torch.Tensor:
        """[B, C, T]."""
        if self.of_style is None:
            assert self.affine is not None
            affine = self.affine.unsqueeze(0)
        else:
            assert style_BS is not None
            affine = self.of_style(style_BS)
        scale, shift = affine.unsqueeze(-1).chunk(2, dim=1)
        return instance_norm(x_BCT) * (1 + scale) + shift


class Residual(nn.Module):
    """Two convolutions of three frames beside a short cut.

    Args:
        dim_in, dim_out: channels before and after.
        style_dim: see ``StyleNorm``.
        resample: ``halved``, ``doubled`` or ``unchanged``.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        style_dim: int = 0,
        resample: Callable[[torch.Tensor], torch.Tensor] = unchanged,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.first_norm, self.second_norm = StyleNorm(dim_in, style_dim), StyleNorm(dim_out, style_dim)
        self.first, self.second = nn.Conv1d(dim_in, dim_out, 3, padding=1), nn.Conv1d(dim_out, dim_out, 3, padding=1)
        self.short_cut = nn.Conv1d(dim_in, dim_out, 1, bias=False) if dim_in != dim_out else nn.Identity()

    def forward(self, x_BCT: torch.Tensor, style_BS: torch.Tensor | None = None) -> torch.Tensor:
        """[B, dim_out, T], or half or double the frames."""
        hidden = functional.leaky_relu(self.first_norm(x_BCT, style_BS), _SLOPE)
        hidden = self.first(self.resample(hidden))
        hidden = self.second(functional.leaky_relu(self.second_norm(hidden, style_BS), _SLOPE))
        return (self.short_cut(self.resample(x_BCT)) + hidden) / math.sqrt(2)


class HalvingPicture(nn.Module):
    """Two convolutions over frames and bins beside a short cut, then half of both.

    Args:
        dim_in, dim_out: channels before and after.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(dim_in, dim_in, 3, padding=1), nn.Conv2d(dim_in, dim_out, 3, padding=1)
        self.short_cut = nn.Conv2d(dim_in, dim_out, 1, bias=False) if dim_in != dim_out else nn.Identity()

    def forward(self, x_BCMT: torch.Tensor) -> torch.Tensor:
        """[B, dim_out, M / 2, T / 2], both rounded up."""
        hidden = functional.avg_pool2d(self.first(functional.leaky_relu(x_BCMT, _SLOPE)), 2, ceil_mode=True)
        hidden = self.second(functional.leaky_relu(hidden, _SLOPE))
        return (self.short_cut(functional.avg_pool2d(x_BCMT, 2, ceil_mode=True)) + hidden) / math.sqrt(2)
