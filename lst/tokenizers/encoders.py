"""Encoders of a waveform to the feature frames of k-means, built from options and recorded as a spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from lst.errors import UserError
from lst.tokenizers.config import ENCODERS
from lst.tokenizers.frames import EncoderOptions, EncoderSpec, FrameEncoder
from lst.tokenizers.units import NUM_FEATURES, NUM_MELS, log_mel_features, mfcc_features
from lst.tokenizers.weights import check_chosen


@dataclass(frozen=True)
class AcousticEncoder:
    """MFCC or log-mel frames: an encoder without weights.

    Attributes:
        kind: mfcc or log_mel.
        frame_rate_hz: frames a second; divides 100.
    """

    kind: str
    frame_rate_hz: int
    scales_features: bool = True
    weights: str | None = None

    @property
    def num_features(self) -> int:
        """Width of a frame: 39 for MFCC, 80 for log-mel."""
        return NUM_FEATURES if self.kind == "mfcc" else NUM_MELS

    @property
    def spec(self) -> EncoderSpec:
        """Everything that decides the frames besides the rate."""
        return {"kind": self.kind}

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """float32 [num_frames, num_features] of float32 [num_samples] at 16 kHz."""
        features = mfcc_features if self.kind == "mfcc" else log_mel_features
        return features(waveform, self.frame_rate_hz)


def build_acoustic_encoder(options: EncoderOptions) -> AcousticEncoder:
    """The encoder of a kind and a rate; raises ``UserError`` where the rate does not divide 100."""
    if options.frame_rate_hz < 1 or 100 % options.frame_rate_hz:
        raise UserError(
            f"tokenizer.frame_rate_hz={options.frame_rate_hz}: {options.kind} frames are averages of frames of 10 ms, "
            "so it must divide 100"
        )
    return AcousticEncoder(options.kind, options.frame_rate_hz)


def build_encoder(options: EncoderOptions) -> FrameEncoder:
    """Builds the encoder of a kind; a model's weights are read and hashed.

    Raises:
        UserError: the kind is unknown, the weights, layer or rate are missing or unfit, a package is missing, or a file
            names weights that only a user may choose.
    """
    if options.kind not in ENCODERS:
        raise UserError(f"tokenizer.kind={options.kind}: k-means units are made of {', '.join(ENCODERS)}")
    check_chosen(options.weights, options.named_in)
    module, _, function = ENCODERS[options.kind].partition(":")
    build: Callable[[EncoderOptions], FrameEncoder] = getattr(import_module(module), function)
    return build(options)
