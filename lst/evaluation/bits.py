"""Bits a speech unit and bits a byte of text on held-out utterances."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lst.data.utterance import Utterance
from lst.evaluation.results import HeldOutBits
from lst.evaluation.scorer import Scorer
from lst.model.batch import Document


def held_out_bits(scorer: Scorer, utterances: Sequence[Utterance]) -> HeldOutBits:
    """Bits over whole utterances, spoken and written. Markers, ``<bos>`` and ``<eos>`` are not counted."""
    builder = scorer.builder
    documents = [*map(builder.speech, utterances), *map(builder.text, utterances)]
    scores = [score.sum_nats for score in scorer.score([content_of(document) for document in documents])]
    num_units = sum(map(builder.num_units, utterances))
    num_bytes = sum(len(utterance.text.encode()) for utterance in utterances)
    return {
        "bits_per_unit": -sum(scores[: len(utterances)]) / math.log(2) / num_units,
        "bits_per_byte": -sum(scores[len(utterances) :]) / math.log(2) / num_bytes,
        "num_units": num_units,
        "num_bytes": num_bytes,
    }


def content_of(document: Document) -> tuple[Document, slice]:
    """A document with the range of its tokens between its first marker and ``<eos>``."""
    return document, slice(2, len(document) - 1)
