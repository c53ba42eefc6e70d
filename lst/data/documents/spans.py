"""Draws the spans of interleaved documents: for one document (the rule), and for many documents at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from lst.data.config import InterleaveConfig
from lst.data.documents.draws import Generators, seed_words
from lst.data.utterance import Utterance
from lst.model.batch import SPEECH, TEXT


class Span(NamedTuple):
    """Words ``first_word`` … ``last_word`` (exclusive) in one modality."""

    modality: int
    first_word: int
    last_word: int


class Spans(NamedTuple):
    """Spans of many documents in joined arrays.

    Attributes:
        documents: int64 [s], the document of each span, in order.
        modalities: uint8 [s].
        first_words, last_words: int64 [s], as in ``Span``.
    """

    documents: np.ndarray
    modalities: np.ndarray
    first_words: np.ndarray
    last_words: np.ndarray


def document_generator(seed: int, epoch: int, utterance_id: str) -> np.random.Generator:
    """The random generator of a document's cuts; it depends on the arguments only."""
    return np.random.default_rng([seed, epoch, int.from_bytes(_digest(utterance_id), "little")])


def _digest(utterance_id: str) -> bytes:
    return hashlib.sha256(utterance_id.encode()).digest()[:8]


def draw_spans(num_words: int, config: InterleaveConfig, generator: np.random.Generator) -> list[Span]:
    """Cuts an utterance of ``num_words`` words into alternating spans. The first modality is random.

    A text span has ``text_min_words`` to ``text_max_words`` words, but at most ``text_max_share`` of the utterance. The
    next speech span has ``speech_ratio`` times as many words, at least ``speech_min_words``. A speech span at the start
    has ``speech_min_words`` to ``leading_speech_max_words`` words, but at most ``leading_speech_max_share`` of the
    utterance, if that is set. The last span takes the remaining words; with fewer than ``merge_last_below_words`` it
    joins the one before it.

    >>> spans = draw_spans(20, InterleaveConfig(), document_generator(seed=0, epoch=0, utterance_id="utt_1"))
    >>> [(span.modality, span.first_word, span.last_word) for span in spans]
    [(0, 0, 12), (1, 12, 18), (0, 18, 20)]
    """
    most_text = max(1, min(config.text_max_words, int(config.text_max_share * num_words)))
    least_text = min(config.text_min_words, most_text)
    modality = SPEECH if generator.random() < 0.5 else TEXT
    most_leading = config.leading_speech_max_words
    if config.leading_speech_max_share is not None:
        most_leading = max(1, min(most_leading, int(config.leading_speech_max_share * num_words)))
    wanted = int(generator.integers(min(config.speech_min_words, most_leading), most_leading + 1))
    spans: list[Span] = []
    position = 0
    while position < num_words:
        if modality == TEXT:
            wanted = int(generator.integers(least_text, most_text + 1))
        end = min(position + wanted, num_words)
        spans.append(Span(modality, position, end))
        wanted = max(config.speech_min_words, round((end - position) * config.speech_ratio))
        position, modality = end, TEXT if modality == SPEECH else SPEECH
    if len(spans) > 1 and num_words - spans[-1].first_word < config.merge_last_below_words:
        spans[-2:] = [spans[-2]._replace(last_word=num_words)]
    return spans


def draw_spans_together(
    utterances: Sequence[Utterance], epochs: Sequence[int], config: InterleaveConfig, seed: int
) -> Spans:
    """Equals ``draw_spans`` of each document with its ``document_generator``, but draws all of them together.

    Args:
        utterances: aligned utterances.
        epochs: of each utterance.
        config: how long spans are.
        seed: of the draws.
    """
    num_words = np.array([len(utterance.words) for utterance in utterances], np.int64)
    digests = np.frombuffer(b"".join(_digest(utterance.id) for utterance in utterances), "<u4").reshape(-1, 2)
    all_epochs = np.array(epochs, np.int64)
    found = []
    for epoch in np.unique(all_epochs).tolist():
        fixed = seed_words([seed, epoch])
        # NumPy omits the high word of a number if it is 0.
        for num_own in (1, 2):
            chosen = np.flatnonzero((all_epochs == epoch) & ((digests[:, 1] > 0) == (num_own == 2)))
            if len(chosen):
                words = [np.full(len(chosen), word, np.uint32) for word in fixed] + list(digests[chosen].T[:num_own])
                spans = _draw(num_words[chosen], config, Generators(np.stack(words)))
                found.append(spans._replace(documents=chosen[spans.documents]))
    return _in_order(found)


