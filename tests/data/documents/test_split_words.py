"""The frames of aligned words among their BPE pieces, against exact fractions and in documents."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.data.config import InterleaveConfig
from lst.data.documents.interleave import DocumentBuilder, split_words
from lst.data.utterance import Utterance, Word
from lst.model.batch import SPEECH
from lst.tokenizers.text import fit_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary

TEXT = "the warm bread in the garden, the small key; a push of the boat: unbelievably green and wonderfully warm"
TOKENIZER = fit_text_tokenizer([TEXT], 330)
VOCABULARY = Vocabulary(TOKENIZER.vocab_size, 50, TOKENIZER.sha256, "u")

# Frames of each word, and the characters of its pieces.
words_and_pieces = st.lists(
    st.tuples(st.integers(0, 40), st.lists(st.integers(0, 9), min_size=1, max_size=6)), max_size=8
)


def split(words: list[tuple[int, list[int]]], character_ends: list[int] | None = None) -> list[int]:
    found = split_words(
        np.array([frames for frames, _ in words], np.int32),
        np.array([len(pieces) for _, pieces in words], np.int64),
        np.array([count for _, pieces in words for count in pieces], np.int64),
        None if character_ends is None else np.array(character_ends, np.int64),
    )
    assert found.dtype == np.int32
    return found.tolist()


def split_reference(frames: int, characters: list[int]) -> list[int]:
    """Boundaries at exact shares, halves rounded up."""
    if not sum(characters):
        return [0] * (len(characters) - 1) + [frames]
    shares = [Fraction(sum(characters[: place + 1]), sum(characters)) for place in range(len(characters))]
    ends = [0, *(math.floor(frames * share + Fraction(1, 2)) for share in shares)]
    # What is left of rounding, and pieces of no character at the end, change nothing: the last share is 1.
    return [right - left for left, right in pairwise(ends)]


@given(words_and_pieces)
@settings(max_examples=200, deadline=None)
def test_frames_are_divided_by_characters(words: list[tuple[int, list[int]]]) -> None:
    found = split(words)
    assert found == [length for frames, pieces in words for length in split_reference(frames, pieces)]
    assert all(length >= 0 for length in found)


@given(words_and_pieces, st.data())
@settings(max_examples=200, deadline=None)
def test_true_ends_of_characters_are_taken_where_they_are_known(
    words: list[tuple[int, list[int]]], data: st.DataObject
) -> None:
    all_ends: list[int] = []
    expected: list[int] = []
    for frames, pieces in words:
        ends = sorted(data.draw(st.lists(st.integers(0, frames), min_size=sum(pieces), max_size=sum(pieces))))
        all_ends += ends
        position, done = 0, 0
        for place, count in enumerate(pieces):
            done += count
            end = frames if place == len(pieces) - 1 else (ends[done - 1] if done else 0)
            expected.append(end - position)
            position = end
    assert split(words, all_ends) == expected


def test_examples() -> None:
    assert split([(10, [2, 3]), (7, [4]), (3, [1, 1, 1, 1]), (0, [2, 2])]) == [4, 6, 7, 1, 1, 0, 1, 0, 0]
    assert split([]) == []
    assert split([(5, [0, 0])]) == [0, 5]


def utterance() -> Utterance:
    words, position = [], 2
    for index, text in enumerate(TEXT.split()):
        words.append(Word(text, position, position + 3 + 5 * (index % 4), -1.0))
        position = words[-1].end_frame + 3 * (index % 3 == 0)
    return Utterance("u", "s", TEXT, position / 25, np.arange(position).astype(np.uint16) % 50, tuple(words))


@pytest.mark.parametrize("epoch", range(4))
def test_documents_hold_the_pieces_of_the_text_tokenizer(epoch: int) -> None:
    spoken = utterance()
    by_word, by_piece = (
        DocumentBuilder(TOKENIZER, VOCABULARY, InterleaveConfig(), 3, segment_level=level) for level in ("word", "bpe")
    )
    words, pieces = by_word.interleaved(spoken, epoch), by_piece.interleaved(spoken, epoch)
    assert (words.segment_level, pieces.segment_level) == ("word", "bpe")
    assert words.token_ids.tolist() == pieces.token_ids.tolist()
    assert pieces.segment_lengths.sum() == (pieces.modalities == SPEECH).sum()
    assert (
        pieces.segment_lengths[pieces.segment_is_silence].tolist()
        == words.segment_lengths[words.segment_is_silence].tolist()
    )
    assert set(np.cumsum(words.segment_lengths)) <= set(np.cumsum(pieces.segment_lengths))
    assert len(pieces.segment_lengths) > len(words.segment_lengths)


def test_a_spoken_text_has_the_segments_of_its_bpe() -> None:
    """Pieces never cross a space, so that the words' pieces are the text's."""
    document = DocumentBuilder(TOKENIZER, VOCABULARY, InterleaveConfig(), 3, segment_level="bpe").speech(utterance())
    assert (~document.segment_is_silence).sum() == len(TOKENIZER.encode(TEXT))


def test_characters_of_pieces() -> None:
    texts = ["the", "unbelievably", "", "garden,", "Zoë—ﬁ", "\u4e2d"]
    found = TOKENIZER.piece_characters(texts)
    assert [len(pieces) for pieces in found] == [len(TOKENIZER.encode(text)) for text in texts]
    # Normalisation folds case and opens the ligature.
    assert [sum(pieces) for pieces in found] == [3, 12, 0, 7, 6, 1]
