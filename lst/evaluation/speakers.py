"""How alike two voices are: by a speaker encoder, or by their mean spectra where no encoder is given.

The speaker encoder is that of Resemblyzer (Wan et al., 2018; Apache-2.0): its weights are a pickle, ``pretrained.pt``,
so they are read only where the user trusts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from lst.errors import UserError
from lst.lazy import import_torchaudio
from lst.tokenizers.trusted import read_torch_pickle
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.voice.mel import MelScale, evened

_MELS, _WIDTH, _LAYERS = 40, 256, 3
_FFT_SAMPLES, _HOP_SAMPLES = 400, 160
# Pieces of 1.6 s that begin every 0.8 s, at −30 dB of full scale or more.
_PIECE_FRAMES, _STEP_FRAMES, _LEVEL = 160, 80, 10 ** (-30 / 20)


class SpeakerMeasure(Protocol):
    """Vectors of voices, whose cosine says how alike they are."""

    @property
    def name(self) -> str:
        """What it is, for people."""

    def vector(self, waveform: np.ndarray) -> np.ndarray:
        """float32 [dim], of length 1, of float32 [num_samples] at 16 kHz."""


@dataclass(frozen=True)
class SpectralMeasure:
    """Mean and spread of each bin of the mel, less their own mean: tells apart timbres, and channels too."""

    name = "mean spectra (no speaker encoder)"

    def vector(self, waveform: np.ndarray) -> np.ndarray:
        """See ``SpeakerMeasure``."""
        mel = MelScale(SAMPLE_RATE_HZ).mel(evened(waveform))
        found = [part - part.mean() for part in (mel.mean(axis=1), mel.std(axis=1))]
        return _unit(np.concatenate(found))


class SpeakerEncoder(nn.Module):
    """Three layers of an LSTM over mels of 40 bins, and a linear layer.

    Args:
        weights: by name; see ``load_speaker_encoder``.
    """

    name = "speaker encoder (Resemblyzer)"

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_MELS, _WIDTH, _LAYERS, batch_first=True)
        self.linear = nn.Linear(_WIDTH, _WIDTH)
        self.load_state_dict({name: weights[name] for name in self.state_dict()})
        self.eval()

    @torch.inference_mode()
    def vector(self, waveform: np.ndarray) -> np.ndarray:
        """See ``SpeakerMeasure``: the mean over pieces."""
        level = float(np.sqrt(np.mean(waveform**2)))
        samples = torch.from_numpy(waveform * np.float32(max(1.0, _LEVEL / max(level, 1e-6))))
        window = torch.hann_window(_FFT_SAMPLES)
        spectrum = torch.stft(
            samples, _FFT_SAMPLES, _HOP_SAMPLES, window=window, pad_mode="constant", return_complex=True
        )
        filters = import_torchaudio().functional.melscale_fbanks(
            _FFT_SAMPLES // 2 + 1, 0.0, SAMPLE_RATE_HZ / 2, _MELS, SAMPLE_RATE_HZ, norm="slaney", mel_scale="slaney"
        )
        mel = spectrum.abs().square().T @ filters
        mel = torch.cat([mel, mel.new_zeros(max(0, _PIECE_FRAMES - len(mel)), _MELS)])
        pieces = mel.unfold(0, _PIECE_FRAMES, _STEP_FRAMES).mT
        hidden = self.lstm(pieces)[1][0][-1]
        vectors = nn.functional.normalize(torch.relu(self.linear(hidden)), dim=1)
        return _unit(vectors.mean(dim=0).numpy())


def load_speaker_encoder(path: Path, trust: bool) -> SpeakerEncoder:
    """The encoder of Resemblyzer's ``pretrained.pt``.

    Raises:
        UserError: the file is missing, is not trusted, or is not of such an encoder.
    """
    if not path.is_file():
        raise UserError(f"eval.speaker_weights={path}: there is no such file")
    if not trust:
        raise UserError(
            f"eval.speaker_weights={path} is a pickle, which can run any program when it is read: if you trust whoever "
            "published it, add eval.trust=true"
        )
    content = read_torch_pickle(path, trust)
    try:
        return SpeakerEncoder(content["model_state"])
    except (KeyError, TypeError, RuntimeError, AttributeError):
        raise UserError(f"{path} holds no speaker encoder of Resemblyzer: give its pretrained.pt") from None


def _unit(vector: np.ndarray) -> np.ndarray:
    found: np.ndarray = (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)
    return found