def _draw(num_words: np.ndarray, config: InterleaveConfig, generators: Generators) -> Spans:
    """``draw_spans`` of each generator; each round draws the next span of every unfinished document."""
    most_text = np.clip((config.text_max_share * num_words).astype(np.int64), 1, max(config.text_max_words, 1))
    least_text = np.minimum(config.text_min_words, most_text)
    everyone = np.arange(len(num_words))
    is_text = generators.random() >= 0.5
    longest = np.full(len(num_words), config.leading_speech_max_words)
    if config.leading_speech_max_share is not None:
        longest = np.clip((config.leading_speech_max_share * num_words).astype(np.int64), 1, longest)
    wanted = generators.integers(np.minimum(config.speech_min_words, longest), longest, everyone)
    position = np.zeros(len(num_words), np.int64)
    rounds = []
    active = everyone[num_words > 0]
    while len(active):
        opens_text = is_text[active]
        texts = active[opens_text]
        wanted[texts] = generators.integers(least_text[texts], most_text[texts], texts)
        start = position[active]
        end = np.minimum(start + wanted[active], num_words[active])
        rounds.append(Spans(active, np.where(opens_text, TEXT, SPEECH).astype(np.uint8), start, end))
        # Halves are rounded to even, as Python's round does.
        wanted[active] = np.maximum(config.speech_min_words, np.rint((end - start) * config.speech_ratio))
        position[active], is_text[active] = end, ~opens_text
        active = active[end < num_words[active]]
    return _with_last_merged(_in_order(rounds), config.merge_last_below_words)


def _with_last_merged(spans: Spans, least_words: int) -> Spans:
    """Joins a document's last span to the one before it, where it has fewer than ``least_words`` words."""
    follows = np.zeros(len(spans.documents), bool)
    follows[1:] = np.diff(spans.documents) == 0
    is_last = np.roll(~follows, -1)
    merged = follows & is_last & (spans.last_words - spans.first_words < least_words)
    last_words = spans.last_words.copy()
    last_words[np.flatnonzero(merged) - 1] = spans.last_words[merged]
    return Spans(*(array[~merged] for array in spans._replace(last_words=last_words)))


def _in_order(parts: Sequence[Spans]) -> Spans:
    """Joins spans and sorts them by document, keeping the order within each document."""
    if not parts:
        nothing = np.zeros(0, np.int64)
        return Spans(nothing, nothing.astype(np.uint8), nothing, nothing)
    joined = Spans(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    order = np.argsort(joined.documents, kind="stable")
    return Spans(*(array[order] for array in joined))


def written_where_unaligned(spans: Spans, utterances: Sequence[Utterance]) -> Spans:
    """Takes words that were not found in the audio out of speech spans: they are text, joined to text beside them.

    Args:
        spans: drawn of the utterances.
        utterances: of the documents.
    """
    unaligned = {
        place: {number for number, word in enumerate(utterance.words) if word.is_unaligned}
        for place, utterance in enumerate(utterances)
        if any(word.is_unaligned for word in utterance.words)
    }
    if not unaligned:
        return spans
    rows: list[list[int]] = []
    for document, modality, first, last in zip(*(column.tolist() for column in spans), strict=True):
        missing = unaligned.get(document, set()) if modality == SPEECH else set()
        for is_missing, group in groupby(range(first, last), missing.__contains__):
            words, own = list(group), TEXT if is_missing else modality
            if own == TEXT and rows and rows[-1][:2] == [document, TEXT]:
                rows[-1][3] = words[-1] + 1
            else:
                rows.append([document, own, words[0], words[-1] + 1])
    documents, modalities, firsts, lasts = np.array(rows, np.int64).reshape(-1, 4).T
    return Spans(documents, modalities.astype(np.uint8), firsts, lasts)


def span_frames(utterance: Utterance, first_word: int, last_word: int, units_a_frame: int = 1) -> tuple[int, int]:
    """First and last (exclusive) unit of words ``first_word`` … ``last_word`` (exclusive).

    A cut is in the middle of the silence. Silence at the start and end of the utterance belongs to its first and last
    word. With several units a frame, a cut is between frames.

    >>> from lst.data.utterance import Word
    >>> words = (Word("a", 2, 4, 0.0), Word("cat", 8, 12, 0.0))
    >>> utterance = Utterance("utt_1", "ann", "a cat", 0.6, np.zeros(15, np.uint16), words)
    >>> span_frames(utterance, 0, 1), span_frames(utterance, 1, 2)
    ((0, 6), (6, 15))
    """
    words = utterance.words

    def middle(word: int) -> int:
        return (words[word - 1].end_frame + words[word].start_frame) // (2 * units_a_frame) * units_a_frame

    start = 0 if first_word == 0 else middle(first_word)
    return start, utterance.num_frames if last_word == len(words) else middle(last_word)
