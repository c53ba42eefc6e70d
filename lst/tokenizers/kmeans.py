"""Units by quantised frames: an encoder makes frames, a quantiser (k-means or a classifier) names the unit of each.

::

    waveform ── encoder ──► frames [n, D] ── · scale ──► quantiser ──► units [n]

A units file holds the quantiser's tensors and describes the encoder: its kind, layer and the SHA-256 of its weights.
The weights themselves stay where they are. The file notes their place, but the place is no part of its hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lst.errors import UserError, raise_problems
from lst.parallel import one_thread
from lst.storage import differing_settings
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.frames import EncoderOptions, EncoderSpec, FrameEncoder
from lst.tokenizers.units import SAMPLE_RATE_HZ, at_rate
from lst.tokenizers.units_file import FORMAT, MFCC_FORMAT, UnitsDescription, UnitsFile

# Rows held beyond the sample's size before the sample is drawn again, as a share of that size.
WAITING_SHARE = 0.5


@dataclass(frozen=True)
class Centroids:
    """Nearest centroid of scaled features.

    >>> two = Centroids(np.array([[0.0, 0.0], [1.0, 1.0]], np.float32), np.ones(2, np.float32))
    >>> two.quantise(np.array([[0.9, 0.8], [0.1, 0.2], [2.0, 1.0]], np.float32)).tolist()
    [1, 0, 1]

    Attributes:
        centroids: float32 [num_units, D], in scaled feature space.
        feature_scale: float32 [D], the factors of the features.
    """

    centroids: np.ndarray
    feature_scale: np.ndarray
    form = "centroids"

    @property
    def num_units(self) -> int:
        """Number of units: units are 0 … num_units − 1."""
        return int(self.centroids.shape[0])

    @property
    def num_features(self) -> int:
        """Width of a frame, D."""
        return int(self.centroids.shape[1])

    def quantise(self, frames: np.ndarray) -> np.ndarray:
        """uint16 [n] of float32 [n, D]."""
        features = frames * self.feature_scale
        # argmin |x−c|² = argmax x·c − |c|²/2, which needs one matrix product.
        scores = features @ self.centroids.T - 0.5 * np.square(self.centroids).sum(axis=1)
        return scores.argmax(axis=1).astype(np.uint16)

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors of a units file."""
        return {"centroids": self.centroids.astype("<f4"), "feature_scale": self.feature_scale.astype("<f4")}


@dataclass(frozen=True)
class Classifier:
    """A small network that names the unit, trained with a CTC loss so that noise changes little (Gat et al., 2023).

    The published 25 Hz codebook of 500 units is such a network. Its last class is the blank of the CTC loss, so it has
    501. A blank frame takes the unit of the last frame before it that is not blank. Blank frames before the first such
    frame take the unit of the last one. An utterance of blanks alone keeps them.

    Attributes:
        weights: float32 [out, in] of each layer; leaky ReLU between layers.
        biases: float32 [out] of each layer.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    form = "classifier"

    @property
    def num_units(self) -> int:
        """Number of units: units are 0 … num_units − 1."""
        return int(self.weights[-1].shape[0])

    @property
    def num_features(self) -> int:
        """Width of a frame, D."""
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
            # The last one at or before each frame. Index −1, before the first, takes the last of all.
            units = units[spoken[np.searchsorted(spoken, np.arange(len(units)), side="right") - 1]]
        return units.astype(np.uint16)

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors of a units file."""
        named = {f"weight_{index}": weight.astype("<f4") for index, weight in enumerate(self.weights)}
        return named | {f"bias_{index}": bias.astype("<f4") for index, bias in enumerate(self.biases)}


Quantiser = Centroids | Classifier


