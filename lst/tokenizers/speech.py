"""Speech units behind one interface: every kind is fitted, loaded, saved and encoded the same way.

kind       frames                                        rate      codebook
mfcc       39 cepstra and differences                    25 Hz     k-means, fitted here
log_mel    80 log-mel bands                              25 Hz     k-means, fitted here
hubert     a Transformer layer of HuBERT                 25 Hz     k-means, fitted here or published
whisper    a layer of Whisper's encoder (supervised)     25 Hz     k-means, fitted here
encodec    a neural codec; units decode to sound         75 Hz     its own, 1 to 32 of them
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from lst.errors import LstError, UserError
from lst.progress import say
from lst.tokenizers.config import MODEL_KINDS, TokenizerConfig
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.frames import EncoderOptions, FrameEncoder
from lst.tokenizers.kmeans import (
    FORMAT,
    MFCC_FORMAT,
    Centroids,
    Classifier,
    KmeansTokenizer,
    Quantiser,
    fit_centroids,
    kmeans_of,
)
from lst.tokenizers.neural_codec import CodecTokenizer, build_codec
from lst.tokenizers.units import NUM_FEATURES, SAMPLE_RATE_HZ, at_rate

REMEDY = "Make it again with lst prepare or lst tokenizer fit-units, or name the right run with run_dir=FOLDER."


class SpeechTokenizer(Protocol):
    """Speech to discrete units.

    Attributes:
        num_units: units are 0 … num_units − 1.
        frame_rate_hz: frames a second.
        units_a_frame: units that stand for one frame, in a row (codebooks of a codec); else 1.
        sha256: hash of everything that decides units; shards and vocabularies record it.
        kind: mfcc, log_mel, hubert, whisper or encodec.
        name: kind, layer, size and rate, for people.
    """

    @property
    def num_units(self) -> int: ...
    @property
    def frame_rate_hz(self) -> int: ...
    @property
    def units_a_frame(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...

    def prepare(self) -> None:
        """Loads what ``encode`` needs, so that what is missing is no fault of an utterance's.

        Raises:
            UserError: weights or a package are missing, or the weights are others.
        """
        ...

    def encode(self, waveforms: Sequence[np.ndarray], sample_rate_hz: int) -> list[np.ndarray]:
        """Units of each waveform, uint16 [n]; a waveform's units do not depend on the others.

        Args:
            waveforms: float32 [num_samples] each, mono.
            sample_rate_hz: of all of them; resampled where the kind needs another.

        Raises:
            UserError: a waveform is empty or not mono; weights or a package are missing.
        """
        ...

    def save(self, path: Path) -> None:
        """Writes one safetensors file, whole or not at all."""
        ...


def encoder_options(config: TokenizerConfig) -> EncoderOptions:
    """The part of the configuration that decides frames.

    Raises:
        UserError: weights are given for units that have none. Where units are only loaded, their file says the kind.
    """
    if config.weights is not None and config.codebook is None and config.kind not in MODEL_KINDS:
        raise UserError(f"tokenizer.weights={config.weights}: {config.kind} units have no weights; set tokenizer.kind=")
    return EncoderOptions(config.kind, config.frame_rate_hz, config.weights, config.layer, config.device, config.trust)


def unit_places(config: TokenizerConfig) -> dict[str, Any]:
    """Arguments of ``load_speech_tokenizer`` beside the path: where and how a model's weights are found."""
    return {"weights": config.weights, "device": config.device, "trust": config.trust}


def fit_speech_tokenizer(config: TokenizerConfig, waveforms: Iterable[np.ndarray], seed: int) -> SpeechTokenizer:
    """The tokenizer that the options ask for: fitted to speech, or made of what is there.

    Args:
        config: with ``codebook`` that file is loaded, of kind encodec the weights; neither looks at the speech.
        waveforms: float32 [num_samples] each, mono, 16 kHz; may be a stream. A sample of at most
            ``config.fit_max_frames`` frames is held.
        seed: of the sample and of k-means.

    Raises:
        UserError: weights are missing or unfit, or there is too little speech.
    """
    if config.codebook is not None:
        return load_configured(config)
    if config.kind == "encodec":
        return build_codec(config.weights, config.num_codebooks, config.codebook_pattern, config.trust, config.device)
    options = encoder_options(config)
    encoder = build_encoder(options)
    frames = (encoder.frames(at_rate(waveform, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)) for waveform in waveforms)
    return fit_on_frames(config, encoder, options, frames, seed)


def fit_on_frames(
    config: TokenizerConfig, encoder: FrameEncoder, options: EncoderOptions, frames: Iterable[np.ndarray], seed: int
) -> SpeechTokenizer:
    """As ``fit_speech_tokenizer``, of an encoder and its frames, float32 [n, D] an utterance."""
    centroids = fit_centroids(
        frames, config.num_units, seed, config.fit_max_frames, config.frame_rate_hz, encoder.scales_features
    )
    return kmeans_of(encoder, centroids, options)


