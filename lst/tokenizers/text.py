"""Text to BPE ids and back: by a SentencePiece model trained here, or by an existing one, or by a ``tokenizer.json``.

A model trained here has 256 byte pieces, so no text is unknown to it. An existing model is used as it is: with its own
normalization, its own numbering and its own control pieces (<s>, </s>). Control pieces take ids of the vocabulary, but
``encode`` never returns them.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lst.errors import UserError
from lst.progress import say
from lst.storage import TemporaryBytes
from lst.storage.hub import HUB_PREFIX, hub_folder
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.json_pieces import JsonPieces, piece_content
from lst.tokenizers.pieces import MAX_SENTENCE_BYTES, PieceModel, parse_model, train_pieces

NUM_BYTE_PIECES = 256
# Their names in Hugging Face folders.
JSON_FILE, SENTENCEPIECE_FILE = "tokenizer.json", "tokenizer.model"
# One unknown piece, 256 bytes, and room for letters.
MIN_VOCAB_SIZE = 300
# Signs that SentencePiece's trainer has uses of its own for.
_RESERVED = ("\t", "\n", "\r", "\0", "\u2585", "\u2581", "\u2047")


class TextTokenizer(PieceModel):
    """Encodes text to BPE ids and back.

    >>> tokenizer = fit_text_tokenizer(["the cat sat on the mat", "the dog sat"] * 9, vocab_size=300)
    >>> tokenizer.decode(tokenizer.encode("The dog sat on the cat"))
    'the dog sat on the cat'
    >>> tokenizer.decode(tokenizer.encode("naïve 中"))  # in bytes: no text is unknown
    'naïve 中'

    Args:
        model: a serialised SentencePiece model, or the content of a ``tokenizer.json``.

    Raises:
        RuntimeError, ValueError: the bytes are no such model.
        UserError: they are a ``tokenizer.json``, and the package ``tokenizers`` is missing.
    """

    kind = "SentencePiece model or tokenizer.json"

    def __init__(self, model: bytes) -> None:
        self._json: JsonPieces | None = None
        if model.lstrip()[:1] == b"{":
            self.model, self._json = model, JsonPieces(model)
        else:
            super().__init__(model)
        # SentencePiece takes an empty file for a model without a piece.
        if self.vocab_size == 0:
            raise ValueError("it has no piece")

    @property
    def is_sentencepiece(self) -> bool:
        """Whether it is a SentencePiece model, which ``proto`` describes; otherwise it is a ``tokenizer.json``."""
        return self._json is None

    @property
    def file_name(self) -> str:
        """The file's name in a Hugging Face folder."""
        return SENTENCEPIECE_FILE if self.is_sentencepiece else JSON_FILE

    @property
    def vocab_size(self) -> int:
        """Number of pieces: ids are 0 … vocab_size − 1."""
        return int(self._processor.get_piece_size()) if self._json is None else self._json.num_pieces

    @cached_property
    def has_bytes(self) -> bool:
        """Whether any text can be spelt in bytes."""
        return len({content for content in self._contents if len(content) == 1}) == NUM_BYTE_PIECES

    @property
    def control_ids(self) -> list[int]:
        """Ids that stand for no text: <s>, </s> and the like. ``encode`` never returns them, ``decode`` skips them."""
        is_control = self._processor.is_control if self._json is None else self._json.is_control
        return [index for index in range(self.vocab_size) if is_control(index)]

    def encode(self, text: str) -> list[int]:
        """BPE ids of ``text``, without any special token."""
        return list(self._processor.encode(text)) if self._json is None else self._json.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of BPE ids."""
        return str(self._processor.decode(list(ids))) if self._json is None else self._json.decode(ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece of each id, for people to look at."""
        piece = self._processor.id_to_piece if self._json is None else self._json.piece
        return [str(piece(int(index))) for index in ids]

    @cached_property
    def _contents(self) -> list[bytes]:
        """The bytes of the text of each piece; empty for control pieces. The mark that begins a word is a space."""
        if self._json is not None:
            return [self._json.content(index) for index in range(self.vocab_size)]
        pieces = self.pieces(range(self.vocab_size))
        return [
            b"" if self._processor.is_control(index) else piece_content(piece) for index, piece in enumerate(pieces)
        ]

    @property
    def piece_bytes(self) -> list[int]:
        """UTF-8 bytes of the text of each piece; the mark that begins a word is a space."""
        return [len(content) for content in self._contents]

    def piece_characters(self, texts: Sequence[str]) -> list[list[int]]:
        """Number of characters in each BPE piece of each text.

        The mark that begins a word does not count. A character spelt in bytes counts for its first byte.
        """
        return [[_num_characters(self._contents[index]) for index in self.encode(text)] for text in texts]

    @classmethod
    def load(cls, path: Path, remedy: str = "Make it again with lst prepare.") -> TextTokenizer:
        """Reads a SentencePiece model or a ``tokenizer.json``.

        Raises:
            UserError: the file is missing or neither of them.
        """
        return cls.read(path, "the text tokenizer", remedy)


def text_model_file(source: str) -> Path:
    """The file that ``tokenizer.text_model`` names: itself, or that of a Hugging Face folder or ``hub:OWNER/NAME``."""
    names = (JSON_FILE, SENTENCEPIECE_FILE)
    place = hub_folder(source, names, "tokenizer.text_model") if source.startswith(HUB_PREFIX) else Path(source)
    return next((place / name for name in names if (place / name).is_file()), place)


def _num_characters(content: bytes) -> int:
    return sum(byte & 0xC0 != 0x80 and byte != ord(" ") for byte in content)


