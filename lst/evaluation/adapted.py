"""Recognition and reading aloud by an adapted model: what it writes of speech, and what units it gives to a text.

::

    <bos> <speech> units <text>  ──▶ words <eos>      asr: ``transcribed``
    <bos> <text> words <speech>  ──▶ units <eos>      tts: ``read_aloud``

Answers have limits, so that nothing runs on: nobody says more letters a second, or needs more seconds for a letter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lst.data.documents import DocumentBuilder, DocumentPart
from lst.model.batch import SPEECH, TEXT
from lst.model.inference import Continuation, SearchOptions, cut_documents, search
from lst.runs import WholeModel

# A piece of text has a letter or more. Read speech has about 15 letters a second.
LETTERS_A_SECOND, LEAST_LETTERS = 25, 10
SECONDS_A_LETTER, LEAST_SECONDS = 0.15, 1.0
# Beams that are followed together, of several prompts.
_BEAMS_AT_ONCE = 32


@dataclass(frozen=True)
class Answer:
    """What a model wrote or said.

    Attributes:
        text: written; empty of ``read_aloud``.
        units: said, int [n]; none of ``transcribed``.
        num_tokens: that it added.
        num_global_steps: patches of prompt and answer: steps of the backbone.
        num_unpatched_steps: tokens of prompt and answer: what a model without patches takes.
        ended_by: ``stop``, ``length`` or ``context``; see ``Continuation``.
    """

    text: str
    units: np.ndarray
    num_tokens: int
    num_global_steps: int
    num_unpatched_steps: int
    ended_by: str


def transcribed(
    whole: WholeModel,
    builder: DocumentBuilder,
    speech: Sequence[np.ndarray],
    num_beams: int,
    limits: Sequence[int] | None = None,
    advance: Callable[[int], object] | None = None,
) -> list[Answer]:
    """The likeliest words of speech.

    Args:
        whole: an adapted model.
        builder: makes its documents.
        speech: units, int [n] each.
        num_beams: 1 is greedy.
        limits: tokens of each answer at most; None takes what the fastest speaker could say.
        advance: is told how many are done.
    """
    rate_hz = whole.tokenizers.vocabulary.unit_rate_hz
    if limits is None:
        limits = [LEAST_LETTERS + math.ceil(LETTERS_A_SECOND * len(units) / rate_hz) for units in speech]
    parts = [builder.speech_part(units) for units in speech]
    return _answers(whole, builder, parts, limits, SearchOptions("text", num_beams), advance)


def read_aloud(
    whole: WholeModel,
    builder: DocumentBuilder,
    texts: Sequence[str],
    num_beams: int,
    advance: Callable[[int], object] | None = None,
) -> list[Answer]:
    """The likeliest units of texts; arguments as of ``transcribed``."""
    parts, limits = [builder.text_part(text) for text in texts], [most_units(whole, text) for text in texts]
    return _answers(whole, builder, parts, limits, SearchOptions("speech", num_beams), advance)


def most_units(whole: WholeModel, text: str) -> int:
    """What the slowest speaker would need for a text, in units."""
    return math.ceil(whole.tokenizers.vocabulary.unit_rate_hz * (LEAST_SECONDS + SECONDS_A_LETTER * len(text)))


def _answers(
    whole: WholeModel,
    builder: DocumentBuilder,
    parts: Sequence[DocumentPart],
    limits: Sequence[int],
    options: SearchOptions,
    advance: Callable[[int], object] | None,
) -> list[Answer]:
    """Answers to prompts of one part each; prompts of similar limits go together."""
    order = np.argsort(limits, kind="stable").tolist()
    at_once = max(1, _BEAMS_AT_ONCE // options.num_beams)
    found: dict[int, Continuation] = {}
    for start in range(0, len(order), at_once):
        chosen = order[start : start + at_once]
        own = search(
            whole.model,
            [builder.document("prompt", [parts[number]], end=False) for number in chosen],
            [limits[number] for number in chosen],
            whole.patching.config,
            whole.layout,
            options,
            whole.patching.unit_measure,
        )
        found.update(zip(chosen, own, strict=True))
        if advance is not None:
            advance(len(chosen))
    return [_answer(whole, builder, part, found[number]) for number, part in enumerate(parts)]


def _answer(whole: WholeModel, builder: DocumentBuilder, part: DocumentPart, found: Continuation) -> Answer:
    is_spoken, ids = part.modality == TEXT, found.token_ids
    modality = SPEECH if is_spoken else TEXT
    own = DocumentPart(modality, whole.layout.marker_id(modality), ids, np.zeros(0, np.int32), np.zeros(0, bool))
    document = builder.document("answer", [part, own])
    (cut,) = cut_documents(whole.model, [document], whole.strategy, whole.patching.config)
    return Answer(
        "" if is_spoken else whole.tokenizers.tokenizer.decode(ids.tolist()),
        whole.patching.units_of(ids) if is_spoken else np.zeros(0, np.int64),
        len(ids),
        len(cut),
        len(document),
        found.ended_by,
    )
