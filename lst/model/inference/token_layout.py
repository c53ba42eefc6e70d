"""What the ids of a joint vocabulary mean, for generation and scoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT, Document


@dataclass(frozen=True)
class TokenLayout:
    """The ids of text, markers and speech units.

    Attributes:
        num_text: ids below it are text pieces.
        first_unit_id: it and all ids above are speech units.
        text_id, speech_id: the markers that open a span of their modality.
        eos_id: ends a document.
    """

    num_text: int
    first_unit_id: int
    text_id: int
    speech_id: int
    eos_id: int

    def marker_id(self, modality: int) -> int:
        """The marker of a modality."""
        return self.speech_id if modality == SPEECH else self.text_id

    def modality_of(self, token_id: int) -> int:
        """The modality of a token: markers and other special tokens count as text."""
        return SPEECH if token_id >= self.first_unit_id else TEXT

    def check(self, document: Document) -> None:
        """Raises ``UserError`` for a token whose modality is not that of its id, or that has not its marker before it.

        The last marker before a text piece or a unit must be the marker of its modality.
        """
        if not len(document):
            raise UserError(f"document {document.id!r} is empty: it needs one token or more, such as <bos>")
        ids, is_speech = document.token_ids, document.modalities == SPEECH
        wrong = is_speech != (ids >= self.first_unit_id)
        if wrong.any():
            place = int(wrong.argmax())
            raise UserError(
                f"document {document.id!r}: token {place} has id {ids[place]} and modality {document.modalities[place]}"
                f", but ids from {self.first_unit_id} on are speech ({SPEECH}) and those below are not ({TEXT})"
            )
        is_marker = (ids == self.text_id) | (ids == self.speech_id)
        last_marker = np.maximum.accumulate(np.where(is_marker, np.arange(len(ids)), -1))
        opened = np.where(last_marker >= 0, ids[last_marker], -1)
        is_content = is_speech | (ids < self.num_text)
        unopened = is_content & (opened != np.where(is_speech, self.speech_id, self.text_id))
        if unopened.any():
            place = int(unopened.argmax())
            modality = SPEECH if is_speech[place] else TEXT
            name = "speech" if is_speech[place] else "text"
            raise UserError(
                f"document {document.id!r}: token {place} is {name} without a marker before it: put the id "
                f"{self.marker_id(modality)} before every span of {name}"
            )
