"""Speech units of every kind behind one interface: fit, load, save and encode.

kind       frames                                        rate      codebook
mfcc       39 cepstra and differences                    25 Hz     k-means, fitted here
log_mel    80 log-mel bands                              25 Hz     k-means, fitted here
hubert     a Transformer layer of HuBERT                 25 Hz     k-means, fitted here or published
whisper    a layer of Whisper's encoder (supervised)     25 Hz     k-means, fitted here
encodec    a neural codec; units decode to sound         75 Hz     its own, 1 to 32 of them
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lst.errors import UserError
from lst.progress import say
from lst.storage import FormatError
from lst.storage.typed import checked
from lst.tokenizers.config import KINDS, MODEL_KINDS, TokenizerConfig
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.frames import EncoderOptions, FrameEncoder
from lst.tokenizers.kmeans import Centroids, Classifier, KmeansTokenizer, Quantiser, fit_centroids, kmeans_of
from lst.tokenizers.neural_codec import NUM_CODES, CodecTokenizer, build_codec
from lst.tokenizers.units import NUM_FEATURES, SAMPLE_RATE_HZ, at_rate
from lst.tokenizers.units_file import (
    FORMAT,
    MAX_UNITS,
    MFCC_FORMAT,
    CodecSpec,
    MfccUnits,
    ModelUnits,
    QuantisedUnits,
    ReadUnits,
    read_units_file,
)

REMEDY = "Make it again with lst prepare or lst tokenizer fit-units, or name the right run with run_dir=FOLDER."


class SpeechTokenizer(Protocol):
    """Speech to discrete units."""

    @property
    def num_units(self) -> int:
        """Number of units: units are 0 … num_units − 1."""

    @property
    def frame_rate_hz(self) -> int:
        """Frames a second."""

    @property
    def units_a_frame(self) -> int:
        """Units in a row that stand for one frame: the codebooks of a codec, otherwise 1."""

    @property
    def sha256(self) -> str:
        """Hash of everything that decides units; shards and vocabularies record it."""

    @property
    def kind(self) -> str:
        """One of ``lst.tokenizers.config.KINDS``."""

    @property
    def name(self) -> str:
        """Kind, layer, size and rate, for people."""

    def prepare(self) -> None:
        """Loads what ``encode`` needs, so that a missing file is not blamed on an utterance.

        Raises:
            UserError: weights or a package are missing, or the weights have changed.
        """

    def encode(self, waveforms: Sequence[np.ndarray], sample_rate_hz: int) -> list[np.ndarray]:
        """Units of each waveform, uint16 [n]. The units of a waveform do not depend on the others.

        Args:
            waveforms: float32 [num_samples] each, mono.
            sample_rate_hz: of all waveforms; they are resampled where the kind needs another rate.

        Raises:
            UserError: a waveform is empty or not mono, or weights or a package are missing.
        """

    def save(self, path: Path, names_local_weights: bool = True) -> None:
        """Writes one safetensors file, whole or not at all.

        Args:
            path: of the file.
            names_local_weights: whether it says where on this machine a model's weights are; for a file that goes to
                others, only a name on the Hub is of use.
        """


def encoder_options(config: TokenizerConfig) -> EncoderOptions:
    """The options that decide the frames.

    Raises:
        UserError: weights are given for a kind without weights. Where a codebook is loaded, its file decides the kind.
    """
    if config.weights is not None and config.codebook is None and config.kind not in MODEL_KINDS:
        raise UserError(f"tokenizer.weights={config.weights}: {config.kind} units have no weights; set tokenizer.kind=")
    return EncoderOptions(config.kind, config.frame_rate_hz, config.weights, config.layer, config.device, config.trust)


def unit_places(config: TokenizerConfig) -> dict[str, Any]:
    """Keyword arguments of ``load_speech_tokenizer``: where a model's weights are, and how they are read."""
    return {"weights": config.weights, "device": config.device, "trust": config.trust}


def fit_speech_tokenizer(config: TokenizerConfig, waveforms: Iterable[np.ndarray], seed: int) -> SpeechTokenizer:
    """The tokenizer that the options ask for.

    ``config.codebook`` is loaded where it is given, and EnCodec brings its own codebooks. Otherwise k-means is fitted
    to the speech.

    Args:
        config: the options of units.
        waveforms: float32 [num_samples] each, mono, 16 kHz. They may be a stream: a sample of up to
            ``config.fit_max_frames`` frames is held in memory.
        seed: of the sample and of k-means.

    Raises:
        UserError: weights are missing or unfit, or there is too little speech.
    """
    if (given := given_tokenizer(config)) is not None:
        return given
    options = encoder_options(config)
    encoder = build_encoder(options)
    frames = (encoder.frames(at_rate(waveform, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)) for waveform in waveforms)
    return fit_on_frames(config, encoder, options, frames, seed)


