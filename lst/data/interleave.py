"""Utterances to documents: interleaved, text alone, or speech alone (after the LST paper's data).

An interleaved document alternates text and speech at word boundaries, with a marker before every span, ``<bos>`` and
``<eos>`` once. A silence at a cut belongs half to each side. Cuts are drawn from (seed, epoch, utterance id), so any
document can be made again anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lst.data.config import InterleaveConfig
from lst.data.utterance import Utterance, piece_character_ends
from lst.model.batch import SPEECH, TEXT, Document
from lst.tokenizers.speech_bpe import SpeechBPE
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary

# Words whose pieces are remembered; they are forgotten together.
MAX_CACHED_WORDS = 200_000


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


def split_words(
    word_frames: np.ndarray,
    num_pieces: np.ndarray,
    piece_characters: np.ndarray,
    character_ends: np.ndarray | None = None,
) -> np.ndarray:
    """Divides the frames of words among their BPE pieces.

    Without ``character_ends`` this is an estimate: it takes all characters of a word to last equally long. Within the
    aligned word, pieces get frames in proportion to their characters, boundaries rounded to the nearest frame (halves
    up). A piece may get none; together they get the word's.

    Args:
        word_frames: int [w], frames of each word.
        num_pieces: int [w], pieces of each word, one at least.
        piece_characters: int [p], characters of each piece, of all words in order; a word without any goes whole to its
            last piece.
        character_ends: int [c], where an aligner knows them: the frame after the last of each character, counted from
            its word's start, not falling within a word. The last piece still ends with its word.

    Returns:
        int32 [p], frames of each piece.
    """
    first_pieces = np.cumsum(num_pieces) - num_pieces
    word_of_piece = np.repeat(np.arange(len(num_pieces)), num_pieces)
    characters_up_to = np.cumsum(piece_characters)
    before_word = np.concatenate([[0], characters_up_to])[first_pieces]
    if character_ends is None:
        own = characters_up_to - before_word[word_of_piece]
        of_word = (characters_up_to[first_pieces + num_pieces - 1] - before_word)[word_of_piece]
        ends = (2 * own * word_frames[word_of_piece] + of_word) // np.maximum(2 * of_word, 1)
    else:
        has_character = characters_up_to > before_word[word_of_piece]
        padded = np.append(character_ends, 0)
        ends = np.where(has_character, padded[np.where(has_character, characters_up_to - 1, -1)], 0)
    ends[first_pieces + num_pieces - 1] = word_frames
    ends = np.minimum(ends, word_frames[word_of_piece])
    starts = np.concatenate([[0], ends[:-1]])
    starts[first_pieces] = 0
    return (ends - starts).astype(np.int32)


class DocumentBuilder:
    """Turns spans of utterances into documents of the joint vocabulary.

    Args:
        tokenizer: of text.
        vocabulary: ids; with a speech BPE, the vocabulary of its pieces.
        config: how spans are drawn.
        seed: of those draws.
        segment_level: what documents record of an alignment: ``word`` (and silence), or ``bpe``, the pieces of words.
        entropies: for entropy patching: units of spans joined, int [n], and where each begins, int [s], to float32 [n].
        speech_bpe: joins the units of each span to pieces; such documents have no segments.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        vocabulary: Vocabulary,
        config: InterleaveConfig,
        seed: int,
        segment_level: str = "word",
        entropies: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        speech_bpe: SpeechBPE | None = None,
    ) -> None:
        self.tokenizer, self.vocabulary, self.config, self.seed = tokenizer, vocabulary, config, seed
        self.segment_level, self.entropies, self.speech_bpe = segment_level, entropies, speech_bpe
        self._piece_characters: dict[str, list[int]] = {}

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
            (segment.word, min(segment.end_frame, end) - max(segment.start_frame, start))
            for segment in utterance.segments()
            if segment.end_frame > start and segment.start_frame < end
        ]
        part = self.speech_part(utterance.units[start:end])
        if self.speech_bpe is not None:
            return part
        words = np.array([word for word, _ in cut], np.int64)
        lengths, is_silence = np.array([length for _, length in cut], np.int32), words < 0
        if self.segment_level == "bpe":
            characters = self._characters_of([utterance.words[word].text if word >= 0 else "" for word in words])
            num_pieces = np.array([len(pieces) for pieces in characters], np.int64)
            flat = np.array([n for pieces in characters for n in pieces], np.int64)
            in_order = [utterance.words[word] if word >= 0 else None for word in words]
            ends = piece_character_ends(in_order, np.array([sum(pieces) for pieces in characters], np.int64), lengths)
            lengths = split_words(lengths, num_pieces, flat, ends)
            is_silence = np.repeat(is_silence, num_pieces)
        return part._replace(segment_lengths=lengths, segment_is_silence=is_silence)

    def speech_part(self, units: np.ndarray) -> DocumentPart:
        """A span of speech units that are not aligned."""
        tokens = units if self.speech_bpe is None else self.speech_bpe.encode(units)
        return DocumentPart(
            SPEECH,
            self.vocabulary.speech_id,
            self.vocabulary.unit_ids(tokens),
            np.zeros(0, np.int32),
            np.zeros(0, bool),
        )

    def _characters_of(self, texts: list[str]) -> list[list[int]]:
        """Characters of each BPE piece of each text; a silence, or what has no piece, is one piece of none."""
        unknown = sorted({text for text in texts if text not in self._piece_characters})
        if len(self._piece_characters) + len(unknown) > MAX_CACHED_WORDS:
            self._piece_characters, unknown = {}, sorted(set(texts))
        found = self.tokenizer.piece_characters(unknown)
        self._piece_characters |= {text: pieces or [0] for text, pieces in zip(unknown, found, strict=True)}
        return [self._piece_characters[text] for text in texts]

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
        document = Document(
            document_id,
            np.concatenate(ids),
            np.concatenate(modalities),
            np.concatenate([part.segment_lengths for part in parts]),
            np.concatenate([part.segment_is_silence for part in parts]),
            segment_level=self.segment_level,
        )
        return document if self.entropies is None else replace(document, entropies=self._entropies_of(document))

    def _entropies_of(self, document: Document) -> np.ndarray:
        """Of all units, each span on its own; parts that join without a marker are one span."""
        assert self.entropies is not None
        speech_tokens = np.flatnonzero(document.modalities == SPEECH)
        starts = np.flatnonzero(np.diff(speech_tokens, prepend=-2) > 1)
        return self.entropies(document.token_ids[speech_tokens] - self.vocabulary.first_unit_id, starts)


class DocumentPart(NamedTuple):
    """A span in ids: modality, the marker that opens it, its tokens, and its words and silences."""

    modality: int
    marker_id: int
    token_ids: np.ndarray
    segment_lengths: np.ndarray
    segment_is_silence: np.ndarray
