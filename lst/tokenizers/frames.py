"""What every frame encoder shares: its options, its interface, and the averaging of frames to the rate of units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

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
        kind: one of ``lst.tokenizers.config.ENCODERS``.
        frame_rate_hz: frames a second. The model's own frames are averaged down to this rate, which divides theirs.
        weights: where the weights are (see ``lst.tokenizers.weights``); None for kinds without weights.
        layer: the Transformer layer whose output is used, 1 for the first.
        device: cpu or cuda.
        trust: whether weights may be pickles.
        named_in: the units file that names the weights; empty where the user does.
    """

    kind: str
    frame_rate_hz: int = 25
    weights: str | None = None
    layer: int | None = None
    device: str = "cpu"
    trust: bool = False
    named_in: str = ""


class EncoderSpec(TypedDict, total=False):
    """Everything that decides the frames of an encoder (or the codes of a codec), as units files record it.

    ``kind`` is always there. The others are there where the kind has them.
    """

    kind: str
    layer: int
    normalize_audio: bool
    weights_sha256: str
    architecture: dict[str, Any]
    note: str
    num_codebooks: int
    codebook_pattern: str


class FrameEncoder(Protocol):
    """Feature frames of one waveform at a time."""

    @property
    def num_features(self) -> int:
        """Width of a frame."""

    @property
    def frame_rate_hz(self) -> int:
        """Frames a second."""

    @property
    def scales_features(self) -> bool:
        """Whether k-means divides features by their standard deviation.

        It does for handmade features, whose dimensions have different units. A model's features stay as they are, as
        published codebooks expect.
        """

    @property
    def spec(self) -> EncoderSpec:
        """Everything that decides the frames."""

    @property
    def weights(self) -> str | None:
        """Where the weights were read from; None without weights."""

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """float32 [num_frames, num_features] of float32 [num_samples] at 16 kHz."""


class ModelEncoder:
    """What the encoders with a model share.

    Args:
        model: the layers up to the wanted one, with their weights.
        options: the wanted rate, layer and device.
        model_rate_hz: the model's own frames a second.
        what: the model, for errors.
        sha256: hash of the weights.
        weights: where the weights were read from.

    Attributes:
        group: how many of the model's frames are averaged to one.

    Raises:
        UserError: the device is missing, or the wanted rate does not divide the model's.
    """

    scales_features = False

    def __init__(
        self, model: Any, options: EncoderOptions, model_rate_hz: int, what: str, sha256: str, weights: str
    ) -> None:
        self.device = check_device(options.device)
        self.model = model.to(self.device).eval()
        self.layer, self.frame_rate_hz = options.layer or 1, options.frame_rate_hz
        self.sha256 = sha256
        self.weights: str | None = weights
        if self.frame_rate_hz < 1 or model_rate_hz % self.frame_rate_hz:
            raise UserError(
                f"tokenizer.frame_rate_hz={self.frame_rate_hz}: {what} gives {model_rate_hz} frames a second, which "
                f"are averaged in groups: choose {model_rate_hz} or a divisor of it"
            )
        self.group = model_rate_hz // self.frame_rate_hz

    def samples(self, waveform: np.ndarray) -> torch.Tensor:
        """A waveform, float [num_samples], as a float32 tensor on the model's device."""
        return torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)).to(self.device)

    def averaged(self, pieces: list[torch.Tensor]) -> np.ndarray:
        """Means of ``group`` frames each, float32 [ceil(n / group), width], of the joined pieces [n, width].

        The last group is shorter where ``group`` does not divide n.
        """
        frames = torch.cat(pieces)
        if self.group > 1:
            whole = len(frames) // self.group * self.group
            parts = [frames[:whole].reshape(-1, self.group, frames.shape[1]).mean(dim=1)]
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
    """The torch device; raises ``UserError`` when this machine does not have it."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("tokenizer.device=cuda: torch sees no CUDA GPU here; use tokenizer.device=cpu")
    return torch.device(device)