def given_tokenizer(config: TokenizerConfig) -> SpeechTokenizer | None:
    """The units that need no fitting: those of a units file, or of a codec; None for all others."""
    if config.codebook is not None:
        return load_configured(config)
    if config.kind == "encodec":
        return build_codec(config.weights, config.num_codebooks, config.codebook_pattern, config.trust, config.device)
    return None


def fit_on_frames(
    config: TokenizerConfig, encoder: FrameEncoder, options: EncoderOptions, frames: Iterable[np.ndarray], seed: int
) -> SpeechTokenizer:
    """``fit_speech_tokenizer`` for a built encoder and its frames, float32 [n, D] of each utterance."""
    centroids = fit_centroids(
        frames, config.num_units, seed, config.fit_max_frames, config.frame_rate_hz, encoder.scales_features
    )
    return kmeans_of(encoder, centroids, options)


def load_configured(config: TokenizerConfig) -> SpeechTokenizer:
    """The tokenizer of the file ``config.codebook``.

    The file decides size, layer, codebooks and pattern; a message says so where ``config.layer`` differs.

    Raises:
        UserError: the file is missing or damaged, or its kind or rate differs from the options.
    """
    assert config.codebook is not None
    tokenizer = load_speech_tokenizer(Path(config.codebook), **unit_places(config))
    if tokenizer.kind != config.kind or tokenizer.frame_rate_hz != config.frame_rate_hz:
        raise UserError(
            f"tokenizer.codebook={config.codebook} holds {tokenizer.kind} units at {tokenizer.frame_rate_hz} Hz, the "
            f"options say {config.kind} at {config.frame_rate_hz} Hz: set tokenizer.kind={tokenizer.kind} "
            f"tokenizer.frame_rate_hz={tokenizer.frame_rate_hz}"
        )
    layer = tokenizer.spec.get("layer") if isinstance(tokenizer, KmeansTokenizer) else None
    if layer is not None and config.layer not in (None, layer):
        say(f"{config.codebook} is of layer {layer}, so tokenizer.layer={config.layer} is not used")
    return tokenizer


def load_speech_tokenizer(
    path: Path, weights: str | None = None, device: str = "cpu", trust: bool = False
) -> SpeechTokenizer:
    """Reads a tokenizer of any kind. A model's weights are not read until it first encodes.

    Args:
        path: a file that a tokenizer's ``save`` wrote.
        weights: where the model's weights are now; by default where they were when the tokenizer was saved.
        device: cpu or cuda.
        trust: whether weights may be pickles.

    Raises:
        UserError: the file is missing, damaged, or of another format.
    """
    if not path.is_file():
        state = "a folder, not a file" if path.is_dir() else "missing"
        raise UserError(f"the unit codebook is {state}: {path}. {REMEDY}")
    try:
        found = read_units_file(path)
        held = found.description.get("format")
        if held not in (FORMAT, MFCC_FORMAT):
            raise UserError(f"{path} holds {held or 'no unit codebook of this project'!r}, not {FORMAT!r}. {REMEDY}")
        kind = found.description.get("kind", "mfcc")
        if isinstance(kind, str) and kind not in KINDS:
            raise UserError(
                f"{path} holds units of the kind {kind!r:.60}; known here are {', '.join(KINDS)}. Use the code that "
                f"made it, or another one. {REMEDY}"
            )
        named_in = "" if weights else str(path)
        return _tokenizer_of(found, EncoderOptions("", 1, weights or found.place, None, device, trust, named_in))
    except (FormatError, OSError) as error:
        raise UserError(f"the unit codebook {path} is damaged (it {error}). {REMEDY}") from None


