"""Text to BPE ids word by word, where that is proven to give what encoding the whole text gives.

A word's pieces are remembered, so that a text costs a look-up a word. Where SentencePiece's BPE has no piece that goes
on after a space, no merge can join two words, and merges within words don't see each other: the pieces of a text are
those of its words, joined. Everything else (unigram models, models with pieces across spaces, rules of normalisation
that are not SentencePiece's own, words that are none after normalisation) is encoded as a whole.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lst.tokenizers.text import WORD_MARK, TextTokenizer

# Words whose pieces are remembered; they are forgotten together.
MAX_CACHED_WORDS = 200_000
# Normalization rules that come with SentencePiece. None of them joins characters across a space.
_OWN_RULES = ("identity", "nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf")


def encodes_by_words(tokenizer: TextTokenizer) -> bool:
    """Whether this tokenizer's pieces of a text are those of its words."""
    proto = tokenizer.proto
    rules = proto.normalizer_spec
    has_own_rules = rules.name in _OWN_RULES or not rules.precompiled_charsmap
    if proto.trainer_spec.model_type != proto.trainer_spec.BPE or not has_own_rules:
        return False
    return not any(WORD_MARK in piece.lstrip(WORD_MARK) for piece in tokenizer.pieces(range(tokenizer.vocab_size)))


class TextPieces(NamedTuple):
    """BPE ids of texts: ``ids``, int32 [n], joined, and ``lengths``, int64 [texts]."""

    ids: np.ndarray
    lengths: np.ndarray


class WordPieces:
    """Remembers the pieces of words.

    Args:
        tokenizer: of text.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self.by_words = encodes_by_words(tokenizer)
        self._ids: dict[str, list[int] | None] = {}
        self._characters: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str]) -> TextPieces:
        """Ids of texts, each exactly as ``tokenizer.encode`` gives them."""
        return self.encode_words([text.split(" ") for text in texts])

    def encode_words(self, texts: Sequence[Sequence[str]]) -> TextPieces:
        """Ids of texts that are given as words, to be joined by a space each."""
        joined: list[int] = []
        lengths = np.zeros(len(texts), np.int64)
        known = self._ids
        before = 0
        for place, words in enumerate(texts):
            try:
                for word in words:
                    joined += known[word]  # type: ignore[arg-type]
            except (KeyError, TypeError):
                del joined[before:]
                joined += self._encode(words)
                known = self._ids
            lengths[place] = len(joined) - before
            before = len(joined)
        return TextPieces(np.array(joined, np.int32), lengths)

    def characters(self, texts: Sequence[str]) -> list[list[int]]:
        """Characters of each BPE piece of each text; a silence, or what has no piece, is one piece of none."""
        known = self._characters
        unknown = sorted({text for text in texts if text not in known})
        if len(known) + len(unknown) > MAX_CACHED_WORDS:
            self._characters = known = {}
            unknown = sorted(set(texts))
        if unknown:
            found = self.tokenizer.piece_characters(unknown)
            known |= {text: pieces or [0] for text, pieces in zip(unknown, found, strict=True)}
        return [known[text] for text in texts]

    def _encode(self, words: Sequence[str]) -> list[int]:
        """Ids of one text, whose new words are remembered."""
        if not self.by_words:
            return self.tokenizer.encode(" ".join(words))
        if len(self._ids) + len(words) > MAX_CACHED_WORDS:
            self._ids = {}
        for word in words:
            if word not in self._ids:
                self._ids[word] = self._encode_alone(word)
        own = [self._ids[word] for word in words]
        if any(ids is None for ids in own):
            return self.tokenizer.encode(" ".join(words))
        return [index for ids in own for index in ids or ()]

    def _encode_alone(self, text: str) -> list[int] | None:
        """Ids of a word; of several, with a space between, theirs together. None where they could join a neighbour."""
        found: list[int] = []
        for word in text.split(" "):
            # A mark that combines with what is before it would combine with the space.
            if not word or unicodedata.combining(word[0]):
                return None
            ids = self.tokenizer.encode(word)
            pieces = self.tokenizer.pieces(ids)
            is_one_word = pieces and pieces[0].startswith(WORD_MARK) and not any(WORD_MARK in p for p in pieces[1:])
            if not is_one_word or pieces[0].count(WORD_MARK) > 1:
                return None
            found += ids
        return found
