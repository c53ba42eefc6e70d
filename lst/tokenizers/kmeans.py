"""Units by quantised frames: an encoder, and a codebook that names the nearest of its centroids.

::

    waveform ── encoder ──► frames [n, D] ── · scale ──► quantiser ──► units [n]

A file holds the quantiser's tensors and, as JSON, what the encoder was: its kind, layer and the SHA-256 of its weights.
The weights themselves stay where they are; where that was is noted in the file but is no part of its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from lst.errors import UserError, raise_problems
from lst.parallel import one_thread
from lst.storage import differing_settings, write_bytes
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.frames import EncoderOptions, FrameEncoder
from lst.tokenizers.units import SAMPLE_RATE_HZ, at_rate

# MFCC codebooks keep the format that they have always had, so that old data stays readable and hashes stay the same.
MFCC_FORMAT, FORMAT = "lst-mfcc-kmeans-1", "lst-units-2"
MAX_UNITS = 65_535
# Rows beyond the sample that may wait before the sample is drawn again.
WAITING_SHARE = 0.5


@dataclass(frozen=True)
class Centroids:
    """Nearest centroid of scaled features.

    Attributes:
        centroids: float32 [num_units, D], in scaled feature space.
        feature_scale: float32 [D], what features are multiplied by.
    """

    centroids: np.ndarray
    feature_scale: np.ndarray
    form = "centroids"

    @property
    def num_units(self) -> int:
        return int(self.centroids.shape[0])

    @property
    def num_features(self) -> int:
        return int(self.centroids.shape[1])

    def quantise(self, frames: np.ndarray) -> np.ndarray:
        """uint16 [n] of float32 [n, D]."""
        features = frames * self.feature_scale
        # argmin |x−c|² = argmax x·c − |c|²/2, which needs one matrix product.
        scores = features @ self.centroids.T - 0.5 * np.square(self.centroids).sum(axis=1)
        return scores.argmax(axis=1).astype(np.uint16)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"centroids": self.centroids.astype("<f4"), "feature_scale": self.feature_scale.astype("<f4")}


@dataclass(frozen=True)
class Classifier:
    """A small network that names the unit, trained with a CTC loss so that noise changes little (Gat et al., 2023).

    It is what the published 25 Hz codebook of 500 units is. Its last class is the loss's blank: that makes 501. A blank
    frame takes the unit before it (the first ones, that of the utterance's end), so a blank itself is only left where
    an utterance has nothing else.

    Attributes:
        weights: float32 [out, in] a layer; leaky ReLU between them.
        biases: float32 [out] a layer.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    form = "classifier"

    @property
    def num_units(self) -> int:
        return int(self.weights[-1].shape[0])

    @property
    def num_features(self) -> int:
        return int(self.weights[0].shape[1])

    def quantise(self, frames: np.ndarray) -> np.ndarray:
        """uint16 [n] of float32 [n, D]."""
        hidden = frames
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight.T + bias
            if index < len(self.weights) - 1:
                hidden = np.where(hidden >= 0, hidden, np.float32(0.01) * hidden)
        units = hidden.argmax(axis=1)
        spoken = np.flatnonzero(units != self.num_units - 1)
        if len(spoken):
            # The last one at or before each frame; −1, before the first, is the last of all.
            units = units[spoken[np.searchsorted(spoken, np.arange(len(units)), side="right") - 1]]
        return units.astype(np.uint16)

    def tensors(self) -> dict[str, np.ndarray]:
        named = {f"weight_{index}": weight.astype("<f4") for index, weight in enumerate(self.weights)}
        return named | {f"bias_{index}": bias.astype("<f4") for index, bias in enumerate(self.biases)}


Quantiser = Centroids | Classifier


@dataclass(frozen=True)
class KmeansTokenizer:
    """Speech units of one codebook; see ``lst.tokenizers.speech.SpeechTokenizer``.

    Attributes:
        quantiser: names the unit of a frame.
        spec: what the encoder is, as its ``spec``.
        frame_rate_hz: units a second.
        options: how to get the encoder when it is first needed; no part of what is saved but for the place.
        ready: the encoder, once it is built.
    """

    quantiser: Quantiser
    spec: dict[str, Any]
    frame_rate_hz: int = 25
    options: EncoderOptions = field(default_factory=lambda: EncoderOptions("mfcc"), compare=False)
    ready: list[FrameEncoder] = field(default_factory=list, compare=False, repr=False)

    units_a_frame = 1

    @property
    def kind(self) -> str:
        return str(self.spec["kind"])

    @property
    def name(self) -> str:
        """For people: kind, layer, units and rate."""
        layer = f"-layer{self.spec['layer']}" if "layer" in self.spec else ""
        form = "kmeans" if isinstance(self.quantiser, Centroids) else "classifier"
        return f"{self.kind}{layer}-{form}-{self.num_units}-{self.frame_rate_hz}hz"

    @property
    def num_units(self) -> int:
        return self.quantiser.num_units

    @property
    def sha256(self) -> str:
        """Hash of everything that decides units; of an MFCC codebook, that of its file."""
        return hashlib.sha256(self._to_bytes("")).hexdigest()

    @property
    def encoder(self) -> FrameEncoder:
        """The encoder, built when first asked for.

        Raises:
            UserError: its weights are missing or are not those that the codebook was made with.
        """
        if not self.ready:
            encoder = build_encoder(self.options)
            raise_problems(
                f"the weights of {encoder.weights} are not those that these {self.kind} units were made with",
                differing_settings(self.spec, encoder.spec),
                "Give the right ones with tokenizer.weights=, or fit a codebook for these.",
            )
            self.ready.append(encoder)
        return self.ready[0]

    def prepare(self) -> None:
        """Builds the encoder where it is not yet; raises as ``encoder`` does."""
        _ = self.encoder

    def encode(self, waveforms: Sequence[np.ndarray], sample_rate_hz: int = SAMPLE_RATE_HZ) -> list[np.ndarray]:
        """Units of each waveform, uint16 [num_frames]; each is encoded by itself, so batching changes nothing.

        Args:
            waveforms: float32 [num_samples] each, mono.
            sample_rate_hz: of all of them; resampled where it is not 16,000.
        """
        check_waveforms(waveforms)
        return [
            self.quantiser.quantise(self.encoder.frames(at_rate(waveform, sample_rate_hz, SAMPLE_RATE_HZ)))
            for waveform in waveforms
        ]

    def _to_bytes(self, place: str) -> bytes:
        if self.kind == "mfcc" and isinstance(self.quantiser, Centroids):
            values: dict[str, Any] = {"format": MFCC_FORMAT, "frame_rate_hz": self.frame_rate_hz}
        else:
            values = {
                "format": FORMAT,
                "kind": self.kind,
                "frame_rate_hz": self.frame_rate_hz,
                "encoder": self.spec,
                "quantiser": self.quantiser.form,
            }
        metadata = {"lst": json.dumps(values, sort_keys=True)}
        if place:
            metadata["weights"] = place
        return save(self.quantiser.tensors(), metadata=metadata)

    def save(self, path: Path) -> None:
        """Writes codebook and description as safetensors, whole or not at all."""
        write_bytes(path, self._to_bytes(self.options.weights or ""))


def check_waveforms(waveforms: Sequence[np.ndarray]) -> None:
    """Raises ``UserError`` for one waveform where a list of them belongs."""
    if isinstance(waveforms, np.ndarray):
        raise UserError("encode takes a list of waveforms: write encode([waveform], sample_rate_hz)")


def kmeans_of(encoder: FrameEncoder, quantiser: Quantiser, options: EncoderOptions) -> KmeansTokenizer:
    """A tokenizer of a built encoder and a quantiser; raises ``UserError`` where their widths differ."""
    if quantiser.num_features != encoder.num_features:
        raise UserError(
            f"a codebook of width {quantiser.num_features} does not fit {options.kind} frames of width "
            f"{encoder.num_features}: give the weights and the layer that it was made for"
        )
    placed = replace(options, weights=encoder.weights)
    return KmeansTokenizer(quantiser, encoder.spec, encoder.frame_rate_hz, placed, [encoder])


class FrameSample:
    """A uniform sample of the rows of a stream, without repetition, in the stream's order.

    Every row gets a random key and those with the smallest keys stay: the sample depends on the seed and on the rows'
    order alone, not on how they are grouped. Memory holds at most 1.5 · ``max_frames`` rows and those just added.
    """

    def __init__(self, max_frames: int, seed: int) -> None:
        self.max_frames, self.num_seen = max_frames, 0
        self._random = np.random.default_rng(seed)
        self._rows: list[np.ndarray] = []
        self._keys: list[np.ndarray] = []
        self._num_held, self._limit = 0, np.inf

    def add(self, rows: np.ndarray) -> None:
        """Takes rows [n, D]."""
        keys = self._random.random(len(rows))
        self.num_seen += len(rows)
        kept = keys < self._limit
        # Copied, so that what is left out is not held by a view.
        self._rows.append(rows[kept].copy())
        self._keys.append(keys[kept])
        self._num_held += int(kept.sum())
        if self._num_held > (1 + WAITING_SHARE) * self.max_frames:
            self._draw()

    def _draw(self) -> None:
        keys, rows = np.concatenate(self._keys), np.concatenate(self._rows)
        if len(keys) > self.max_frames:
            order = np.argpartition(keys, self.max_frames)
            self._limit = float(keys[order[self.max_frames]])
            kept = np.sort(order[: self.max_frames])
            keys, rows = keys[kept], rows[kept]
        self._keys, self._rows, self._num_held = [keys], [rows], len(keys)

    def rows(self) -> np.ndarray:
        """The sample, [min(num_seen, max_frames), D]; no rows where none were seen."""
        if not self._rows:
            return np.zeros((0, 0), np.float32)
        self._draw()
        return self._rows[0]


def fit_centroids(
    frames: Iterable[np.ndarray],
    num_units: int,
    seed: int,
    max_frames: int = 400_000,
    frame_rate_hz: int = 25,
    scales_features: bool = True,
) -> Centroids:
    """Fits k-means to a sample of a stream of frames.

    Args:
        frames: float32 [n, D] an utterance.
        num_units: size of the codebook, k.
        seed: of the k-means++ start, of the mini-batches, and of the sample of frames.
        max_frames: at most this many frames, drawn at random, enter the fit.
        frame_rate_hz: for the error.
        scales_features: divide features by the sample's standard deviation.

    Raises:
        UserError: there are fewer frames than units.
    """
    from sklearn.cluster import MiniBatchKMeans

    sample = FrameSample(max_frames, seed)
    for part in frames:
        sample.add(part)
    rows = sample.rows()
    if len(rows) < num_units:
        raise UserError(
            f"{len(rows)} frames of training speech ({len(rows) / frame_rate_hz:.1f} s) are too few for "
            f"{num_units} units: add speech or set tokenizer.num_units to at most {len(rows)}"
        )
    scale = np.ones(rows.shape[1], np.float32)
    if scales_features:
        scale = (1.0 / np.maximum(rows.std(axis=0), 1e-5)).astype(np.float32)
    # Sums over rows must not depend on the number of cores.
    with one_thread():
        kmeans = MiniBatchKMeans(
            num_units, random_state=seed, batch_size=4096, n_init=3, max_iter=100, reassignment_ratio=0.01
        ).fit(rows * scale if scales_features else rows)
    return Centroids(kmeans.cluster_centers_.astype(np.float32), scale)
