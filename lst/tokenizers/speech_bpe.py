"""Speech BPE: SentencePiece BPE over units, the LST paper's baseline that shortens speech without patches.

A unit is written as one code point, so that SentencePiece takes a sequence of units for a text without spaces. Pieces
are numbered from 0 in SentencePiece's order; its unknown piece has no number, for every unit is a piece.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from lst.errors import UserError
from lst.storage import write_bytes

# Unit 0; from here on there are 20,992 assigned code points in a row, all letters of one script.
FIRST_CODE_POINT = 0x4E00
MAX_UNITS = 20_000
# SentencePiece counts places within a text in 16 bits.
MAX_SEQUENCE_UNITS = 60_000


class SpeechBPE:
    """Joins units to pieces and back.

    Args:
        model: a serialised SentencePiece model, as ``fit_speech_bpe`` makes it.

    Raises:
        ValueError: its pieces are not made of units 0 … K−1, each of them a piece.
    """

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [self._processor.id_to_piece(index) for index in range(1, self._processor.get_piece_size())]
        self._piece_units = [_units_of(piece) for piece in pieces]
        single = sorted(int(units[0]) for units in self._piece_units if len(units) == 1)
        if not single or single != list(range(len(single))):
            raise ValueError("its pieces do not hold each of a range of units")
        self.num_units = len(single)
        if any(len(units) == 0 or int(units.max()) >= self.num_units for units in self._piece_units):
            raise ValueError(f"a piece holds something else than units 0 to {self.num_units - 1}")
        self.piece_lengths = np.array([len(units) for units in self._piece_units], np.int64)
        self._flat = np.concatenate(self._piece_units)

    @property
    def num_pieces(self) -> int:
        return len(self._piece_units)

    @property
    def sha256(self) -> str:
        """Hash of the model."""
        return hashlib.sha256(self.model).hexdigest()

    def encode(self, units: np.ndarray) -> np.ndarray:
        """Pieces, int32 [m], of units, int [n]; raises ``ValueError`` for a unit outside the codebook."""
        if units.size and int(units.max()) >= self.num_units:
            raise ValueError(f"speech unit {int(units.max())} is outside the codebook of {self.num_units} units")
        return np.array(self._processor.encode(_text_of(units)), np.int32) - 1

    def decode(self, pieces: np.ndarray) -> np.ndarray:
        """Units, uint16 [n], of pieces, int [m]."""
        lengths = self.piece_lengths[pieces]
        starts = (np.cumsum(self.piece_lengths) - self.piece_lengths)[pieces]
        into_piece = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self._flat[np.repeat(starts, lengths) + into_piece]

    def save(self, path: Path) -> None:
        write_bytes(path, self.model)

    @classmethod
    def load(cls, path: Path) -> SpeechBPE:
        """Reads a speech BPE; raises ``UserError`` when it is missing, damaged or none."""
        remedy = "Delete it and run lst train again: it is fitted anew."
        if not path.exists():
            raise UserError(f"the speech BPE is missing: {path}. {remedy}")
        try:
            return cls(path.read_bytes())
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path} is no speech BPE ({error}). {remedy}") from None


def _text_of(units: np.ndarray) -> str:
    return (units.astype("<u4") + FIRST_CODE_POINT).tobytes().decode("utf-32-le")


def _units_of(piece: str) -> np.ndarray:
    code_points = np.frombuffer(piece.encode("utf-32-le"), "<u4").astype(np.int64) - FIRST_CODE_POINT
    if code_points.size and not 0 <= int(code_points.min()) <= int(code_points.max()) < MAX_UNITS:
        raise ValueError(f"piece {piece!r} is not made of units")
    return code_points.astype(np.uint16)


def check_sizes(num_units: int, vocab_size: int) -> None:
    """Raises ``UserError`` unless a speech BPE of ``vocab_size`` pieces over ``num_units`` units is possible."""
    if num_units > MAX_UNITS:
        raise UserError(f"speech BPE writes a unit as one code point: {num_units} units are more than {MAX_UNITS}")
    if vocab_size < num_units:
        raise UserError(
            f"patching.speech_bpe_size={vocab_size} is too small: each of the {num_units} units is a piece; set it to "
            f"{num_units} or more"
        )


def fit_speech_bpe(
    sequences: Sequence[np.ndarray], num_units: int, vocab_size: int = 1000, max_sequences: int = 100_000, seed: int = 0
) -> SpeechBPE:
    """Trains BPE over units (LST paper, section 4: 1k pieces from 100k sequences).

    Args:
        sequences: int [n] units each.
        num_units: size of the codebook, K; every unit becomes a piece, also one that never occurs.
        vocab_size: pieces at most, the K single units among them; little speech supports fewer and then gets fewer.
        max_sequences: more than these are drawn from at random.
        seed: of that draw.

    Raises:
        UserError: there is no speech, too many units, or fewer pieces are wanted than there are units.
    """
    check_sizes(num_units, vocab_size)
    spoken = [units for units in sequences if len(units)]
    if not spoken:
        raise UserError("there is no speech to train the speech BPE on")
    if len(spoken) > max_sequences:
        kept = np.random.default_rng([seed, 0x5BE]).permutation(len(spoken))[:max_sequences]
        spoken = [spoken[index] for index in np.sort(kept)]
    texts = [
        _text_of(units[start : start + MAX_SEQUENCE_UNITS])
        for units in spoken
        for start in range(0, len(units), MAX_SEQUENCE_UNITS)
    ]
    # SentencePiece knows the characters that it has seen: each unit is once a text of its own, which adds no pair.
    texts += [_text_of(np.array([unit])) for unit in range(num_units)]
    try:
        return SpeechBPE(_train(texts, vocab_size))
    except RuntimeError as error:
        supported = re.search(r"<= (\d+)", str(error))
        if supported is None:
            raise UserError(f"SentencePiece could not be trained on units: {error}") from error
        return SpeechBPE(_train(texts, int(supported.group(1)) - 1))


def _train(texts: list[str], vocab_size: int) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        # One more for the unknown piece, which SentencePiece insists on.
        vocab_size=vocab_size + 1,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_whitespace=False,
        split_by_unicode_script=False,
        split_by_number=False,
        max_sentence_length=1 << 20,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
