"""What turns a waveform into feature frames for k-means: one interface, built from options, recorded as a spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lst.errors import UserError
from lst.tokenizers.frames import EncoderOptions, FrameEncoder
from lst.tokenizers.units import NUM_FEATURES, NUM_MELS, log_mel_features, mfcc_features


@dataclass(frozen=True)
class AcousticEncoder:
    """MFCC or log-mel frames: no weights."""

    kind: str
    frame_rate_hz: int
    scales_features: bool = True
    weights: str | None = None

    @property
    def num_features(self) -> int:
        return NUM_FEATURES if self.kind == "mfcc" else NUM_MELS

    @property
    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind}

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        features = mfcc_features if self.kind == "mfcc" else log_mel_features
        return features(waveform, self.frame_rate_hz)


def _acoustic(options: EncoderOptions) -> FrameEncoder:
    if options.frame_rate_hz < 1 or 100 % options.frame_rate_hz:
        raise UserError(
            f"tokenizer.frame_rate_hz={options.frame_rate_hz}: {options.kind} frames are averages of frames of 10 ms, "
            "so it must divide 100"
        )
    return AcousticEncoder(options.kind, options.frame_rate_hz)


def _hubert(options: EncoderOptions) -> FrameEncoder:
    from lst.tokenizers.hubert_encoder import build_hubert_encoder

    return build_hubert_encoder(options)


def _whisper(options: EncoderOptions) -> FrameEncoder:
    from lst.tokenizers.whisper_encoder import build_whisper_encoder

    return build_whisper_encoder(options)


BUILDERS: dict[str, Callable[[EncoderOptions], FrameEncoder]] = {
    "mfcc": _acoustic,
    "log_mel": _acoustic,
    "hubert": _hubert,
    "whisper": _whisper,
}


def build_encoder(options: EncoderOptions) -> FrameEncoder:
    """The encoder of a kind, its weights read and hashed.

    Raises:
        UserError: the kind is unknown, weights or the layer are missing or unfit, a package is absent.
    """
    if options.kind not in BUILDERS:
        raise UserError(f"tokenizer.kind={options.kind}: k-means units are made of {', '.join(BUILDERS)}")
    return BUILDERS[options.kind](options)
