"""Patchings that are fitted before a model is trained: a unit model with a threshold, or a speech BPE.

::

    RUN/models/NAME/unit_model/         weights.safetensors, config.json, threshold.json
    RUN/models/NAME/speech_bpe.model
    RUN/models/NAME/final/…             copies beside the trained model; its config.json holds the threshold
    FITTED/FINGERPRINT/…                fitted before any training, so that the cost of trainings can be counted
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypedDict

import numpy as np

from lst.configs.schema import Config
from lst.data.documents import DocumentBuilder
from lst.data.prepared import PreparedData
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.model.config import PatchingConfig
from lst.model.patching import fit_entropy_threshold
from lst.model.unit_model import CONFIG_FILE, UnitModel, fit_unit_model
from lst.progress import say
from lst.runs.model_tokenizers import ModelTokenizers
from lst.storage import (
    Between,
    copy_folder,
    fingerprint,
    read_bytes,
    read_json,
    remove,
    remove_folder,
    write_bytes,
    write_json,
)
from lst.tokenizers.speech import deduplicate
from lst.tokenizers.speech_bpe import SpeechBPE, check_sizes, fit_speech_bpe
from lst.tokenizers.vocabulary import Vocabulary

UNIT_MODEL_FOLDER, THRESHOLD_FILE, SPEECH_BPE_FILE = "unit_model", "threshold.json", "speech_bpe.model"
FITTED_STRATEGIES = ("entropy", "speech_bpe")
# Enough to fit a unit model and a quantile.
UNIT_MODEL_UTTERANCES, THRESHOLD_UTTERANCES = 20_000, 1_000


class Threshold(TypedDict):
    """``unit_model/threshold.json``: the fitted threshold of entropy patching, in nats."""

    version: Literal[1]
    entropy_threshold: Annotated[float, Between(0)]


@dataclass(frozen=True)
class FittedPatching:
    """A patching strategy with everything that was fitted for it, and the vocabulary of its tokens.

    Attributes:
        config: the options, with the threshold of entropy patching.
        vocabulary: of the data, or of the pieces of a speech BPE; it says whether units are deduplicated.
        unit_model: for entropy patching.
        speech_bpe: for the strategy of that name.
    """

    config: PatchingConfig
    vocabulary: Vocabulary
    unit_model: UnitModel | None = None
    speech_bpe: SpeechBPE | None = None

    def builder(self, config: Config, data: PreparedData | ModelTokenizers) -> DocumentBuilder:
        """Makes documents with everything that this patching needs to cut them; ``data`` gives the text tokenizer."""
        return DocumentBuilder(
            data.tokenizer,
            self.vocabulary,
            config.data.interleave,
            config.seed,
            segment_level=self.config.aligned_to,
            entropies=partial(self.unit_model.measure, name=self.config.entropy_measure) if self.unit_model else None,
            speech_bpe=self.speech_bpe,
        )

    @property
    def unit_measure(self) -> Callable[[np.ndarray], float] | None:
        """Measure of a document's units so far, for entropy patching during generation; None for other strategies."""
        if self.unit_model is None:
            return None
        is_entropy = self.config.entropy_measure == "entropy"
        return self.unit_model.next_entropy if is_entropy else self.unit_model.last_surprisal

    @property
    def hashes(self) -> list[str]:
        """Hashes of the fitted parts."""
        return [part.sha256 for part in (self.unit_model, self.speech_bpe) if part is not None]

    def units_of(self, ids: np.ndarray) -> np.ndarray:
        """Units, int [n], of joint ids of speech, int [m]."""
        tokens = ids - self.vocabulary.first_unit_id
        return tokens if self.speech_bpe is None else self.speech_bpe.decode(tokens)

    def save(self, folder: Path) -> None:
        """Writes the fitted parts into a model's folder."""
        if self.unit_model is not None:
            self.unit_model.save(folder / UNIT_MODEL_FOLDER)
        if self.speech_bpe is not None:
            self.speech_bpe.save(folder / SPEECH_BPE_FILE)


def plain_patching(config: PatchingConfig, data: PreparedData | ModelTokenizers) -> FittedPatching:
    """A patching without fitted parts."""
    return FittedPatching(config, unit_vocabulary(config, data.vocabulary))


