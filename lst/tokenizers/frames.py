"""What every frame encoder shares: its options, its interface, and the averaging of frames to units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from lst.errors import UserError

SUPERVISED_NOTE = (
    "The Whisper encoder was trained on transcribed speech: these units are supervised, not self-supervised."
)


@dataclass(frozen=True)
class EncoderOptions:
    """Which frames are wanted.

    Attributes:
        kind: mfcc, log_mel, hubert or whisper.
        frame_rate_hz: frames a second; averaged down from the model's own rate, which it must divide.
        weights: where the weights lie (see ``lst.tokenizers.weights``); None for kinds without.
        layer: output of which Transformer layer, 1 for the first.
        device: cpu or cuda.
        trust: whether weights may be unpickled.
    """

    kind: str
    frame_rate_hz: int = 25
    weights: str | None = None
    layer: int | None = None
    device: str = "cpu"
    trust: bool = False


class FrameEncoder(Protocol):
    """Feature frames of one waveform at a time.

    Attributes:
        num_features: width of a frame.
        frame_rate_hz: frames a second.
        scales_features: whether k-means sees features divided by their standard deviation (handmade features, whose
            dimensions have different units) or as they are (a model's, as published codebooks expect).
        spec: everything that decides the frames, as JSON: the kind, the layer, the SHA-256 of the weights.
        weights: where the weights were read from; None without.
    """

    @property
    def num_features(self) -> int: ...
    @property
    def frame_rate_hz(self) -> int: ...
    @property
    def scales_features(self) -> bool: ...
    @property
    def spec(self) -> dict[str, Any]: ...
    @property
    def weights(self) -> str | None: ...

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """float32 [num_frames, num_features] of float32 [num_samples] at 16 kHz."""
        ...


def pool_of(model_rate_hz: int, frame_rate_hz: int, what: str) -> int:
    """How many of a model's frames are averaged to one; raises ``UserError`` where the rates do not divide."""
    if frame_rate_hz < 1 or model_rate_hz % frame_rate_hz:
        raise UserError(
            f"tokenizer.frame_rate_hz={frame_rate_hz}: {what} gives {model_rate_hz} frames a second, which are "
            f"averaged in groups: choose {model_rate_hz} or a divisor of it"
        )
    return model_rate_hz // frame_rate_hz


def averaged_frames(frames: torch.Tensor, group: int) -> np.ndarray:
    """Means of ``group`` frames each, [ceil(n / group), width]; what is left over at the end is a shorter group."""
    if group > 1:
        whole = len(frames) // group * group
        parts = [frames[:whole].reshape(-1, group, frames.shape[1]).mean(dim=1)]
        if whole < len(frames):
            parts.append(frames[whole:].mean(dim=0, keepdim=True))
        frames = torch.cat(parts)
    averaged: np.ndarray = frames.float().cpu().numpy()
    return averaged


def check_layer(layer: int | None, num_layers: int, what: str) -> int:
    """The layer, 1 to ``num_layers``; raises ``UserError`` otherwise."""
    if layer is None or not 1 <= layer <= num_layers:
        raise UserError(f"tokenizer.layer={layer}: {what} has layers 1 to {num_layers}; set tokenizer.layer=N")
    return layer


def check_device(device: str) -> torch.device:
    """The torch device; raises ``UserError`` when it is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("tokenizer.device=cuda: torch sees no CUDA GPU here; use tokenizer.device=cpu")
    return torch.device(device)
