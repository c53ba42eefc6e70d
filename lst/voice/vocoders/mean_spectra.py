"""A vocoder for units of any kind: each unit sounds like the mean of all that it stood for.

::

    FOLDER/voice.safetensors    tensors log_power [K, 3, F], or [K, F] of an earlier version, and mean_frames [K];
                                metadata ``lst``: ``VoiceDescription``

Every third of a unit has a mean log-power spectrum, fitted to speech whose units are known: speech changes within
40 ms. Neighbouring spectra run into each other; the algorithm of Griffin and Lim (1984), in its fast form (Perraudin
et al., 2013), finds phases for them. A mean over speakers has no pitch, so the voice whispers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypedDict

import numpy as np
import torch
from safetensors.numpy import save

from lst.errors import UserError
from lst.storage import Between, FormatError, parse_json, write_bytes
from lst.storage.tensors import read_header
from lst.tokenizers.speech import reduplicate
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.voice.vocoders.interface import finished

VOICE_FILE = "voice.safetensors"
VOICE_FORMAT: Literal["lst-mean-spectra-1"] = "lst-mean-spectra-1"
FFT_SAMPLES, HOP_SAMPLES = 512, 128
NUM_BINS = FFT_SAMPLES // 2 + 1
# Parts of a unit, each with a spectrum.
NUM_PARTS = 3
NUM_ITERATIONS, MOMENTUM = 40, 0.99
# Power below this is silence.
LEAST_POWER = 1e-7
# Largest values of a voice that anybody fitted.
_MOST = {"log_power": 50.0, "mean_frames": 1000.0}
_REMEDY = "Put the original file back, or write the folder again with lst export hub=FOLDER."


class _Sizes(NamedTuple):
    """Of spectra, in samples."""

    fft_samples: int
    hop_samples: int
    window_samples: int


_OF_UNITS = _Sizes(FFT_SAMPLES, HOP_SAMPLES, FFT_SAMPLES)


class VoiceDescription(TypedDict):
    """What ``voice.safetensors`` says of itself, as JSON in its metadata.

    Keys:
        frame_rate_hz: units a second.
        duration_s: of the speech that it was fitted to.
    """

    format: Literal["lst-mean-spectra-1"]
    frame_rate_hz: Annotated[int, Between(1, 100)]
    duration_s: Annotated[float, Between(0)]


@dataclass(frozen=True)
class MeanSpectra:
    """A vocoder of mean spectra; see ``lst.voice.vocoders.interface.Vocoder``.

    Attributes:
        log_power: float32 [K, S, F], natural logarithm of the power a frequency in each part of a unit, F = 257.
        mean_frames: float32 [K], how long a run of each unit lasts.
        frame_rate_hz: units a second.
        duration_s: of the speech that it was fitted to.
    """

    log_power: np.ndarray
    mean_frames: np.ndarray
    frame_rate_hz: int
    duration_s: float

    name = "Griffin-Lim over the units' mean spectra"
    sample_rate_hz = SAMPLE_RATE_HZ

    def __repr__(self) -> str:
        return f"MeanSpectra({len(self.log_power)} units, fitted to {self.duration_s:.0f} s of speech)"

    def sound(self, units: np.ndarray, is_deduplicated: bool = False) -> np.ndarray:
        """See ``Vocoder``."""
        if not len(units):
            return np.zeros(0, np.float32)
        if is_deduplicated:
            units = reduplicate(units, np.maximum(self.mean_frames[units].round(), 1).astype(np.int64))
        num_samples = round(len(units) * self.sample_rate_hz / self.frame_rate_hz)
        spectra = self.log_power[units].reshape(-1, NUM_BINS)
        part_rate_hz = self.frame_rate_hz * self.log_power.shape[1]
        # Where the hops lie among the middles of the parts.
        places = np.arange(num_samples // HOP_SAMPLES + 1) * HOP_SAMPLES * part_rate_hz / self.sample_rate_hz
        places = np.clip(places - 0.5, 0, len(spectra) - 1)
        before = places.astype(np.int64)
        share = (places - before).astype(np.float32)[:, None]
        log_power = spectra[before] * (1 - share) + spectra[np.minimum(before + 1, len(spectra) - 1)] * share
        return finished(griffin_lim(np.exp(log_power / 2), num_samples), self.sample_rate_hz)

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        described: VoiceDescription = {
            "format": VOICE_FORMAT,
            "frame_rate_hz": self.frame_rate_hz,
            "duration_s": self.duration_s,
        }
        tensors = {"log_power": self.log_power.astype("<f4"), "mean_frames": self.mean_frames.astype("<f4")}
        write_bytes(path, save(tensors, metadata={"lst": json.dumps(described, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path, num_units: int) -> MeanSpectra:
        """Reads what ``save`` wrote, for a codebook of ``num_units``.

        Raises:
            UserError: the file is missing, damaged, or of another codebook.
        """
        file = read_header(path, "the model's voice is", _REMEDY)
        found = {name: info.shape for name, info in file.tensors.items()}
        parts = [] if len(found.get("log_power", [])) == 2 else [NUM_PARTS]
        needed = {"log_power": [num_units, *parts, NUM_BINS], "mean_frames": [num_units]}
        try:
            described = parse_json(file.metadata.get("lst", "{}").encode(), VoiceDescription)
            if found != needed:
                raise FormatError(f"holds tensors of shapes {found}, needed are {needed}")
            tensors = {name: tensor.float().numpy() for name, tensor in file.read().items()}
            if not all((np.abs(tensors[name]) <= most).all() for name, most in _MOST.items()):
                raise FormatError(f"holds values that are not finite, or larger than those of speech ({_MOST})")
        except FormatError as error:
            raise UserError(f"the model's voice is damaged: {path} {error}. {_REMEDY}") from None
        tensors["log_power"] = tensors["log_power"].reshape(num_units, -1, NUM_BINS)
        return cls(**tensors, frame_rate_hz=described["frame_rate_hz"], duration_s=described["duration_s"])


def fit_spectra(
    speech: Iterable[tuple[np.ndarray, np.ndarray]], num_units: int, frame_rate_hz: int
) -> MeanSpectra | None:
    """Fits the spectra and durations of units; None where no speech is given.

    Args:
        speech: the waveform of each utterance, float32 [num_samples] at 16 kHz, and its units, int [num_frames].
        num_units: K. A unit that does not occur gets the mean of all.
        frame_rate_hz: units a second.
    """
    num_parts, part_rate_hz = num_units * NUM_PARTS, frame_rate_hz * NUM_PARTS
    sums, counts = torch.zeros(num_parts, NUM_BINS, dtype=torch.float64), np.zeros(num_parts)
    frames, runs = np.zeros(num_units), np.zeros(num_units)
    num_samples = 0
    for waveform, units in speech:
        log_power = _stft(torch.from_numpy(waveform)).abs().square().clamp(min=LEAST_POWER).log().T
        hops = np.arange(len(log_power)) * HOP_SAMPLES * part_rate_hz // SAMPLE_RATE_HZ
        parts = (units.astype(np.int64)[:, None] * NUM_PARTS + np.arange(NUM_PARTS)).reshape(-1)
        own = parts[np.minimum(hops, len(parts) - 1)]
        sums.index_add_(0, torch.from_numpy(own), log_power.double())
        counts += np.bincount(own, minlength=num_parts)
        frames += np.bincount(units, minlength=num_units)
        begins = np.append(True, units[1:] != units[:-1])
        runs += np.bincount(units[begins], minlength=num_units)
        num_samples += len(waveform)
    if not num_samples:
        return None
    is_there, is_said = counts > 0, runs > 0
    total = sums.numpy()
    means = np.where(is_there[:, None], total / np.maximum(counts, 1)[:, None], total.sum(axis=0) / counts.sum())
    mean_frames = np.where(is_said, frames / np.maximum(runs, 1), frames.sum() / runs.sum())
    return MeanSpectra(
        means.astype(np.float32).reshape(num_units, NUM_PARTS, NUM_BINS),
        mean_frames.astype(np.float32),
        frame_rate_hz,
        num_samples / SAMPLE_RATE_HZ,
    )


def griffin_lim(
    magnitude_TF: np.ndarray,
    num_samples: int,
    fft_samples: int = FFT_SAMPLES,
    hop_samples: int = HOP_SAMPLES,
    window_samples: int = FFT_SAMPLES,
) -> np.ndarray:
    """A waveform, float32 [num_samples], whose spectra have these magnitudes, as nearly as can be.

    Args:
        magnitude_TF: float32 [T, F], T = num_samples // hop + 1.
        num_samples: of the waveform.
        fft_samples, hop_samples, window_samples: of the spectra; F = fft_samples / 2 + 1.
    """
    sizes = _Sizes(fft_samples, hop_samples, window_samples)
    magnitude = torch.from_numpy(magnitude_TF.T.astype(np.float32))
    # Always the same phases to begin with: equal units sound alike.
    generator = torch.Generator().manual_seed(0)
    angles = torch.exp(2j * torch.pi * torch.rand(magnitude.shape, generator=generator))
    before = torch.zeros_like(angles)
    for _ in range(NUM_ITERATIONS):
        rebuilt = _stft(_istft(magnitude * angles, num_samples, sizes), sizes)
        angles = rebuilt - before * (MOMENTUM / (1 + MOMENTUM))
        angles = angles / angles.abs().clamp(min=1e-16)
        before = rebuilt
    found: np.ndarray = _istft(magnitude * angles, num_samples, sizes).numpy()
    return found


def _stft(waveform: torch.Tensor, sizes: _Sizes = _OF_UNITS) -> torch.Tensor:
    """complex64 [F, num_samples // hop + 1]."""
    window = torch.hann_window(sizes.window_samples)
    return torch.stft(waveform, *sizes, window=window, pad_mode="constant", return_complex=True)


def _istft(spectrum: torch.Tensor, num_samples: int, sizes: _Sizes) -> torch.Tensor:
    return torch.istft(spectrum, *sizes, window=torch.hann_window(sizes.window_samples), length=num_samples)