def unit_vocabulary(config: PatchingConfig, vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary of the data, marked as deduplicated if ``patching.deduplicate`` is set.

    Raises:
        UserError: units of several codebooks cannot be deduplicated.
    """
    if not config.deduplicate:
        return vocabulary
    if vocabulary.units_a_frame > 1:
        raise UserError(
            f"patching.deduplicate=true joins units that repeat from frame to frame, and a frame of this data has "
            f"{vocabulary.units_a_frame} units: use data of one codebook, or a model with patching.deduplicate=false"
        )
    return replace(vocabulary, deduplicated=True)


def load_patching(folder: Path, config: PatchingConfig, data: PreparedData | ModelTokenizers) -> FittedPatching:
    """Loads the patching that a model was trained with.

    Args:
        folder: of the trained model, or of a training.
        config: from the model's configuration.
        data: that the model is used on, or the model's own tokenizers.

    Raises:
        UserError: a fitted part is missing or damaged, or belongs to another codebook.
    """
    if config.strategy == "entropy":
        model = UnitModel.load(folder / UNIT_MODEL_FOLDER, data.vocabulary.num_units)
        return FittedPatching(config, unit_vocabulary(config, data.vocabulary), unit_model=model)
    if config.strategy == "speech_bpe":
        speech_bpe = SpeechBPE.load(folder / SPEECH_BPE_FILE)
        vocabulary = unit_vocabulary(config, data.vocabulary).of_pieces(speech_bpe.num_pieces, speech_bpe.sha256)
        return FittedPatching(config, vocabulary, speech_bpe=speech_bpe)
    return plain_patching(config, data)


def check_patching(patching: PatchingConfig, data: PreparedData) -> None:
    """Raises ``UserError`` if this data cannot be patched so. Call it before anything is written."""
    unit_vocabulary(patching, data.vocabulary)
    if patching.strategy in FITTED_STRATEGIES and len(data.train) < 2:
        raise UserError(
            f"patching.strategy={patching.strategy} is fitted to training speech, and there are {len(data.train)} "
            "utterances of it: add speech or choose another patching"
        )
    if patching.strategy == "speech_bpe":
        check_sizes(data.vocabulary.num_units, patching.speech_bpe_size)


def fit_patching(config: Config, data: PreparedData, folder: Path) -> FittedPatching:
    """Fits the strategy to the training split, or loads the parts that an earlier call fitted.

    Args:
        config: options and seed.
        data: gives the speech.
        folder: of the training; fitted parts are kept there.

    Raises:
        UserError: there is too little speech, or a fitted part is damaged.
    """
    patching = config.patching
    if patching.strategy == "entropy":
        return _fit_entropy(config, data, folder)
    if patching.strategy == "speech_bpe":
        if not (folder / SPEECH_BPE_FILE).exists():
            sequences = _training_units(config, data, patching.speech_bpe_sequences)
            fitted = fit_speech_bpe(
                sequences,
                data.vocabulary.num_units,
                patching.speech_bpe_size,
                patching.speech_bpe_sequences,
                config.seed,
            )
            num_pieces = sum(len(fitted.encode(units)) for units in sequences)
            say(
                f"speech BPE: {fitted.num_pieces:,} pieces, {sum(map(len, sequences)) / num_pieces:.2f} units each on "
                "training speech"
            )
            fitted.save(folder / SPEECH_BPE_FILE)
        return load_patching(folder, patching, data)
    return plain_patching(patching, data)


def fit_ahead(config: Config, data: PreparedData, fitted: Path) -> FittedPatching:
    """Fits the strategy before its training begins; trainings of one seed and one patching share what is fitted.

    Args:
        config: of the training.
        data: gives the speech.
        fitted: folder of all that is fitted ahead.
    """
    return fit_patching(config, data, _ahead(config, data, fitted))


def hand_over(config: Config, data: PreparedData, fitted: Path, training: Path) -> None:
    """Gives a training that has not begun what ``fit_ahead`` has fitted for it."""
    source = _ahead(config, data, fitted)
    if not source.exists() or (training / "settings.json").exists():
        return
    for place in (training / UNIT_MODEL_FOLDER, training / SPEECH_BPE_FILE):
        remove_folder(place) if place.is_dir() else remove(place)
    adopt_parts(source, training)


def adopt_parts(source: Path, training: Path) -> None:
    """Copies fitted parts of one folder into another; what is there already stays."""
    if (source / UNIT_MODEL_FOLDER).is_dir() and not (training / UNIT_MODEL_FOLDER).exists():
        copy_folder(source / UNIT_MODEL_FOLDER, training / UNIT_MODEL_FOLDER)
    if (source / SPEECH_BPE_FILE).is_file() and not (training / SPEECH_BPE_FILE).exists():
        write_bytes(training / SPEECH_BPE_FILE, read_bytes(source / SPEECH_BPE_FILE))


def _ahead(config: Config, data: PreparedData, fitted: Path) -> Path:
    return fitted / fingerprint([data.fingerprint, config.seed, config.patching.recorded()])[:16]


def _fit_entropy(config: Config, data: PreparedData, folder: Path) -> FittedPatching:
    patching, unit_folder = config.patching, folder / UNIT_MODEL_FOLDER
    if not (unit_folder / CONFIG_FILE).exists():
        sequences = _training_units(config, data, UNIT_MODEL_UTTERANCES)
        fit_unit_model(sequences, data.vocabulary.num_units, patching.unit_context, config.seed).save(unit_folder)
    fitted = load_patching(folder, patching, data)
    assert fitted.unit_model is not None
    threshold = patching.entropy_threshold
    if threshold is None and (unit_folder / THRESHOLD_FILE).exists():
        remedy = f"Delete {unit_folder / THRESHOLD_FILE}: it is fitted anew."
        place = unit_folder / THRESHOLD_FILE
        threshold = read_json(place, Threshold, "the threshold of entropy patching", remedy)["entropy_threshold"]
    if threshold is None:
        sequences = _training_units(config, data, THRESHOLD_UTTERANCES)
        entropies = [fitted.unit_model.measure(units, name=patching.entropy_measure) for units in sequences]
        threshold, mean_units = fit_entropy_threshold(entropies, patching)
        say(
            f"entropy patching: a threshold of {threshold:.3f} nats gives patches of {mean_units:.2f} units on "
            f"training speech (patching.entropy_size={patching.entropy_size:g})"
        )
        record: Threshold = {"version": 1, "entropy_threshold": threshold}
        write_json(unit_folder / THRESHOLD_FILE, record)
    return replace(fitted, config=replace(patching, entropy_threshold=threshold))


def _training_units(config: Config, data: PreparedData, limit: int) -> list[np.ndarray]:
    """Units, as documents hold them, of at most ``limit`` training utterances, drawn with the seed."""
    order = np.random.default_rng([config.seed, 0xF17]).permutation(len(data.train))[:limit]
    utterances: list[Utterance] = [data.train[index] for index in np.sort(order).tolist()]
    is_raw = not config.patching.deduplicate
    return [utterance.units if is_raw else deduplicate(utterance.units)[0] for utterance in utterances]