def load_configured(config: TokenizerConfig) -> SpeechTokenizer:
    """The tokenizer of the file ``config.codebook``.

    Raises:
        UserError: it is missing, damaged, or of another kind or rate than the options say. Of size, layer, codebooks
            and pattern the file decides; a layer other than the options' is told.
    """
    assert config.codebook is not None
    tokenizer = load_speech_tokenizer(
        Path(config.codebook), weights=config.weights, device=config.device, trust=config.trust
    )
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
    """Reads a tokenizer of any kind; a model's weights are looked for when it first encodes.

    Args:
        path: a file that a tokenizer's ``save`` wrote.
        weights: where the model's weights lie, if not where they lay when it was saved.
        device: cpu or cuda.
        trust: whether weights may be unpickled.

    Raises:
        UserError: it is missing, damaged, or of another format.
    """
    if not path.is_file():
        state = "a folder, not a file" if path.is_dir() else "missing"
        raise UserError(f"the unit codebook is {state}: {path}. {REMEDY}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            values = json.loads(metadata.get("lst", "{}"))
            if not isinstance(values, dict) or values.get("format") not in (FORMAT, MFCC_FORMAT):
                held = values.get("format") if isinstance(values, dict) else None
                raise UserError(
                    f"{path} holds {held or 'no unit codebook of this project'!r}, not {FORMAT!r}. {REMEDY}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _tokenizer_of(values, tensors, weights or metadata.get("weights"), device, trust, path)
    except (SafetensorError, OSError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, LstError):
            raise
        raise UserError(f"the unit codebook {path} is damaged ({error}). {REMEDY}") from None


def _tokenizer_of(
    values: dict[str, Any], tensors: dict[str, np.ndarray], weights: str | None, device: str, trust: bool, path: Path
) -> SpeechTokenizer:
    frame_rate_hz = int(values["frame_rate_hz"])
    if values["format"] == MFCC_FORMAT:
        centroids, scale = tensors["centroids"], tensors["feature_scale"]
        if centroids.ndim != 2 or centroids.shape[1] != NUM_FEATURES or scale.shape != (NUM_FEATURES,):
            raise UserError(f"{path}: centroids {centroids.shape}, scale {scale.shape}; expected [k, {NUM_FEATURES}]")
        options = EncoderOptions("mfcc", frame_rate_hz)
        return KmeansTokenizer(Centroids(centroids, scale), {"kind": "mfcc"}, frame_rate_hz, options)
    kind, spec = str(values["kind"]), dict(values["encoder"])
    if kind != spec["kind"]:
        raise UserError(f"the unit codebook {path} is damaged (it names {kind} and {spec['kind']}). {REMEDY}")
    if kind == "encodec":
        return CodecTokenizer(
            int(spec["num_codebooks"]),
            str(spec["codebook_pattern"]),
            tensors["codebooks"],
            str(spec["weights_sha256"]),
            weights or "",
            trust,
            device,
        )
    layer = spec.get("layer")
    options = EncoderOptions(kind, frame_rate_hz, weights if kind in MODEL_KINDS else None, layer, device, trust)
    return KmeansTokenizer(_quantiser_of(values, tensors, path), spec, frame_rate_hz, options)


def _quantiser_of(values: dict[str, Any], tensors: dict[str, np.ndarray], path: Path) -> Quantiser:
    if values["quantiser"] == Classifier.form:
        depth = sum(name.startswith("weight_") for name in tensors)
        weights = tuple(tensors[f"weight_{index}"] for index in range(depth))
        return Classifier(weights, tuple(tensors[f"bias_{index}"] for index in range(depth)))
    centroids, scale = tensors["centroids"], tensors["feature_scale"]
    if values["quantiser"] != Centroids.form or centroids.ndim != 2 or scale.shape != centroids.shape[1:]:
        raise UserError(
            f"{path}: {values['quantiser']} with centroids {centroids.shape}, scale {scale.shape}; expected "
            f"{Centroids.form} with [k, D] and [D]"
        )
    return Centroids(centroids, scale)


def deduplicate(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of equal units as one unit and its length.

    Args:
        units: int [n].

    Returns:
        units [m], of the same type, no two neighbours equal; durations int64 [m] in frames, of sum n.
    """
    if len(units) == 0:
        return units.copy(), np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]]))
    return units[starts], np.diff(np.append(starts, len(units)))


def reduplicate(units: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Inverse of ``deduplicate``: each unit as often as it lasts; raises ``ValueError`` for a duration below 1."""
    if len(units) != len(durations) or (len(durations) and int(np.min(durations)) < 1):
        raise ValueError(f"{len(units)} units with {len(durations)} durations: one of 1 or more belongs to each")
    return np.repeat(units, durations)
