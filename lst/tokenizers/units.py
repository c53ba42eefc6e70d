"""Speech units: MFCC features quantised by k-means, at 25 units a second.

Cepstra are mean-normalised over the utterance (which takes out much of the channel and the speaker) and scaled by the
training set's deviation; a unit is the nearest centroid. An utterance's units depend on that utterance alone, never on
what it is batched with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lst.errors import UserError
from lst.files import write_bytes
from lst.lazy import import_torchaudio

SAMPLE_RATE_HZ = 16_000
MFCC_HOP_SAMPLES = 160
MFCC_WINDOW_SAMPLES = 400
NUM_CEPSTRA = 13
NUM_FEATURES = 3 * NUM_CEPSTRA
FORMAT = "lst-mfcc-kmeans-1"


def num_units_in(num_samples: int, frame_rate_hz: int = 25) -> int:
    """How many units ``num_samples`` samples at 16 kHz give: one for every begun frame."""
    hop_samples = SAMPLE_RATE_HZ // frame_rate_hz
    return -(-num_samples // hop_samples)


def mfcc_features(waveform: np.ndarray, frame_rate_hz: int = 25) -> np.ndarray:
    """MFCC with first and second differences, averaged down to ``frame_rate_hz``.

    Args:
        waveform: float32 [num_samples], mono, 16 kHz.
        frame_rate_hz: frames a second; must divide 100.

    Returns:
        float32 [num_frames, 39], cepstral mean of the utterance removed, num_frames = ceil(num_samples / hop).
    """
    torchaudio = import_torchaudio()
    if waveform.ndim != 1 or waveform.size == 0:
        raise UserError(f"a waveform must be mono and not empty; its shape is {waveform.shape}")
    num_frames = num_units_in(waveform.size, frame_rate_hz)
    transform = torchaudio.transforms.MFCC(
        sample_rate=SAMPLE_RATE_HZ,
        n_mfcc=NUM_CEPSTRA,
        log_mels=True,
        melkwargs={
            "n_fft": MFCC_WINDOW_SAMPLES,
            "hop_length": MFCC_HOP_SAMPLES,
            "n_mels": 40,
            # Reflection needs more samples than half a window; zeros serve the shortest sounds too.
            "pad_mode": "constant",
        },
    )
    with torch.inference_mode():
        cepstra = transform(torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)))
        cepstra = cepstra - cepstra.mean(dim=1, keepdim=True)
        deltas = torchaudio.functional.compute_deltas(cepstra)
        features = torch.cat([cepstra, deltas, torchaudio.functional.compute_deltas(deltas)]).T
        frames_a_unit = SAMPLE_RATE_HZ // MFCC_HOP_SAMPLES // frame_rate_hz
        missing = num_frames * frames_a_unit - features.shape[0]
        if missing > 0:
            features = torch.cat([features, features[-1:].expand(missing, -1)])
        features = features[: num_frames * frames_a_unit]
        return features.reshape(num_frames, frames_a_unit, NUM_FEATURES).mean(dim=1).numpy()


@dataclass(frozen=True)
class UnitCodec:
    """Nearest-centroid quantiser of MFCC features.

    Attributes:
        centroids: float32 [num_units, 39], in scaled feature space.
        feature_scale: float32 [39], one over the training set's standard deviation.
        frame_rate_hz: units a second.
    """

    centroids: np.ndarray
    feature_scale: np.ndarray
    frame_rate_hz: int = 25

    @property
    def num_units(self) -> int:
        return int(self.centroids.shape[0])

    @property
    def sha256(self) -> str:
        """Hash of the codebook's file content; shards record it."""
        return hashlib.sha256(self._to_bytes()).hexdigest()

    def encode(self, waveform: np.ndarray, sample_rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
        """Units of one utterance.

        Args:
            waveform: float32 [num_samples], mono.
            sample_rate_hz: must be 16,000; resample before.

        Returns:
            uint16 [ceil(num_samples · frame_rate_hz / 16000)].
        """
        if sample_rate_hz != SAMPLE_RATE_HZ:
            raise UserError(f"units need audio at {SAMPLE_RATE_HZ} Hz, not {sample_rate_hz}: resample it first")
        features = mfcc_features(waveform, self.frame_rate_hz) * self.feature_scale
        # argmin |x−c|² = argmax x·c − |c|²/2, which needs one matrix product.
        scores = features @ self.centroids.T - 0.5 * np.square(self.centroids).sum(axis=1)
        return scores.argmax(axis=1).astype(np.uint16)

    def _to_bytes(self) -> bytes:
        metadata = {"lst": json.dumps({"format": FORMAT, "frame_rate_hz": self.frame_rate_hz}, sort_keys=True)}
        tensors = {"centroids": self.centroids.astype("<f4"), "feature_scale": self.feature_scale.astype("<f4")}
        return save(tensors, metadata=metadata)

    def save(self, path: Path) -> None:
        """Writes the codebook as safetensors."""
        write_bytes(path, self._to_bytes())

    @classmethod
    def load(cls, path: Path) -> UnitCodec:
        """Reads a codebook; raises ``UserError`` when it is missing, damaged or of another kind."""
        remedy = "Make it again with lst prepare, or name the right run with run_dir=FOLDER."
        if not path.exists():
            raise UserError(f"the unit codebook is missing: {path}. {remedy}")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = json.loads((file.metadata() or {}).get("lst", "{}"))
                if metadata.get("format") != FORMAT:
                    raise UserError(
                        f"{path} holds {metadata.get('format', 'no unit codebook of this project')!r}, not {FORMAT!r}. "
                        + remedy
                    )
                centroids, scale = file.get_tensor("centroids"), file.get_tensor("feature_scale")
                frame_rate_hz = int(metadata["frame_rate_hz"])
        except (SafetensorError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"the unit codebook {path} is damaged ({error}). {remedy}") from None
        if centroids.ndim != 2 or centroids.shape[1] != NUM_FEATURES or scale.shape != (NUM_FEATURES,):
            raise UserError(f"{path}: centroids {centroids.shape}, scale {scale.shape}; expected [k, {NUM_FEATURES}]")
        return cls(centroids, scale, frame_rate_hz)


def fit_unit_codec(
    features: Iterable[np.ndarray], num_units: int, seed: int, frame_rate_hz: int = 25, max_frames: int = 400_000
) -> UnitCodec:
    """Fits k-means to the features of the training split.

    Args:
        features: float32 [num_frames, 39] an utterance, as ``mfcc_features`` gives them.
        num_units: size of the codebook, k.
        seed: of the k-means++ start, of the mini-batches, and of the sample of frames.
        frame_rate_hz: recorded in the codec.
        max_frames: at most this many frames, drawn at random, enter the fit.

    Raises:
        UserError: there are fewer frames than units.
    """
    from sklearn.cluster import MiniBatchKMeans

    frames = np.concatenate([np.zeros((0, NUM_FEATURES), np.float32), *features])
    if len(frames) < num_units:
        raise UserError(
            f"{len(frames)} frames of training speech ({len(frames) / frame_rate_hz:.1f} s) are too few for "
            f"{num_units} units: add speech or set tokenizer.num_units to at most {len(frames)}"
        )
    if len(frames) > max_frames:
        kept = np.random.default_rng(seed).choice(len(frames), max_frames, replace=False)
        frames = frames[np.sort(kept)]
    scale = (1.0 / np.maximum(frames.std(axis=0), 1e-5)).astype(np.float32)
    kmeans = MiniBatchKMeans(
        num_units, random_state=seed, batch_size=4096, n_init=3, max_iter=100, reassignment_ratio=0.01
    ).fit(frames * scale)
    return UnitCodec(kmeans.cluster_centers_.astype(np.float32), scale, frame_rate_hz)
