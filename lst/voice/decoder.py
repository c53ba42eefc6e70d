"""From content, prosody and a style to a mel."""

from __future__ import annotations

import torch
from torch import nn

from lst.voice.blocks import Residual, doubled
from lst.voice.config import VoiceModelConfig
from lst.voice.mel import NUM_MELS
from lst.voice.pitch import NUM_PROSODY


class Decoder(nn.Module):
    """Two residual blocks with instance norms, then five with norms that follow the style; the third doubles time.

    Args:
        config: gives the widths.
    """

    def __init__(self, config: VoiceModelConfig) -> None:
        super().__init__()
        content, wide, style = config.content_dim, config.decoder_dim, config.style_dim
        beside = max(content // 8, 1)
        self.prosody = nn.Conv1d(NUM_PROSODY, NUM_PROSODY, 3, stride=2, padding=1)
        self.beside = nn.Conv1d(content, beside, 1)
        self.encode = nn.ModuleList([Residual(content + NUM_PROSODY, wide), Residual(wide, wide)])
        joined = wide + beside + NUM_PROSODY
        self.slow = nn.ModuleList(
            [
                Residual(joined, wide, style),
                Residual(joined, wide, style),
                Residual(joined, content, style, resample=doubled),
            ]
        )
        self.fast = nn.ModuleList([Residual(content + NUM_PROSODY, content, style), Residual(content, content, style)])
        self.out = nn.Conv1d(content, NUM_MELS, 1)
        self.style_dim, self.is_relative = style, config.relative

    def forward(self, content_BCT: torch.Tensor, prosody_BPT: torch.Tensor, style_BS: torch.Tensor) -> torch.Tensor:
        """A mel, [B, 80, 2 T], of content [B, C, T], prosody [B, 3, 2 T] and style [B, S]."""
        learned_BS = style_BS[:, : self.style_dim]
        prosody = self.prosody(prosody_BPT)
        x = torch.cat([content_BCT, prosody], dim=1)
        for block in self.encode:
            x = block(x)
        # Norms thin content and prosody out: each block is told them anew.
        again = torch.cat([self.beside(content_BCT), prosody], dim=1)
        for block in self.slow:
            x = block(torch.cat([x, again], dim=1), learned_BS)
        x = torch.cat([x, prosody_BPT], dim=1)
        for block in self.fast:
            x = block(x, learned_BS)
        found: torch.Tensor = self.out(x)
        if not self.is_relative:
            return found
        mean_BM, spread_BM = style_BS[:, self.style_dim :].chunk(2, dim=1)
        return mean_BM.unsqueeze(-1) + spread_BM.unsqueeze(-1) * found
