"""Text pieces by SentencePiece: trained here with byte fallback, so that no text is unknown, or an existing model.

An existing model is used as it is: its own normalising, its own numbering, its control pieces (<s>, </s>), which take
ids of the vocabulary but never come out of ``encode``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from lst.errors import UserError
from lst.progress import say
from lst.storage import write_bytes
from lst.tokenizers.config import TokenizerConfig

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
    def has_bytes(self) -> bool:
        """Whether any text can be spelt in bytes."""
        return any(self._processor.is_byte(index) for index in range(self.vocab_size))

    @property
    def control_ids(self) -> list[int]:
        """Ids that stand for no text: <s>, </s> and the like. ``encode`` never gives them, ``decode`` skips them."""
        return [index for index in range(self.vocab_size) if self._processor.is_control(index)]

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
    def load(cls, path: Path, remedy: str = "Make it again with lst prepare.") -> TextTokenizer:
        """Reads a SentencePiece model; raises ``UserError`` when it is missing or not one."""
        if not path.is_file():
            raise UserError(f"the text tokenizer is missing: {path}. {remedy}")
        try:
            tokenizer = cls(path.read_bytes())
        except (RuntimeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a SentencePiece model ({error}). {remedy}") from None
        # An empty file passes for a model without a piece.
        if tokenizer.vocab_size == 0:
            raise UserError(f"{path} is not a SentencePiece model (it has no piece). {remedy}")
        return tokenizer


def _num_characters(piece: str) -> int:
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        is_continuation = int(byte.group(1), 16) & 0xC0 == 0x80
        return 0 if is_continuation else 1
    return len(piece.replace(WORD_MARK, ""))


@dataclass(frozen=True)
class TextOptions:
    """How text pieces are trained; everything ends up inside the SentencePiece model.

    Attributes:
        model_type: ``bpe`` or ``unigram``.
        character_coverage: share of the characters that become pieces; the others are spelt in bytes.
        normalization: ``nmt_nfkc``, ``nfkc`` or ``identity``.
        strip_punctuation: leave punctuation but apostrophes out; a dash becomes a space.
        split_digits: a piece for each digit.
        max_lines: lines drawn at random that enter the training, at most.
        seed: of that draw.
    """

    model_type: str = "bpe"
    character_coverage: float = 1.0
    normalization: str = "nmt_nfkc"
    strip_punctuation: bool = False
    split_digits: bool = False
    max_lines: int = 2_000_000
    seed: int = 0


def build_text_tokenizer(config: TokenizerConfig, lines: Iterable[str], seed: int = 0) -> TextTokenizer:
    """The tokenizer that the options ask for: an existing model as it is, or one trained on ``lines``.

    Raises:
        UserError: the existing model cannot be read, or the training fails (see ``fit_text_tokenizer``).
    """
    if config.text_model is not None:
        tokenizer = TextTokenizer.load(
            Path(config.text_model), "Give a SentencePiece model with tokenizer.text_model=PATH."
        )
        if not tokenizer.has_bytes:
            say(f"{config.text_model} has no byte pieces: text that it does not know becomes its unknown piece")
        return tokenizer
    options = TextOptions(
        config.text_model_type,
        config.character_coverage,
        config.normalization,
        config.strip_punctuation,
        config.split_digits,
        config.text_max_lines,
        seed,
    )
    return fit_text_tokenizer(lines, config.text_vocab_size, config.lowercase, options)


def fit_text_tokenizer(
    lines: Iterable[str], vocab_size: int, lowercase: bool = True, options: TextOptions | None = None
) -> TextTokenizer:
    """Trains byte-fallback BPE or unigram pieces.

    Args:
        lines: training texts; may be a stream, of which ``options.max_lines`` lines are held.
        vocab_size: pieces at most, the 256 bytes among them; a small text supports fewer and then gets fewer.
        lowercase: fold case, so that upper-case transcripts and ordinary text share pieces.
        options: all else; BPE over everything by default.

    Raises:
        UserError: ``vocab_size`` is below 300 or there is no text.
    """
    options = options or TextOptions()
    if vocab_size < MIN_VOCAB_SIZE:
        raise UserError(
            f"tokenizer.text_vocab_size={vocab_size} is too small: 256 pieces are the bytes; "
            f"set it to {MIN_VOCAB_SIZE} or more"
        )
    texts = sample_lines((line for line in lines if line.strip()), options.max_lines, options.seed)
    if not texts:
        raise UserError("there is no text to train the text tokenizer on")
    try:
        return TextTokenizer(_train(texts, vocab_size, lowercase, options))
    except RuntimeError as error:
        supported = re.search(r"<= (\d+)", str(error))
        if needed := re.search(r"(\d+) vs (\d+)", str(error)):
            raise UserError(
                f"tokenizer.text_vocab_size={vocab_size} is too small for the letters of this text: "
                f"set it to {max(map(int, needed.groups()))} or more"
            ) from error
        if supported is None:
            raise UserError(f"SentencePiece could not be trained: {error}") from error
        return TextTokenizer(_train(texts, int(supported.group(1)), lowercase, options))


def sample_lines(lines: Iterable[str], max_lines: int, seed: int) -> list[str]:
    """At most ``max_lines`` lines of a stream, each as likely as any other, in their order (Vitter's algorithm R)."""
    kept: list[tuple[int, str]] = []
    random = np.random.default_rng([seed, 0x7E87])
    for number, line in enumerate(lines):
        if number < max_lines:
            kept.append((number, line))
        elif (place := int(random.integers(number + 1))) < max_lines:
            kept[place] = (number, line)
    return [line for _, line in sorted(kept)]


def _train(texts: list[str], vocab_size: int, lowercase: bool, options: TextOptions) -> bytes:
    model = io.BytesIO()
    with _normalization(lowercase, options) as normalization:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=options.model_type,
            vocab_size=vocab_size,
            byte_fallback=True,
            character_coverage=options.character_coverage,
            split_digits=options.split_digits,
            max_sentence_length=1 << 20,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
            **normalization,
        )
    return without_rules_path(model.getvalue()) if options.strip_punctuation else model.getvalue()