@dataclass(frozen=True)
class TextOptions:
    """How text pieces are trained. The SentencePiece model records all of it.

    Attributes:
        model_type: ``bpe`` or ``unigram``.
        character_coverage: share of the characters that become pieces; the others are spelt in bytes.
        normalization: ``nmt_nfkc``, ``nfkc`` or ``identity``.
        strip_punctuation: leave out punctuation other than apostrophes; a dash becomes a space.
        split_digits: a piece for each digit.
        max_lines: upper bound of the lines that enter the training; they are drawn at random.
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
    """The tokenizer that the options ask for: an existing model, or one trained on ``lines``.

    Raises:
        UserError: the existing model cannot be read, or the training fails (see ``fit_text_tokenizer``).
    """
    if config.text_model is not None:
        remedy = "Give a SentencePiece model, a tokenizer.json, or a folder that holds one: tokenizer.text_model=PATH."
        tokenizer = TextTokenizer.load(text_model_file(config.text_model), remedy)
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
    """Trains BPE or unigram pieces with byte fallback.

    Args:
        lines: training texts. They may be a stream: no more than ``options.max_lines`` are kept, in a temporary file.
        vocab_size: upper bound of the number of pieces, the 256 bytes included. A small text supports fewer and then
            gets fewer.
        lowercase: fold case, so that upper-case transcripts and ordinary text share pieces.
        options: everything else; by default BPE over all lines.

    Raises:
        UserError: ``vocab_size`` is below 300 or too small for the letters of the text, or there is no text.
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
    with _normalization(lowercase, options) as normalization:
        counted = _counted_words(texts) if options.model_type == "bpe" else None
        model = train_pieces(
            texts if counted is None else counted,
            vocab_size,
            "tokenizer.text_vocab_size",
            model_type=options.model_type,
            byte_fallback=True,
            character_coverage=options.character_coverage,
            split_digits=options.split_digits,
            **({} if counted is None else {"input_format": "tsv"}),
            **normalization,
        )
    return TextTokenizer(without_sources(model))


def _counted_words(texts: Iterable[str]) -> list[str] | None:
    """Each word of texts and how often it comes: all that BPE learns from, in much less memory than the texts.

    Returns:
        Words and counts, divided by tabs; None where that would not be the same, as the trainer treats some signs and
        very long texts apart.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        if len(text) > MAX_SENTENCE_BYTES // 4 or any(sign in text for sign in _RESERVED):
            return None
        counts.update(text.split(" "))
    del counts[""]
    return [f"{word}\t{count}" for word, count in counts.items()]


class KeptLines(Sequence[str]):
    """Lines in a temporary file, of which 24 bytes each are in memory."""

    def __init__(self) -> None:
        self._content = TemporaryBytes()
        self._numbers, self._starts, self._ends = array("Q"), array("Q"), array("Q")

    def append(self, number: int, line: str) -> None:
        """Adds a line; ``number`` is its place among all lines."""
        for column in (self._numbers, self._starts, self._ends):
            column.append(0)
        self.replace(len(self._numbers) - 1, number, line)

    def replace(self, place: int, number: int, line: str) -> None:
        """Puts a line into another one's place."""
        self._numbers[place], self._starts[place] = number, self._content.num_bytes
        self._content.add(line.encode("utf-8", "surrogatepass"))
        self._ends[place] = self._content.num_bytes

    def sort(self) -> None:
        """Puts the lines in the order of their numbers."""
        order = np.argsort(self._numbers)
        for column in (self._numbers, self._starts, self._ends):
            column[:] = array("Q", np.array(column, np.uint64)[order].tobytes())

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        return self._content.read(self._starts[place], self._ends[place]).decode("utf-8", "surrogatepass")


def sample_lines(lines: Iterable[str], max_lines: int, seed: int) -> KeptLines:
    """A uniform sample of up to ``max_lines`` lines of a stream, in their order (Vitter's algorithm R)."""
    kept = KeptLines()
    random = np.random.default_rng([seed, 0x7E87])
    for number, line in enumerate(lines):
        if number < max_lines:
            kept.append(number, line)
        elif (place := int(random.integers(number + 1))) < max_lines:
            kept.replace(place, number, line)
    kept.sort()
    return kept


def without_sources(model: bytes) -> bytes:
    """A SentencePiece model without what says how its texts and rules were handed over.

    The path of the rules is a temporary one and differs from run to run. The model holds the compiled rules themselves.
    """
    proto = parse_model(model)
    proto.normalizer_spec.ClearField("normalization_rule_tsv")
    proto.trainer_spec.ClearField("input_format")
    return bytes(proto.SerializeToString())


@contextlib.contextmanager
def _normalization(lowercase: bool, options: TextOptions) -> Iterator[dict[str, str]]:
    """Context manager: the trainer's options for normalization. Rules of our own lie in a temporary file meanwhile."""
    if not options.strip_punctuation:
        folds = lowercase and options.normalization != "identity"
        yield {"normalization_rule_name": options.normalization + ("_cf" if folds else "")}
        return
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.tsv"
        rules.write_text(unpunctuated_rules(lowercase), encoding="utf-8")
        yield {"normalization_rule_tsv": str(rules)}


def unpunctuated_rules(lowercase: bool) -> str:
    """Normalization rules for SentencePiece: NFKC, case folding if wanted, no punctuation other than apostrophes.

    Each line is a rule: code points, a tab, the code points that replace them.
    """
    rules = {}
    for code in range(1, sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category in ("Cs", "Cn", "Co"):
            continue
        parts = unicodedata.decomposition(chr(code)).split()
        # A letter followed by its accent is the same text as the composed letter.
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