@dataclass(frozen=True)
class KmeansTokenizer(UnitsFile):
    """Speech units of one codebook; see ``lst.tokenizers.speech.SpeechTokenizer``.

    Attributes:
        quantiser: names the unit of a frame.
        spec: the ``spec`` of the encoder.
        frame_rate_hz: units a second.
        options: how to build the encoder when it is first needed. Only the place of the weights is saved.
        ready: the encoder, once it is built.
    """

    quantiser: Quantiser
    spec: EncoderSpec
    frame_rate_hz: int = 25
    options: EncoderOptions = field(default_factory=lambda: EncoderOptions("mfcc"), compare=False)
    ready: list[FrameEncoder] = field(default_factory=list, compare=False, repr=False)

    units_a_frame = 1

    @property
    def kind(self) -> str:
        """The kind of frames, one of ``lst.tokenizers.config.ENCODERS``."""
        return str(self.spec["kind"])

    @property
    def name(self) -> str:
        """Kind, layer, number of units and rate, for people."""
        layer = f"-layer{self.spec['layer']}" if "layer" in self.spec else ""
        form = "kmeans" if isinstance(self.quantiser, Centroids) else "classifier"
        return f"{self.kind}{layer}-{form}-{self.num_units}-{self.frame_rate_hz}hz"

    @property
    def num_units(self) -> int:
        """Number of units: units are 0 … num_units − 1."""
        return self.quantiser.num_units

    @property
    def place(self) -> str | None:
        """Where the weights of the encoder are; None without weights."""
        return self.options.weights

    @property
    def encoder(self) -> FrameEncoder:
        """The encoder, built on first use.

        Raises:
            UserError: its weights are missing, or they are not the weights that the codebook was made with.
        """
        if not self.ready:
            encoder = build_encoder(self.options)
            raise_problems(
                f"the weights of {encoder.weights} are not those that these {self.kind} units were made with",
                differing_settings(dict(self.spec), dict(encoder.spec)),
                "Give the right ones with tokenizer.weights=, or fit a codebook for these.",
            )
            self.ready.append(encoder)
        return self.ready[0]

    def prepare(self) -> None:
        """Builds the encoder unless it is built; raises as ``encoder`` does."""
        _ = self.encoder

    def encode(self, waveforms: Sequence[np.ndarray], sample_rate_hz: int = SAMPLE_RATE_HZ) -> list[np.ndarray]:
        """Units of each waveform, uint16 [num_frames]. Each is encoded on its own, so batching changes nothing.

        Args:
            waveforms: float32 [num_samples] each, mono.
            sample_rate_hz: of all waveforms; they are resampled to 16,000.
        """
        check_waveforms(waveforms)
        return [
            self.quantiser.quantise(self.encoder.frames(at_rate(waveform, sample_rate_hz, SAMPLE_RATE_HZ)))
            for waveform in waveforms
        ]

    def tensors(self) -> dict[str, np.ndarray]:
        """The quantiser's tensors."""
        return self.quantiser.tensors()

    def description(self) -> UnitsDescription:
        """The encoder's spec, the rate, and the form of the quantiser."""
        if self.kind == "mfcc" and isinstance(self.quantiser, Centroids):
            return {"format": MFCC_FORMAT, "frame_rate_hz": self.frame_rate_hz}
        return {
            "format": FORMAT,
            "kind": self.kind,
            "frame_rate_hz": self.frame_rate_hz,
            "encoder": self.spec,
            "quantiser": self.quantiser.form,
        }


def check_waveforms(waveforms: Sequence[np.ndarray]) -> None:
    """Raises ``UserError`` for a single waveform in place of a list."""
    if isinstance(waveforms, np.ndarray):
        raise UserError("encode takes a list of waveforms: write encode([waveform], sample_rate_hz)")


def kmeans_of(encoder: FrameEncoder, quantiser: Quantiser, options: EncoderOptions) -> KmeansTokenizer:
    """The tokenizer of a built encoder and a quantiser; raises ``UserError`` where their widths differ."""
    if quantiser.num_features != encoder.num_features:
        raise UserError(
            f"a codebook of width {quantiser.num_features} does not fit {options.kind} frames of width "
            f"{encoder.num_features}: give the weights and the layer that it was made for"
        )
    placed = replace(options, weights=encoder.weights)
    return KmeansTokenizer(quantiser, encoder.spec, encoder.frame_rate_hz, placed, [encoder])


class FrameSample:
    """A uniform sample of the rows of a stream, without repetition, in the stream's order.

    Every row gets a random key, and the rows with the smallest keys stay. So the sample depends on the seed and on the
    order of rows alone, not on how they are grouped. Memory holds 1.5 · ``max_frames`` rows and the rows just added.

    Args:
        max_frames: size of the sample.
        seed: of the keys.
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
        # A copy: a view would keep the other rows in memory.
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
        """The sample, [min(num_seen, max_frames), D]; [0, 0] where nothing was added."""
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

    >>> frames = np.repeat([[0.0, 1.0], [8.0, 3.0]], 20, axis=0).astype(np.float32)
    >>> centroids = fit_centroids([frames], num_units=2, seed=0)
    >>> units = centroids.quantise(frames)
    >>> len(set(units[:20])), len(set(units[20:])), bool(units[0] != units[20])
    (1, 1, True)

    Args:
        frames: float32 [n, D] of each utterance.
        num_units: size of the codebook, k.
        seed: of the k-means++ start, of the mini-batches, and of the sample of frames.
        max_frames: upper bound of the frames in the fit; they are drawn at random.
        frame_rate_hz: frames a second, for the error.
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