def _tokenizer_of(found: ReadUnits, options: EncoderOptions) -> SpeechTokenizer:
    """The tokenizer of a units file; ``options`` say where the weights are and how they may be read."""
    if found.description["format"] == MFCC_FORMAT:
        rate_hz = checked(found.description, MfccUnits)["frame_rate_hz"]
        centroids = _centroids_of(found.tensors, NUM_FEATURES)
        return KmeansTokenizer(centroids, {"kind": "mfcc"}, rate_hz, EncoderOptions("mfcc", rate_hz))
    described = checked(found.description, ModelUnits)
    kind, spec = described["kind"], described["encoder"]
    if kind != spec.get("kind"):
        raise FormatError(f"names {kind} and {spec.get('kind')}")
    if kind == "encodec":
        return _codec_of(found, options)
    described = checked(found.description, QuantisedUnits)
    placed = replace(
        options,
        kind=kind,
        frame_rate_hz=described["frame_rate_hz"],
        weights=options.weights if kind in MODEL_KINDS else None,
        layer=spec.get("layer"),
    )
    return KmeansTokenizer(_quantiser_of(described, found.tensors), spec, described["frame_rate_hz"], placed)


def _codec_of(found: ReadUnits, options: EncoderOptions) -> CodecTokenizer:
    spec = checked(found.description["encoder"], CodecSpec, "encoder")
    codebooks = _finite(found.tensors, "codebooks", 3)
    if codebooks.shape[:2] != (spec["num_codebooks"], NUM_CODES):
        raise FormatError(
            f"holds codebooks of shape {codebooks.shape}; needed are {spec['num_codebooks']} × {NUM_CODES}"
        )
    return CodecTokenizer(
        spec["num_codebooks"],
        spec["codebook_pattern"],
        codebooks,
        spec["weights_sha256"],
        options.weights or "",
        options.trust,
        options.device,
        options.named_in,
    )


def _quantiser_of(described: QuantisedUnits, tensors: dict[str, np.ndarray]) -> Quantiser:
    if described["quantiser"] == Centroids.form:
        return _centroids_of(tensors, None)
    depth = sum(name.startswith("weight_") for name in tensors)
    weights = tuple(_finite(tensors, f"weight_{index}", 2) for index in range(depth))
    biases = tuple(_finite(tensors, f"bias_{index}", 1) for index in range(depth))
    inner = [weight.shape[1] for weight in weights[1:]]
    if (
        len(tensors) != 2 * depth
        or not depth
        or [len(bias) for bias in biases] != [*map(len, weights)]
        or inner != [*map(len, weights[:-1])]
    ):
        raise FormatError(f"holds layers of shapes {[weight.shape for weight in weights]}, which form no classifier")
    _check_size(weights[-1])
    return Classifier(weights, biases)


def _centroids_of(tensors: dict[str, np.ndarray], width: int | None) -> Centroids:
    centroids, scale = _finite(tensors, "centroids", 2), _finite(tensors, "feature_scale", 1)
    if scale.shape != centroids.shape[1:] or width not in (None, *scale.shape):
        raise FormatError(
            f"holds centroids {centroids.shape}, scale {scale.shape}; expected [k, {width or 'D'}] and [{width or 'D'}]"
        )
    _check_size(centroids)
    return Centroids(centroids, scale)


def _check_size(units: np.ndarray) -> None:
    if not 1 <= len(units) <= MAX_UNITS or not units.shape[1]:
        raise FormatError(f"holds units of shape {units.shape}; allowed are 1 to {MAX_UNITS}")


def _finite(tensors: dict[str, np.ndarray], name: str, num_dimensions: int) -> np.ndarray:
    """A tensor that is there, of finite numbers."""
    if name not in tensors:
        raise FormatError(f"lacks the tensor {name}")
    if tensors[name].ndim != num_dimensions or not np.isfinite(tensors[name]).all():
        raise FormatError(
            f"holds {name} of shape {tensors[name].shape}; finite numbers in {num_dimensions} dimensions are needed"
        )
    return tensors[name]


def deduplicate(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replaces each run of equal units by one unit and its duration.

    >>> deduplicate(np.array([5, 5, 5, 2, 5]))
    (array([5, 2, 5]), array([3, 1, 1]))

    Args:
        units: int [n].

    Returns:
        Units [m] of the same type, no two neighbours equal, and durations int64 [m] in frames, of sum n.
    """
    if len(units) == 0:
        return units.copy(), np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]]))
    return units[starts], np.diff(np.append(starts, len(units)))


def reduplicate(units: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Inverse of ``deduplicate``: repeats each unit for its duration; raises ``ValueError`` for one below 1."""
    if len(units) != len(durations) or (len(durations) and int(np.min(durations)) < 1):
        raise ValueError(f"{len(units)} units with {len(durations)} durations: each unit needs one of 1 or more")
    return np.repeat(units, durations)
