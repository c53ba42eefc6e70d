"""Utterances to documents: interleaved, text alone, or speech alone (after the LST paper's data).

An interleaved document alternates text and speech at word boundaries, with a marker before every span, ``<bos>`` and
``<eos>`` once. A silence at a cut belongs half to each side. Cuts are drawn from (seed, epoch, utterance id), so any
document can be made again anywhere.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from lst.data.config import InterleaveConfig
from lst.data.utterance import Utterance
from lst.model.batch import SPEECH, TEXT, Document
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary


class Span(NamedTuple):
    """Words ``first_word`` … ``last_word`` (exclusive) in one modality."""

    modality: int
    first_word: int
    last_word: int


def document_generator(seed: int, epoch: int, utterance_id: str) -> np.random.Generator:
    """The generator of one document's cuts: a pure function of its arguments."""
    digest = hashlib.sha256(utterance_id.encode()).digest()
    return np.random.default_rng([seed, epoch, int.from_bytes(digest[:8], "little")])


def draw_spans(num_words: int, config: InterleaveConfig, generator: np.random.Generator) -> list[Span]:
    """Cuts an utterance of ``num_words`` words into alternating spans, the first modality drawn at random.

    A text span has ``text_min_words`` to ``text_max_words`` words, at most ``text_max_share`` of the utterance; the
    speech span after it has ``speech_ratio`` as many, at least ``speech_min_words``; a speech span that opens the
    document has ``speech_min_words`` to ``leading_speech_max_words``. The last span takes what is left.
    """
    most_text = max(1, min(config.text_max_words, int(config.text_max_share * num_words)))
    least_text = min(config.text_min_words, most_text)
    modality = SPEECH if generator.random() < 0.5 else TEXT
    wanted = int(generator.integers(config.speech_min_words, config.leading_speech_max_words + 1))
    spans: list[Span] = []
    position = 0
    while position < num_words:
        if modality == TEXT:
            wanted = int(generator.integers(least_text, most_text + 1))
        end = min(position + wanted, num_words)
        spans.append(Span(modality, position, end))
        wanted = max(config.speech_min_words, round((end - position) * config.speech_ratio))
        position, modality = end, TEXT if modality == SPEECH else SPEECH
    return spans


def span_frames(utterance: Utterance, first_word: int, last_word: int) -> tuple[int, int]:
    """Frames of words ``first_word`` … ``last_word`` (exclusive), silences at the cuts halved.

    The utterance's own leading and trailing silences belong whole to its first and last words.
    """
    words = utterance.words
    start = 0 if first_word == 0 else _middle(words[first_word - 1].end_frame, words[first_word].start_frame)
    last = len(words)
    end = (
        utterance.num_frames
        if last_word == last
        else _middle(words[last_word - 1].end_frame, words[last_word].start_frame)
    )
    return start, end


def _middle(silence_start: int, silence_end: int) -> int:
    return (silence_start + silence_end) // 2


class DocumentBuilder:
    """Turns spans of utterances into documents of the joint vocabulary."""

    def __init__(self, tokenizer: TextTokenizer, vocabulary: Vocabulary, config: InterleaveConfig, seed: int) -> None:
        self.tokenizer, self.vocabulary, self.config, self.seed = tokenizer, vocabulary, config, seed

    def interleaved(self, utterance: Utterance, epoch: int) -> Document:
        """A document that switches between speech and text, with this epoch's cuts."""
        generator = document_generator(self.seed, epoch, utterance.id)
        return self.from_spans(utterance, draw_spans(len(utterance.words), self.config, generator))

    def speech(self, utterance: Utterance) -> Document:
        """The whole utterance as speech."""
        return self.from_spans(utterance, [Span(SPEECH, 0, len(utterance.words))])

    def text(self, utterance: Utterance) -> Document:
        """The whole utterance as text; all that a written text can be."""
        return self.document(utterance.id, [self.text_part(utterance.text)])

    def from_spans(self, utterance: Utterance, spans: list[Span]) -> Document:
        """A document of the given spans, which name words of an aligned utterance."""
        return self.document(utterance.id, [self.span_part(utterance, span) for span in spans])

    def span_part(self, utterance: Utterance, span: Span) -> DocumentPart:
        """One span, its marker first."""
        if span.modality == TEXT:
            return self.text_part(" ".join(word.text for word in utterance.words[span.first_word : span.last_word]))
        start, end = span_frames(utterance, span.first_word, span.last_word)
        cut = [
            (segment.word < 0, min(segment.end_frame, end) - max(segment.start_frame, start))
            for segment in utterance.segments()
            if segment.end_frame > start and segment.start_frame < end
        ]
        return DocumentPart(
            SPEECH,
            self.vocabulary.speech_id,
            self.vocabulary.unit_ids(utterance.units[start:end]),
            np.array([length for _, length in cut], np.int32),
            np.array([is_silence for is_silence, _ in cut], bool),
        )

    def text_part(self, text: str) -> DocumentPart:
        """A span of text, tokenised as a text of its own."""
        ids = np.array(self.tokenizer.encode(text), np.int32)
        return DocumentPart(TEXT, self.vocabulary.text_id, ids, np.zeros(0, np.int32), np.zeros(0, bool))

    def document(self, document_id: str, parts: list[DocumentPart], end: bool = True) -> Document:
        """Joins parts: ``<bos>``, each part behind its marker (once while the modality stays), ``<eos>``."""
        ids = [np.array([self.vocabulary.bos_id], np.int32)]
        modalities = [np.array([TEXT], np.uint8)]
        previous: int | None = None
        for part in parts:
            if part.modality != previous:
                ids.append(np.array([part.marker_id], np.int32))
                modalities.append(np.array([TEXT], np.uint8))
            ids.append(part.token_ids)
            modalities.append(np.full(len(part.token_ids), part.modality, np.uint8))
            previous = part.modality
        if end:
            ids.append(np.array([self.vocabulary.eos_id], np.int32))
            modalities.append(np.array([TEXT], np.uint8))
        return Document(
            document_id,
            np.concatenate(ids),
            np.concatenate(modalities),
            np.concatenate([part.segment_lengths for part in parts]),
            np.concatenate([part.segment_is_silence for part in parts]),
        )


class DocumentPart(NamedTuple):
    """A span in ids: modality, the marker that opens it, its tokens, and its words and silences."""

    modality: int
    marker_id: int
    token_ids: np.ndarray
    segment_lengths: np.ndarray
    segment_is_silence: np.ndarray
