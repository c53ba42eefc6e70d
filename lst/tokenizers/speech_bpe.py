"""Speech BPE: SentencePiece BPE over units, the LST paper's baseline that shortens speech without patches.

Each unit is written as one code point, so a sequence of units is a text without spaces to SentencePiece. Pieces are
numbered from 0 in SentencePiece's order, without its unknown piece: every unit is a piece, so none is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lst.errors import UserError
from lst.tokenizers.pieces import PieceModel, train_pieces

# The code point of unit 0. It begins a range of 20,992 assigned code points, all letters of one script.
FIRST_CODE_POINT = 0x4E00
MAX_UNITS = 20_000
# SentencePiece counts positions within a text in 16 bits.
MAX_SEQUENCE_UNITS = 60_000


class SpeechBPE(PieceModel):
    """Joins units to pieces and back.

    >>> units = np.tile([3, 1, 2], 20)
    >>> bpe = fit_speech_bpe([units], num_units=4, vocab_size=8)
    >>> len(bpe.encode(units)) < len(units), bool((bpe.decode(bpe.encode(units)) == units).all())
    (True, True)

    Args:
        model: a serialised SentencePiece model, as ``fit_speech_bpe`` makes it.

    Attributes:
        num_units: K; units are 0 … K − 1.
        piece_lengths: int64 [pieces], units of each piece.

    Raises:
        ValueError: the pieces do not consist of units 0 … K − 1, or a unit is not a piece.
    """

    kind = "speech BPE"

    def __init__(self, model: bytes) -> None:
        super().__init__(model)
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
        """Number of pieces: pieces are 0 … num_pieces − 1."""
        return len(self._piece_units)

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

    @classmethod
    def load(cls, path: Path) -> SpeechBPE:
        """Reads a speech BPE; raises ``UserError`` when the file is missing, damaged or of another kind."""
        return cls.read(path, "the speech BPE", "Delete it and run lst train again: it is fitted anew.")


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
        num_units: size of the codebook, K. Every unit becomes a piece, even if it never occurs.
        vocab_size: upper bound of the number of pieces, the K single units included. Little speech supports fewer and
            then gets fewer.
        max_sequences: upper bound of the sequences that are used; they are drawn at random.
        seed: of that draw.

    Raises:
        UserError: there is no speech, there are too many units, or ``vocab_size`` is below ``num_units``.
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
    # SentencePiece must see every character: a text of one unit adds no pair.
    texts += [_text_of(np.array([unit])) for unit in range(num_units)]
    model = train_pieces(
        texts,
        # One more for the unknown piece, which SentencePiece requires.
        vocab_size + 1,
        "patching.speech_bpe_size",
        model_type="bpe",
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_whitespace=False,
        split_by_unicode_script=False,
        split_by_number=False,
    )
    return SpeechBPE(model)
