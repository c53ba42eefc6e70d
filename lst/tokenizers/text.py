"""Text BPE by SentencePiece, with byte fallback so that no text is ever unknown."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from lst.errors import UserError
from lst.files import write_bytes

NUM_BYTE_PIECES = 256
# SentencePiece writes the space before a word so.
WORD_MARK = "\u2581"
# One unknown piece, 256 bytes, and room for letters.
MIN_VOCAB_SIZE = 300


class TextTokenizer:
    """Encodes text to BPE ids and back.

    Args:
        model: a serialised SentencePiece model.
    """

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @property
    def vocab_size(self) -> int:
        return int(self._processor.get_piece_size())

    @property
    def sha256(self) -> str:
        """Hash of the model; vocabularies and checkpoints record it."""
        return hashlib.sha256(self.model).hexdigest()

    def encode(self, text: str) -> list[int]:
        """BPE ids of ``text``, without any special token."""
        return list(self._processor.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of BPE ids."""
        return str(self._processor.decode(list(ids)))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece of each id, for people to look at."""
        return [str(self._processor.id_to_piece(int(index))) for index in ids]

    def piece_characters(self, texts: Sequence[str]) -> list[list[int]]:
        """How many characters each BPE piece of each text stands for.

        What marks the beginning of a word counts for none. A character that is spelt in bytes belongs to the first.
        """
        encoded = self._processor.encode(list(texts))
        return [[_num_characters(piece) for piece in self.pieces(ids)] for ids in encoded]

    def save(self, path: Path) -> None:
        write_bytes(path, self.model)

    @classmethod
    def load(cls, path: Path) -> TextTokenizer:
        """Reads a SentencePiece model; raises ``UserError`` when it is missing or not one."""
        if not path.exists():
            raise UserError(f"the text tokenizer is missing: {path}. Make it with lst prepare.")
        try:
            tokenizer = cls(path.read_bytes())
        except (RuntimeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a SentencePiece model ({error}). Make it again with lst prepare.") from None
        # An empty file passes for a model without a piece.
        if tokenizer.vocab_size == 0:
            raise UserError(f"{path} is not a SentencePiece model (it has no piece). Make it again with lst prepare.")
        return tokenizer


def _num_characters(piece: str) -> int:
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        is_continuation = int(byte.group(1), 16) & 0xC0 == 0x80
        return 0 if is_continuation else 1
    return len(piece.replace(WORD_MARK, ""))


def fit_text_tokenizer(lines: Iterable[str], vocab_size: int, lowercase: bool = True) -> TextTokenizer:
    """Trains byte-fallback BPE.

    Args:
        lines: training texts.
        vocab_size: pieces at most, the 256 bytes among them; a small text supports fewer and then gets fewer.
        lowercase: fold case, so that upper-case transcripts and ordinary text share pieces.

    Raises:
        UserError: ``vocab_size`` is below 300 or there is no text.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise UserError(
            f"tokenizer.text_vocab_size={vocab_size} is too small: 256 pieces are the bytes; "
            f"set it to {MIN_VOCAB_SIZE} or more"
        )
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise UserError("there is no text to train the text tokenizer on")
    try:
        return TextTokenizer(_train(texts, vocab_size, lowercase))
    except RuntimeError as error:
        supported = re.search(r"<= (\d+)", str(error))
        if needed := re.search(r"(\d+) vs (\d+)", str(error)):
            raise UserError(
                f"tokenizer.text_vocab_size={vocab_size} is too small for the letters of this text: "
                f"set it to {max(map(int, needed.groups()))} or more"
            ) from error
        if supported is None:
            raise UserError(f"SentencePiece could not be trained: {error}") from error
        return TextTokenizer(_train(texts, int(supported.group(1)), lowercase))


def _train(texts: list[str], vocab_size: int, lowercase: bool) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
        max_sentence_length=1 << 20,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
