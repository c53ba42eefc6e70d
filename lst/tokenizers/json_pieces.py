"""``tokenizer.json`` of Hugging Face, read by its package ``tokenizers``: the text pieces of published models.

Read are pieces of bytes (Llama 3, Qwen, SmolLM, GPT-2), and pieces with the word mark ▁ (Llama 2, Mistral). Nothing in
such a file can run code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from lst.lazy import import_or_explain
from lst.storage import FormatError, parse_json

# SentencePiece and its kin write this sign for the space before a word.
WORD_MARK = "\u2581"


class JsonPieces:
    """The pieces of a ``tokenizer.json``.

    A text begins with a space, as texts of SentencePiece do, so that a word has the same pieces wherever it stands.
    Special tokens that a text spells out are text.

    Args:
        model: the content of the file.

    Raises:
        ValueError: it is no such file, or its pieces are of another kind.
        UserError: the package ``tokenizers`` is missing.
    """

    def __init__(self, model: bytes) -> None:
        library: Any = import_or_explain("tokenizers", "a tokenizer.json", "pip install 'latent-speech-text[hf]'")
        try:
            values = parse_json(model, dict[str, Any])
        except FormatError as error:
            raise ValueError(f"it {error}") from None
        kinds = set(_types([values.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")]))
        self.is_of_bytes = "ByteLevel" in kinds
        if not self.is_of_bytes and WORD_MARK not in model.decode() and "\\u2581" not in model.decode():
            raise ValueError(f"its pieces are neither of bytes (ByteLevel) nor do they have the word mark {WORD_MARK}")
        try:
            self._tokenizer = library.Tokenizer.from_str(model.decode())
        # The package raises plain exceptions.
        except Exception as error:
            raise ValueError(str(error).splitlines()[0]) from None
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._added = self._tokenizer.get_added_tokens_decoder()
        marks = (WORD_MARK, "\u0120")
        first = self._tokenizer.encode("a", add_special_tokens=False).tokens[:1]
        self._space = "" if first and first[0].startswith(marks) else " "

    @cached_property
    def num_pieces(self) -> int:
        """Ids are 0 … this number − 1; some may have no piece."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text; spaces before its first word count as one."""
        text = text.lstrip(" ")
        return self._tokenizer.encode(self._space + text, add_special_tokens=False).ids if text else []

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without special tokens and the space before the first word."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).removeprefix(" ")

    def piece(self, index: int) -> str:
        """The piece of an id, for people to look at; empty where there is none."""
        return self._tokenizer.id_to_token(index) or ""

    def is_control(self, index: int) -> bool:
        """Whether an id stands for no text."""
        return index in self._added and bool(self._added[index].special)

    def content(self, index: int) -> bytes:
        """The bytes of the text that an id stands for; empty for special tokens."""
        if index in self._added:
            return b"" if self._added[index].special else self._added[index].content.encode()
        piece = self.piece(index)
        if self.is_of_bytes:
            return bytes(_BYTE_OF_SIGN[sign] for sign in piece if sign in _BYTE_OF_SIGN)
        return piece_content(piece)


def piece_content(piece: str) -> bytes:
    """The bytes that a piece in SentencePiece's notation stands for: its text, or the byte in ``<0xE4>``.

    >>> piece_content("\u2581the"), piece_content("<0xE4>")
    (b' the', b'\\xe4')
    """
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        return bytes([int(byte[1], 16)])
    return piece.replace(WORD_MARK, " ").encode()


def _types(value: Any) -> Iterator[str]:
    """The ``type`` of every object within a value of JSON."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value["type"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _types(item)


def _signs_of_bytes() -> dict[str, int]:
    """The byte of each sign in which pieces of bytes are written: printable ones stand for themselves."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + number): byte for number, byte in enumerate(hidden)}


_BYTE_OF_SIGN = _signs_of_bytes()
