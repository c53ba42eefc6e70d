"""What some strategies fit before a model is trained: a unit model and its threshold, or a speech BPE.

::

    RUN/models/NAME/unit_model/         weights.safetensors, config.json, threshold.json
    RUN/models/NAME/speech_bpe.model
    RUN/models/NAME/final/…             the same once more, with the model that needs it; the threshold is in the
                                        patching options of its config.json
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

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
from lst.storage import read_json, write_json
from lst.tokenizers.speech import deduplicate
from lst.tokenizers.speech_bpe import SpeechBPE, check_sizes, fit_speech_bpe
from lst.tokenizers.vocabulary import Vocabulary

UNIT_MODEL_FOLDER, THRESHOLD_FILE, SPEECH_BPE_FILE = "unit_model", "threshold.json", "speech_bpe.model"
FITTED_STRATEGIES = ("entropy", "speech_bpe")
# Enough for a unit model and for a quantile; more would only take longer.
UNIT_MODEL_UTTERANCES, THRESHOLD_UTTERANCES = 20_000, 1_000


@dataclass(frozen=True)
class FittedPatching:
    """A way of patching with all that it needs, and the vocabulary of its tokens.

    Attributes:
        config: the options, the threshold of entropy patching among them.
        vocabulary: the data's, or that of the pieces of a speech BPE.
        unit_model: of entropy patching.
        speech_bpe: of the strategy of that name.

    Where units are deduplicated, the vocabulary says so, and documents are made accordingly.
    """

    config: PatchingConfig
    vocabulary: Vocabulary
    unit_model: UnitModel | None = None
    speech_bpe: SpeechBPE | None = None

    def builder(self, config: Config, data: PreparedData) -> DocumentBuilder:
        """Makes documents that this patching can cut."""
        return DocumentBuilder(
            data.tokenizer,
            self.vocabulary,
            config.data.interleave,
            config.seed,
            segment_level=self.config.aligned_to,
            entropies=self._entropies,
            speech_bpe=self.speech_bpe,
        )

    @property
    def _entropies(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
        return partial(self.unit_model.measure, name=self.config.entropy_measure) if self.unit_model else None

    @property
    def unit_measure(self) -> Callable[[np.ndarray], float] | None:
        """What entropy patching asks the unit model after each unit of a growing document."""
        if self.unit_model is None:
            return None
        return (
            self.unit_model.next_entropy
            if self.config.entropy_measure == "entropy"
            else (self.unit_model.last_surprisal)
        )

    @property
    def hashes(self) -> list[str]:
        """Of what was fitted; none where nothing is."""
        return [part.sha256 for part in (self.unit_model, self.speech_bpe) if part is not None]

    def units_of(self, ids: np.ndarray) -> np.ndarray:
        """Units, int [n], that joint ids of speech, int [m], stand for."""
        tokens = ids - self.vocabulary.first_unit_id
        return tokens if self.speech_bpe is None else self.speech_bpe.decode(tokens)

    def save(self, folder: Path) -> None:
        """Writes what was fitted into a model's folder; nothing for the other strategies."""
        if self.unit_model is not None:
            self.unit_model.save(folder / UNIT_MODEL_FOLDER)
        if self.speech_bpe is not None:
            self.speech_bpe.save(folder / SPEECH_BPE_FILE)


def plain_patching(config: PatchingConfig, data: PreparedData) -> FittedPatching:
    """A patching that fits nothing."""
    return FittedPatching(config, unit_vocabulary(config, data.vocabulary))


def unit_vocabulary(config: PatchingConfig, vocabulary: Vocabulary) -> Vocabulary:
    """The data's vocabulary, or the one under which a run of units counts once.

    Raises:
        UserError: units are to be read once that repeat in no run, for several stand for a frame.
    """
    if not config.deduplicate:
        return vocabulary
    if vocabulary.units_a_frame > 1:
        raise UserError(
            f"patching.deduplicate=true joins units that repeat from frame to frame, and a frame of this data has "
            f"{vocabulary.units_a_frame} units: set patching.deduplicate=false or prepare with one codebook"
        )
    return replace(vocabulary, deduplicated=True)


def load_patching(folder: Path, config: PatchingConfig, data: PreparedData) -> FittedPatching:
    """The patching that a model was trained with.

    Args:
        folder: of the trained model, or of a training.
        config: as the model's configuration has it.
        data: that the model is used on.

    Raises:
        UserError: what was fitted is missing or damaged, or is of another codebook.
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
    """Raises ``UserError`` where this data cannot be patched so: before anything is written."""
    unit_vocabulary(patching, data.vocabulary)
    if patching.strategy in FITTED_STRATEGIES and len(data.train) < 2:
        raise UserError(
            f"patching.strategy={patching.strategy} is fitted to training speech, and there are {len(data.train)} "
            "utterances of it: add speech or choose another patching"
        )
    if patching.strategy == "speech_bpe":
        check_sizes(data.vocabulary.num_units, patching.speech_bpe_size)


def fit_patching(config: Config, data: PreparedData, folder: Path) -> FittedPatching:
    """Fits what the strategy needs to the training split, or finds what an earlier call fitted.

    Args:
        config: options and seed.
        data: gives the speech.
        folder: of the training, where it is kept.

    Raises:
        UserError: there is too little speech, or what was fitted is damaged.
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
        threshold = read_json(
            unit_folder / THRESHOLD_FILE, dict[str, Any], "the threshold of entropy patching", remedy
        )["entropy_threshold"]
    if threshold is None:
        sequences = _training_units(config, data, THRESHOLD_UTTERANCES)
        entropies = [fitted.unit_model.measure(units, name=patching.entropy_measure) for units in sequences]
        threshold, mean_units = fit_entropy_threshold(entropies, patching)
        say(
            f"entropy patching: a threshold of {threshold:.3f} nats gives patches of {mean_units:.2f} units on "
            f"training speech (patching.entropy_size={patching.entropy_size:g})"
        )
        write_json(unit_folder / THRESHOLD_FILE, {"entropy_threshold": threshold})
    return replace(fitted, config=replace(patching, entropy_threshold=threshold))


def _training_units(config: Config, data: PreparedData, limit: int) -> list[np.ndarray]:
    """Units, as they will be read, of at most ``limit`` training utterances, drawn from the seed."""
    order = np.random.default_rng([config.seed, 0xF17]).permutation(len(data.train))[:limit]
    utterances: list[Utterance] = [data.train[index] for index in np.sort(order).tolist()]
    if config.patching.deduplicate:
        return [deduplicate(utterance.units)[0] for utterance in utterances]
    return [utterance.units for utterance in utterances]
