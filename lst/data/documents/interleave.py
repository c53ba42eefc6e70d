"""Makes documents of utterances: interleaved, only text, or only speech (as in the LST paper).

An interleaved document alternates text and speech at word boundaries. A marker precedes each span; ``<bos>`` and
``<eos>`` enclose the document. Half of a silence at a cut belongs to each side. The cuts are drawn from (seed, epoch,
utterance id), so any process can make a document again. Many documents are made at once, in joined arrays: a Python
loop over tokens or words would take ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np

from lst.data.config import DOCUMENT_KINDS, InterleaveConfig
from lst.data.documents.joined_words import JoinedWords, Segments, begins_run, ragged_range, segments_of_spans
from lst.data.documents.spans import (
    Span,
    Spans,
    document_generator,
    draw_spans,
    draw_spans_together,
    span_frames,
    written_where_unaligned,
)
from lst.data.documents.word_pieces import TextPieces, WordPieces
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT, Document
from lst.tokenizers.speech import deduplicate
from lst.tokenizers.speech_bpe import SpeechBPE
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary

__all__ = [
    "DocumentBuilder",
    "DocumentPart",
    "Request",
    "Span",
    "document_generator",
    "draw_spans",
    "span_frames",
    "split_words",
]

INTERLEAVED, TEXT_ALONE, SPEECH_ALONE, PAIRED, ASR, TTS = KINDS = DOCUMENT_KINDS
# The spans of documents that hold whole utterances; a pair is one of the last two.
_WHOLE: dict[str, tuple[int, ...]] = {
    INTERLEAVED: (),
    TEXT_ALONE: (TEXT,),
    SPEECH_ALONE: (SPEECH,),
    ASR: (SPEECH, TEXT),
    TTS: (TEXT, SPEECH),
}
# Keeps the order of a pair's halves apart from the other draws of a document.
_PAIR_STREAM = 0x9A12
# In place of word numbers: the whole text.
_WHOLE_TEXT = -1
_NO_ENTROPIES = np.zeros(0, np.float32)


class Request(NamedTuple):
    """A document to make: its kind (one of ``KINDS``), its utterance, and the epoch, which decides the cuts."""

    kind: str
    utterance: Utterance
    epoch: int = 0


def split_words(
    word_frames: np.ndarray,
    num_pieces: np.ndarray,
    piece_characters: np.ndarray,
    character_ends: np.ndarray | None = None,
) -> np.ndarray:
    """Divides the frames of each word among its BPE pieces.

    Without ``character_ends`` this is an estimate that assumes equally long characters: pieces get frames in proportion
    to their characters, with boundaries rounded to the nearest frame (halves up). A piece may get no frame; the pieces
    of a word add up to its frames.

    Args:
        word_frames: int [w], frames of each word.
        num_pieces: int [w], pieces of each word, at least one.
        piece_characters: int [p], characters of each piece, of all words in order. The last piece gets all frames of a
            word without characters.
        character_ends: int [c], from the aligner: the frame after each character, counted from the word's start, not
            decreasing within a word. The last piece always ends with the word.

    Returns:
        int32 [p], frames of each piece.

    >>> split_words(np.array([10]), np.array([2]), np.array([4, 1]))
    array([8, 2], dtype=int32)
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
    """Makes documents in the joint vocabulary from utterances.

    Args:
        tokenizer: of text.
        vocabulary: of text and units; with a speech BPE, of text and its pieces. If it is ``deduplicated``, a run of
            equal units is one token, which belongs to the word or silence where the run begins; a later word of the
            same run may have no token.
        config: how spans are drawn.
        seed: of the spans.
        segment_level: the segments that documents record: ``word`` (and silence), or ``bpe``, the pieces of words.
        entropies: for entropy patching: maps the units of all spans, int [n], and the start of each span, int [s], to
            float32 [n].
        speech_bpe: joins the units of each span to pieces; such documents have no segments.

    >>> from lst.data.utterance import Word
    >>> from lst.tokenizers.text import fit_text_tokenizer
    >>> tokenizer = fit_text_tokenizer(["a cat sat", "a cat ran", "the cat sat"], 300)
    >>> vocabulary = Vocabulary(tokenizer.vocab_size, 500, tokenizer.sha256, "u")
    >>> words = (Word("a", 0, 2, 0.0), Word("cat", 2, 5, 0.0), Word("sat", 5, 8, 0.0))
    >>> utterance = Utterance("utt_1", "ann", "a cat sat", 0.32, np.arange(8, dtype=np.uint16), words)
    >>> config = InterleaveConfig(text_min_words=1, text_max_words=1, speech_min_words=1, leading_speech_max_words=2)
    >>> builder = DocumentBuilder(tokenizer, vocabulary, config, seed=0)
    >>> builder.interleaved(utterance, epoch=0).modalities.tolist()
    [0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
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
        self._pieces = WordPieces(tokenizer)

    def interleaved(self, utterance: Utterance, epoch: int) -> Document:
        """An interleaved document with the cuts of this epoch."""
        return self.documents([Request(INTERLEAVED, utterance, epoch)])[0]

    def speech(self, utterance: Utterance) -> Document:
        """The whole utterance as speech."""
        return self.documents([Request(SPEECH_ALONE, utterance)])[0]

    def paired(self, utterance: Utterance, epoch: int) -> Document:
        """The whole utterance twice: as speech and then as text, or the other way round, drawn for each epoch."""
        return self.documents([Request(PAIRED, utterance, epoch)])[0]

    def adapted(self, utterance: Utterance, task: str) -> Document:
        """The whole utterance twice: as speech and then as text for ``asr``, the other way round for ``tts``."""
        return self.documents([Request(task, utterance)])[0]

    def text(self, utterance: Utterance) -> Document:
        """The whole utterance as text. A written text has no other document."""
        return self.documents([Request(TEXT_ALONE, utterance)])[0]

    def num_units(self, utterance: Utterance) -> int:
        """Number of units in a document of the utterance's speech: all units, or the runs of equal units."""
        return len(self._read(utterance.units))

    def _read(self, units: np.ndarray) -> np.ndarray:
        """The units of documents: all, or one of each run of equal units."""
        return deduplicate(units)[0] if self.vocabulary.deduplicated else units

    def from_spans(self, utterance: Utterance, spans: Sequence[Span]) -> Document:
        """A document of the given spans of an aligned utterance."""
        columns = np.array(spans, np.int64).reshape(-1, 3).T
        joined = Spans(np.zeros(len(spans), np.int64), columns[0].astype(np.uint8), columns[1], columns[2])
        return self._join([utterance], joined)[0]

    def documents(self, requests: Sequence[Request]) -> list[Document]:
        """Documents, each as if it were made alone.

        Raises:
            UserError: an interleaved document is wanted of an utterance without words.
            ValueError: a speech unit is outside the codebook.
        """
        if not requests:
            return []
        kinds = np.array([KINDS.index(request.kind) for request in requests])
        places = np.flatnonzero(kinds == 0)
        chosen = [requests[place] for place in places.tolist()]
        for request in chosen:
            if not request.utterance.words:
                raise UserError(
                    f"utterance {request.utterance.id!r} has no aligned words, so it cannot be interleaved with text: "
                    "align the corpus, or set data.mix.interleaved=0"
                )
        aligned = [request.utterance for request in chosen]
        drawn = draw_spans_together(aligned, [request.epoch for request in chosen], self.config, self.seed)
        drawn = written_where_unaligned(drawn, aligned)
        # Whole spans of their utterance: two of a pair.
        modalities = [self._whole_modalities(request) for request in requests]
        whole = np.repeat(np.arange(len(requests)), [len(own) for own in modalities])
        is_text = np.fromiter(chain.from_iterable(modalities), np.int64, len(whole)) == TEXT
        num_words = np.array([len(requests[place].utterance.words) for place in whole.tolist()], np.int64)
        documents = np.concatenate([places[drawn.documents], whole])
        order = np.argsort(documents, kind="stable")
        spans = Spans(
            documents[order],
            np.concatenate([drawn.modalities, np.where(is_text, TEXT, SPEECH).astype(np.uint8)])[order],
            np.concatenate([drawn.first_words, np.where(is_text, _WHOLE_TEXT, 0)])[order],
            np.concatenate([drawn.last_words, np.where(is_text, _WHOLE_TEXT, num_words)])[order],
        )
        return self._join([request.utterance for request in requests], spans)

    def _whole_modalities(self, request: Request) -> tuple[int, ...]:
        """The modalities of a document's spans, each of the whole utterance; none of an interleaved one."""
        if request.kind != PAIRED:
            return _WHOLE[request.kind]
        draw = document_generator(self.seed ^ _PAIR_STREAM, request.epoch, request.utterance.id)
        return _WHOLE[ASR] if draw.random() < 0.5 else _WHOLE[TTS]

    def _join(self, utterances: Sequence[Utterance], spans: Spans) -> list[Document]:
        """Makes documents of spans of their utterances."""
        used = np.zeros(len(utterances), bool)
        used[spans.documents[spans.first_words != _WHOLE_TEXT]] = True
        joined = JoinedWords(utterances, used.tolist())
        is_speech = spans.modalities == SPEECH
        spoken = Spans(*(array[is_speech] for array in spans))
        starts, ends = joined.span_frames(spoken, self.vocabulary.units_a_frame)
        # A run of equal units goes on if the span before, in the same document, is speech too.
        follows = np.zeros(len(is_speech), bool)
        follows[1:] = is_speech[:-1] & (np.diff(spans.documents) == 0)
        speech_ids, speech_lengths, kept = self._speech_tokens(joined, spoken, starts, ends, follows[is_speech])
        pieces = self._text_pieces(utterances, joined, Spans(*(array[~is_speech] for array in spans)))
        lengths = np.zeros(len(is_speech), np.int64)
        lengths[is_speech], lengths[~is_speech] = speech_lengths, pieces.lengths

        # A document: <bos>, the spans, <eos>; a marker precedes each span whose modality differs from the span before.
        has_marker = np.ones(len(lengths), bool)
        has_marker[1:] = (np.diff(spans.documents) != 0) | (np.diff(spans.modalities) != 0)
        sizes = 2 + np.bincount(spans.documents, lengths + has_marker, len(utterances)).astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        # Tokens before a span: all spans before it, two tokens of each earlier document, and its document's <bos>.
        taken = np.cumsum(lengths + has_marker) - lengths
        content = taken + 2 * spans.documents + 1
        token_ids = np.empty(int(bounds[-1]), np.int32)
        token_ids[bounds[:-1]], token_ids[bounds[1:] - 1] = self.vocabulary.bos_id, self.vocabulary.eos_id
        marker_ids = np.where(is_speech, self.vocabulary.speech_id, self.vocabulary.text_id)
        token_ids[content[has_marker] - 1] = marker_ids[has_marker]
        modalities = np.full(len(token_ids), TEXT, np.uint8)
        spoken_places = ragged_range(content[is_speech], speech_lengths)
        modalities[spoken_places] = SPEECH
        token_ids[spoken_places] = speech_ids
        token_ids[ragged_range(content[~is_speech], pieces.lengths)] = pieces.ids
        segment_bounds, segment_lengths, is_silence = self._segments(
            joined, spoken, starts, ends, len(utterances), kept
        )
        cuts, segment_cuts = list(pairwise(bounds.tolist())), list(pairwise(segment_bounds))
        documents = [
            Document(
                utterance.id,
                token_ids[first:last],
                modalities[first:last],
                segment_lengths[first_segment:last_segment],
                is_silence[first_segment:last_segment],
                segment_level=self.segment_level,
                entropies=_NO_ENTROPIES,
                speech_marker_id=self.vocabulary.speech_id,
            )
            for utterance, (first, last), (first_segment, last_segment) in zip(
                utterances, cuts, segment_cuts, strict=True
            )
        ]
        return documents if self.entropies is None else self._with_entropies(documents, token_ids, modalities)

    def _speech_tokens(
        self, joined: JoinedWords, spans: Spans, starts: np.ndarray, ends: np.ndarray, follows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The tokens of speech spans.

        Returns:
            Joint ids, int32 [n]; the number of tokens of each span, int64 [s]; and a mask of the spans' frames, bool
            [frames], with the frames that gave a token. The mask is None if all frames did, or with a speech BPE.
        """
        if self.speech_bpe is not None:
            own = zip(spans.documents.tolist(), starts.tolist(), ends.tolist(), strict=True)
            parts = [self.speech_bpe.encode(self._read(joined.units[place][start:end])) for place, start, end in own]
            lengths = np.array([len(part) for part in parts], np.int64)
            return self.vocabulary.unit_ids(np.concatenate([np.zeros(0, np.int32), *parts])), lengths, None
        first = (np.cumsum(joined.num_frames) - joined.num_frames)[spans.documents]
        lengths = ends - starts
        units = np.concatenate(joined.units)[ragged_range(first + starts, lengths)]
        if not self.vocabulary.deduplicated:
            return self.vocabulary.unit_ids(units), lengths, None
        kept = begins_run(units, (np.cumsum(lengths) - lengths)[~follows])
        return self.vocabulary.unit_ids(units[kept]), _count_kept(kept, lengths), kept

    def _text_pieces(self, utterances: Sequence[Utterance], joined: JoinedWords, spans: Spans) -> TextPieces:
        """BPE pieces of text spans; each is tokenised separately, unless all were when the data was prepared."""
        if (known := self._known_pieces(utterances, spans)) is not None:
            return known
        offsets = joined.first[spans.documents]
        columns = (spans.documents, spans.first_words, offsets + spans.first_words, offsets + spans.last_words)
        texts = joined.texts
        return self._pieces.encode_words(
            [
                utterances[place].text.split(" ") if first_word == _WHOLE_TEXT else texts[first:last]
                for place, first_word, first, last in zip(*(column.tolist() for column in columns), strict=True)
            ]
        )

    @staticmethod
    def _known_pieces(utterances: Sequence[Utterance], spans: Spans) -> TextPieces | None:
        """The pieces of whole texts that were tokenised when they were prepared; None where any span is another."""
        if not len(spans.documents) or (spans.first_words != _WHOLE_TEXT).any():
            return None
        found = [utterances[place].pieces for place in spans.documents.tolist()]
        own = [pieces for pieces in found if pieces is not None]
        if len(own) < len(found):
            return None
        return TextPieces(np.concatenate(own), np.array([*map(len, own)], np.int64))

    def _segments(
        self,
        joined: JoinedWords,
        spans: Spans,
        starts: np.ndarray,
        ends: np.ndarray,
        num_documents: int,
        kept: np.ndarray | None,
    ) -> tuple[list[int], np.ndarray, np.ndarray]:
        """Bounds of the documents' segments, [documents + 1], lengths of the segments, and whether each is silence."""
        if self.speech_bpe is not None:
            return [0] * (num_documents + 1), np.zeros(0, np.int32), np.zeros(0, bool)
        found = segments_of_spans(joined, spans, starts, ends)
        documents, lengths, is_silence = found.documents, found.lengths, found.words < 0
        if self.segment_level == "bpe":
            lengths, num_pieces = self._split(joined, found)
            documents, is_silence = np.repeat(documents, num_pieces), np.repeat(is_silence, num_pieces)
        if kept is not None:
            lengths = _count_kept(kept, lengths).astype(np.int32)
        return np.searchsorted(documents, np.arange(num_documents + 1)).tolist(), lengths, is_silence

    def _split(self, joined: JoinedWords, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
        """Frames of the BPE pieces of segments, int32 [p], and the number of pieces of each segment, int64 [s]."""
        words = [joined.words[word] if word >= 0 else None for word in segments.words.tolist()]
        characters = self._pieces.characters([word.text if word else "" for word in words])
        num_pieces = np.fromiter(map(len, characters), np.int64, len(characters))
        counts = np.array(list(chain.from_iterable(characters)), np.int64)
        lengths = split_words(segments.lengths, num_pieces, counts)
        # No estimate is needed if the aligner gave a time for each character of the pieces.
        ends = [getattr(word, "character_ends", ()) if word else () for word in words]
        known = np.array(
            [bool(own) and len(own) == sum(pieces) for own, pieces in zip(ends, characters, strict=True)], bool
        )
        if known.any():
            of_known = np.repeat(known, num_pieces)
            all_ends = np.array([end for own, is_known in zip(ends, known, strict=True) if is_known for end in own])
            lengths[of_known] = split_words(segments.lengths[known], num_pieces[known], counts[of_known], all_ends)
        return lengths, num_pieces

    def _with_entropies(
        self, documents: list[Document], token_ids: np.ndarray, modalities: np.ndarray
    ) -> list[Document]:
        """Adds the entropies of all units, measured span by span; parts without a marker between them are one span."""
        assert self.entropies is not None
        speech_tokens = np.flatnonzero(modalities == SPEECH)
        span_starts = np.flatnonzero(np.diff(speech_tokens, prepend=-2) > 1)
        measured = self.entropies(token_ids[speech_tokens] - self.vocabulary.first_unit_id, span_starts)
        bounds = np.searchsorted(speech_tokens, np.cumsum([0, *map(len, documents)])).tolist()
        return [
            replace(document, entropies=measured[first:last])
            for document, (first, last) in zip(documents, pairwise(bounds), strict=True)
        ]

    def span_part(self, utterance: Utterance, span: Span) -> DocumentPart:
        """One span as a part."""
        alone = self.from_spans(utterance, [span])
        # Tokens 0 and 1 are <bos> and the marker, the last is <eos>.
        return DocumentPart(
            span.modality,
            int(alone.token_ids[1]),
            alone.token_ids[2:-1],
            alone.segment_lengths,
            alone.segment_is_silence,
        )

    def speech_part(self, units: np.ndarray) -> DocumentPart:
        """A part of speech units without alignment."""
        units = self._read(units)
        tokens = units if self.speech_bpe is None else self.speech_bpe.encode(units)
        return DocumentPart(
            SPEECH,
            self.vocabulary.speech_id,
            self.vocabulary.unit_ids(tokens),
            np.zeros(0, np.int32),
            np.zeros(0, bool),
        )

    def text_part(self, text: str) -> DocumentPart:
        """A part of text."""
        ids = np.array(self.tokenizer.encode(text), np.int32)
        return DocumentPart(TEXT, self.vocabulary.text_id, ids, np.zeros(0, np.int32), np.zeros(0, bool))

    def document(self, document_id: str, parts: list[DocumentPart], end: bool = True) -> Document:
        """Joins parts: ``<bos>``, the parts, and ``<eos>`` if ``end`` is true.

        A marker precedes each part whose modality differs from the part before. With a deduplicated vocabulary, a run
        of equal units that continues in the next part is one token.
        """
        parts = list(parts)
        pieces = [(np.array([self.vocabulary.bos_id], np.int32), TEXT)]
        previous: int | None = None
        joins_runs = self.vocabulary.deduplicated and self.speech_bpe is None
        for number, part in enumerate(parts):
            if part.modality != previous:
                pieces.append((np.array([part.marker_id], np.int32), TEXT))
            elif joins_runs and part.modality == SPEECH:
                part = parts[number] = part.after(next(int(ids[-1]) for ids, _ in reversed(pieces) if len(ids)))
            pieces.append((part.token_ids, part.modality))
            previous = part.modality
        if end:
            pieces.append((np.array([self.vocabulary.eos_id], np.int32), TEXT))
        document = Document(
            document_id,
            np.concatenate([ids for ids, _ in pieces]),
            np.repeat(np.array([modality for _, modality in pieces], np.uint8), [len(ids) for ids, _ in pieces]),
            np.concatenate([part.segment_lengths for part in parts]),
            np.concatenate([part.segment_is_silence for part in parts]),
            segment_level=self.segment_level,
            speech_marker_id=self.vocabulary.speech_id,
        )
        if self.entropies is None:
            return document
        return self._with_entropies([document], document.token_ids, document.modalities)[0]


def _count_kept(kept: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Counts the true values of ``kept``, bool [n], in consecutive stretches of ``lengths``, int [s]: int64 [s]."""
    before = np.concatenate([[0], np.cumsum(kept)])
    return np.diff(before[np.concatenate([[0], np.cumsum(lengths)])])


class DocumentPart(NamedTuple):
    """A span as ids.

    Attributes:
        modality: ``TEXT`` or ``SPEECH``.
        marker_id: id of the marker that precedes it.
        token_ids: int32 [n], without the marker.
        segment_lengths, segment_is_silence: int32 [s] and bool [s], its words and silences.
    """

    modality: int
    marker_id: int
    token_ids: np.ndarray
    segment_lengths: np.ndarray
    segment_is_silence: np.ndarray

    def after(self, token_id: int) -> DocumentPart:
        """This part of deduplicated units after another one that ends with ``token_id``: an equal first unit goes."""
        if not len(self.token_ids) or int(self.token_ids[0]) != token_id:
            return self
        lengths = self.segment_lengths.copy()
        if len(lengths):
            lengths[int((lengths > 0).argmax())] -= 1
        return self._replace(token_ids=self.token_ids[1:], segment_lengths=lengths)
