"""Speech BPE: every sequence of units comes back, whatever was seen in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.errors import UserError
from lst.tokenizers.speech_bpe import MAX_UNITS, SpeechBPE, fit_speech_bpe
from lst.tokenizers.text import fit_text_tokenizer

NUM_UNITS = 40
# Units 25 to 39 never occur in training.
SEEN = 25


def training_sequences() -> list[np.ndarray]:
    """Words of a small lexicon in random order."""
    rng = np.random.default_rng(0)
    lexicon = [rng.integers(0, SEEN, int(rng.integers(2, 7))) for _ in range(20)]
    return [np.concatenate([lexicon[index] for index in rng.integers(0, 20, 30)]).astype(np.uint16) for _ in range(50)]


SEQUENCES = training_sequences()
SPEECH_BPE = fit_speech_bpe(SEQUENCES, NUM_UNITS, vocab_size=100)


@given(st.lists(st.integers(0, NUM_UNITS - 1), max_size=80))
@settings(max_examples=100, deadline=None)
def test_units_come_back(units: list[int]) -> None:
    pieces = SPEECH_BPE.encode(np.array(units, np.uint16))
    assert pieces.dtype == np.int32
    assert (pieces >= 0).all()
    assert (pieces < SPEECH_BPE.num_pieces).all()
    assert SPEECH_BPE.decode(pieces).tolist() == units
    assert SPEECH_BPE.decode(pieces).dtype == np.uint16
    assert SPEECH_BPE.piece_lengths[pieces].sum() == len(units)


def test_units_never_seen_are_pieces_of_their_own() -> None:
    unseen = np.arange(SEEN, NUM_UNITS)
    pieces = SPEECH_BPE.encode(unseen)
    assert len(pieces) == len(set(pieces.tolist())) == len(unseen)
    assert SPEECH_BPE.decode(pieces).tolist() == unseen.tolist()


def test_pieces_join_what_occurs_together() -> None:
    assert SPEECH_BPE.num_pieces == len(SPEECH_BPE.piece_lengths) == 100
    assert SPEECH_BPE.num_units == NUM_UNITS
    assert (SPEECH_BPE.piece_lengths == 1).sum() == NUM_UNITS
    shares = [len(SPEECH_BPE.encode(units)) / len(units) for units in SEQUENCES]
    assert max(shares) < 0.5


def test_it_is_deterministic_and_the_seed_draws_the_sequences() -> None:
    assert fit_speech_bpe(SEQUENCES, NUM_UNITS, 100).sha256 == SPEECH_BPE.sha256
    few = [fit_speech_bpe(SEQUENCES, NUM_UNITS, 60, max_sequences=3, seed=seed).sha256 for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]
    assert fit_speech_bpe(SEQUENCES, NUM_UNITS, NUM_UNITS).num_pieces == NUM_UNITS


def test_little_speech_supports_fewer_pieces() -> None:
    fitted = fit_speech_bpe([np.array([0, 1, 0, 1])], NUM_UNITS, 1000)
    assert NUM_UNITS <= fitted.num_pieces < 50
    assert fitted.decode(fitted.encode(np.array([0, 1, 0, 39]))).tolist() == [0, 1, 0, 39]


def test_a_thousand_pieces_over_five_hundred_units_and_all_code_points() -> None:
    rng = np.random.default_rng(1)
    fitted = fit_speech_bpe([np.repeat(rng.integers(0, 500, 90), 3) for _ in range(60)], 500)
    assert fitted.num_pieces == 1000
    wide = fit_speech_bpe([np.array([0, MAX_UNITS - 1] * 3)], MAX_UNITS, MAX_UNITS)
    assert wide.decode(wide.encode(np.array([MAX_UNITS - 1, 7, 0]))).tolist() == [MAX_UNITS - 1, 7, 0]


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(UserError, match=r"speech_bpe_size=39 is too small.*set it to 40 or more"):
        fit_speech_bpe(SEQUENCES, NUM_UNITS, 39)
    with pytest.raises(UserError, match="more than 20000"):
        fit_speech_bpe(SEQUENCES, MAX_UNITS + 1, 30_000)
    with pytest.raises(UserError, match="no speech to train"):
        fit_speech_bpe([np.zeros(0, np.uint16)], NUM_UNITS)
    with pytest.raises(ValueError, match="speech unit 40 is outside the codebook of 40 units"):
        SPEECH_BPE.encode(np.array([0, 40]))


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    SPEECH_BPE.save(tmp_path / "speech_bpe.model")
    loaded = SpeechBPE.load(tmp_path / "speech_bpe.model")
    assert loaded.sha256 == SPEECH_BPE.sha256
    assert loaded.encode(SEQUENCES[0]).tolist() == SPEECH_BPE.encode(SEQUENCES[0]).tolist()


@pytest.mark.parametrize("content", ["nothing", "half", "text", "empty"])
def test_what_is_no_speech_bpe_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "speech_bpe.model"
    path.write_bytes(
        {
            "nothing": b"nothing",
            "half": SPEECH_BPE.model[: len(SPEECH_BPE.model) // 2],
            "text": fit_text_tokenizer(["a small text of words"], 300).model,
            "empty": b"",
        }[content]
    )
    with pytest.raises(UserError, match=r"speech_bpe\.model is not a speech BPE"):
        SpeechBPE.load(path)
    with pytest.raises(UserError, match="the speech BPE is missing"):
        SpeechBPE.load(tmp_path / "none.model")