def without_rules_path(model: bytes) -> bytes:
    """A SentencePiece model less the path of its rules' file, which says nothing and differs from run to run.

    The rules themselves are inside, compiled. In the model's format (protocol buffers) the normaliser is field 3, and
    the path its field 6.
    """
    parts = []
    for number, content, whole in _fields(model):
        if number == 3:
            kept = b"".join(inner for inner_number, _, inner in _fields(content) if inner_number != 6)
            whole = bytes([3 << 3 | 2]) + _varint(len(kept)) + kept
        parts.append(whole)
    return b"".join(parts)


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, content and whole bytes of each field of a protocol buffer."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _read_varint(message, position)
        kind = tag & 7
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 0:
            _, position = _read_varint(message, position)
        elif kind == 2:
            size, position = _read_varint(message, position)
        yield tag >> 3, message[position : position + size], message[start : position + size]
        position += size


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


@contextlib.contextmanager
def _normalization(lowercase: bool, options: TextOptions) -> Iterator[dict[str, Any]]:
    """The trainer's arguments for normalising; rules of our own lie in a file while it reads them."""
    if not options.strip_punctuation:
        folds = lowercase and options.normalization != "identity"
        yield {"normalization_rule_name": options.normalization + ("_cf" if folds else "")}
        return
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.tsv"
        rules.write_text(unpunctuated_rules(lowercase), encoding="utf-8")
        yield {"normalization_rule_tsv": str(rules)}


def unpunctuated_rules(lowercase: bool) -> str:
    """Normalising rules for SentencePiece: NFKC, case folding if wanted, and no punctuation but apostrophes.

    A line a rule: code points, a tab, the code points that take their place.
    """
    rules = {}
    for code in range(1, sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category in ("Cs", "Cn", "Co"):
            continue
        parts = unicodedata.decomposition(chr(code)).split()
        # A letter and its accent, written apart, come together first.
        sources = [chr(code)]
        if len(parts) == 2 and not parts[0].startswith("<"):
            sources.append("".join(chr(int(part, 16)) for part in parts))
        for source in sources:
            target = _unpunctuated(source, category, lowercase)
            if target != source:
                rules[source] = target
    return "".join(f"{_code_points(source)}\t{_code_points(target)}\n" for source, target in sorted(rules.items()))


def _unpunctuated(source: str, category: str, lowercase: bool) -> str:
    if category == "Cc" and not source.isspace():
        return ""
    text = unicodedata.normalize("NFKC", source)
    text = unicodedata.normalize("NFKC", text.casefold()) if lowercase else text
    kept = []
    for sign in text.replace("’", "'").replace("‘", "'"):
        kind = unicodedata.category(sign)
        if sign.isspace() or kind == "Pd":
            kept.append(" ")
        elif sign == "'" or not kind.startswith("P"):
            kept.append(sign)
    return "".join(kept)


def _code_points(text: str) -> str:
    return " ".join(f"{ord(sign):X}" for sign in text)
