"""The tokenizers inside a model's folder: what turns text and audio into the model's ids, and back.

::

    FOLDER/text.model           the SentencePiece model of text, as prepared data holds it
    FOLDER/units.safetensors    the codebook of speech units; see ``lst.tokenizers.units_file``

With them a copied folder is a whole model. The weights of a HuBERT, Whisper or EnCodec model are not inside: the
codebook knows their hash and where they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lst.data.prepared import TEXT_FILE, UNITS_FILE, PreparedData, load_units
from lst.tokenizers.speech import SpeechTokenizer
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary

_REMEDY = "Put the original file back, or write the folder again with lst export hub=FOLDER."


@dataclass(frozen=True)
class ModelTokenizers:
    """What gives a model's ids their meaning.

    Attributes:
        tokenizer: of text.
        codec: of speech units.
    """

    tokenizer: TextTokenizer
    codec: SpeechTokenizer

    @classmethod
    def of(cls, data: PreparedData) -> ModelTokenizers:
        """Those of prepared data."""
        return cls(data.tokenizer, data.codec)

    @property
    def vocabulary(self) -> Vocabulary:
        """The joint vocabulary of both, as prepared data has it."""
        text, units = self.tokenizer, self.codec
        return Vocabulary(
            text.vocab_size,
            units.num_units,
            text.sha256,
            units.sha256,
            units.frame_rate_hz,
            units.kind,
            units.name,
            units.units_a_frame,
        )

    def save(self, folder: Path, names_local_weights: bool = True) -> None:
        """Writes both into a model's folder.

        Args:
            folder: of the model.
            names_local_weights: see ``SpeechTokenizer.save``.
        """
        self.tokenizer.save(folder / TEXT_FILE)
        self.codec.save(folder / UNITS_FILE, names_local_weights)

    @classmethod
    def load(cls, folder: Path, places: Mapping[str, Any] | None = None) -> ModelTokenizers:
        """Reads both from a model's folder.

        Args:
            folder: of the model.
            places: where a speech model's weights are now, as ``unit_places``; None if they were not moved.

        Raises:
            UserError: a file is missing or damaged.
        """
        return cls(TextTokenizer.load(folder / TEXT_FILE, _REMEDY), load_units(folder / UNITS_FILE, places))

    @staticmethod
    def are_in(folder: Path) -> bool:
        """Whether a model's folder holds tokenizers; folders of earlier versions do not."""
        return (folder / TEXT_FILE).exists() or (folder / UNITS_FILE).exists()
