"""Encodes text to BPE ids word by word, with a cache, where the result provably equals that of the whole text.

If no piece of a SentencePiece BPE contains a space in its middle, no merge joins two words: the pieces of a text are
the pieces of its words. All other texts are encoded whole: those of unigram models, of models with pieces across spaces
or with custom normalisation rules, of a ``tokenizer.json``, and words that normalisation empties or splits.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lst.tokenizers.json_pieces import WORD_MARK
from lst.tokenizers.text import TextTokenizer

# Words in the cache; a full cache is emptied.
MAX_CACHED_WORDS = 200_000
# Normalization rules that come with SentencePiece. None of them joins characters across a space.
_OWN_RULES = ("identity", "nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf")


def encodes_by_words(tokenizer: TextTokenizer) -> bool:
    """Whether this tokenizer's pieces of a text are those of its words."""
    if not tokenizer.is_sentencepiece:
        return False
    proto = tokenizer.proto
    rules = proto.normalizer_spec
    has_own_rules = rules.name in _OWN_RULES or not rules.precompiled_charsmap
    if proto.trainer_spec.model_type != proto.trainer_spec.BPE or not has_own_rules:
        return False
    return not any(WORD_MARK in piece.lstrip(WORD_MARK) for piece in tokenizer.pieces(range(tokenizer.vocab_size)))


class TextPieces(NamedTuple):
    """BPE ids of texts: ``ids`` of all texts, int32 [n], and ``lengths``, the number of ids of each, int64 [texts]."""

    ids: np.ndarray
    lengths: np.ndarray


class WordPieces:
    """Encodes texts with a cache of the pieces of words.

    Args:
        tokenizer: of text.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self.by_words = encodes_by_words(tokenizer)
        self._ids: dict[str, list[int] | None] = {}
        self._characters: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str]) -> TextPieces:
        """Ids of texts, equal to ``tokenizer.encode`` of each text."""
        return self.encode_words([text.split(" ") for text in texts])

    def encode_words(self, texts: Sequence[Sequence[str]]) -> TextPieces:
        """Ids of texts given as lists of words, which a space separates."""
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
        """Number of characters in each BPE piece of each text; [0] for a text without pieces, such as silence."""
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
        """Ids of one text; caches its new words."""
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
        """Ids of a word, or of words with single spaces between; None if its pieces may depend on its neighbours."""
        found: list[int] = []
        for word in text.split(" "):
            # A combining mark would combine with the space before it.
            if not word or unicodedata.combining(word[0]):
                return None
            ids = self.tokenizer.encode(word)
            pieces = self.tokenizer.pieces(ids)
            is_one_word = pieces and pieces[0].startswith(WORD_MARK) and not any(WORD_MARK in p for p in pieces[1:])
            if not is_one_word or pieces[0].count(WORD_MARK) > 1:
                return None
            found += ids
        return found
