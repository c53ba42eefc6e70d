"""Alignment that bends: a wrong word costs that word, a wrong text the utterance, and the reason says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lst.data.alignment.aligner import AlignItem, AlignmentError, ScoreScale
from lst.data.alignment.build import FilteredAligner, build_aligner
from lst.data.alignment.causes import CAUSES, cause_of_reason
from lst.data.alignment.ctc.aligner import CtcAligner
from lst.data.alignment.ctc.graph import best_readings
from lst.data.alignment.hmm_graph import _assigned
from lst.data.alignment.outliers import without_outliers
from lst.data.config import AlignConfig
from lst.data.text import PieceReadings
from lst.data.utterance import TimedWord, Utterance, Word
from tests.data.alignment.test_align_ctc import make_model, placed_emission
from tests.data.conftest import SENTENCES, align

RATE_HZ = 100


@pytest.fixture(scope="module")
def aligner() -> FilteredAligner:
    return build_aligner(AlignConfig())


def aligned(aligner: FilteredAligner, sound: np.ndarray, text: str) -> tuple[Word, ...]:
    return align(aligner, sound, text, len(sound) * RATE_HZ // 16_000, RATE_HZ)


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ("The old dog [laughter] slept all day.", []),
        ("The old dog slept <unk> all day. (inaudible) &amp;", []),
        ("<COMMA> The old {um} dog slept all day.", []),
        ("The old dog extraordinary slept all day.", ["extraordinary"]),
        ("The old wonderful slept all day.", ["wonderful"]),
        ("The 1984 dog slept all day.", ["1984"]),
        ("The old dog slept это all day.", ["это"]),
    ],
)
def test_one_wrong_word_costs_that_word(
    aligner: FilteredAligner, sounds: list[np.ndarray], changed: str, missing: list[str]
) -> None:
    right = {word.text: word.start_frame for word in aligned(aligner, sounds[2], SENTENCES[2])}
    words = aligned(aligner, sounds[2], changed)
    assert [word.text for word in words if word.is_unaligned] == missing
    assert " ".join(word.text for word in words) == changed.replace("&amp;", "&")
    position = 0
    for word in words:
        assert position <= word.start_frame <= word.end_frame
        position = word.end_frame
    starts = {word.text.split()[0]: word.start_frame for word in words if not word.is_unaligned}
    shifts_ms = [abs(starts[text] - right[text]) * 10 for text in starts.keys() & right.keys()]
    assert len(shifts_ms) >= 4
    assert np.median(shifts_ms) <= 20


def test_the_audio_chooses_the_reading(aligner: FilteredAligner, sounds: list[np.ndarray]) -> None:
    """“A small key” is written as a label, and said: it is found where it is."""
    right = aligned(aligner, sounds[1], SENTENCES[1])
    said = aligned(aligner, sounds[1], "Ben found (a small key.)")
    assert [word.text for word in said] == ["Ben", "found", "(a", "small", "key.)"]
    for one, other in zip(said, right, strict=True):
        assert not one.is_unaligned
        assert abs(one.start_frame - other.start_frame) <= 3


def test_texts_of_others_are_refused_with_their_cause(aligner: FilteredAligner, sounds: list[np.ndarray]) -> None:
    def cause(sound: np.ndarray, text: str) -> str:
        with pytest.raises(AlignmentError) as failed:
            aligned(aligner, sound, text)
        reason = str(failed.value)
        assert cause_of_reason(reason) in CAUSES
        return reason

    for place, sound in enumerate(sounds[:4]):
        assert cause(sound, SENTENCES[place + 3]).startswith("text of another recording")
    german = "der Hund schlief unter der Bank während die Kinder spielten"
    assert cause(sounds[0], german).startswith("another language or unknown words: ")
    assert "schlief, während" in cause(sounds[0], german).replace("unter, ", "")
    assert cause(sounds[0] * 0, SENTENCES[0]).startswith("silence or level")
    assert cause(sounds[3] * 1e4, SENTENCES[0]).startswith("mis-scaled samples: they reach")
    assert cause(np.clip(50 * sounds[3], -1, 1), SENTENCES[0]).startswith("clipped audio")
    cut = cause(sounds[0][: len(sounds[0]) // 4], f"{SENTENCES[0]} {SENTENCES[1]}")
    assert cut.startswith("cut file: 10 words in")


def test_a_limit_of_scores_takes_the_place_of_the_alarm(sounds: list[np.ndarray]) -> None:
    bare = build_aligner(AlignConfig(min_score=-1e6))
    assert bare.scale is None
    lax = FilteredAligner(_Fixed([Word("a", 0, 9, -99.0)]), AlignConfig(min_score=-1e6))
    strict = FilteredAligner(_Fixed([Word("a", 0, 9, -99.0)]), AlignConfig())
    assert align(lax, sounds[0], "a", 40, 25)
    with pytest.raises(AlignmentError, match=r"words score -99\.0 on average"):
        align(strict, sounds[0], "a", 40, 25)


class _Fixed:
    batch = 1
    scale: ScoreScale | None = ScoreScale(-30.0, 2.0)

    def __init__(self, words: list[Word]) -> None:
        self.words = tuple(words)

    def align_many(self, items: list[AlignItem], frame_rate_hz: int) -> list[tuple[Word, ...]]:
        return [self.words for _ in items]


def test_outliers_of_a_shard_are_left_out() -> None:
    def utterance(score: float) -> Utterance:
        words = (Word("a", 0, 2, score), Word("b", 2, 4, 0.0, is_unaligned=True))
        return Utterance(f"u{score}", "", "a b", 0.2, np.zeros(4, np.uint16), words)

    scale = ScoreScale(lowest=-30.0, least_spread=1.0)
    right = [utterance(-8.0 - 0.1 * number) for number in range(20)]
    odd, failed = utterance(-20.0), AlignmentError("x")
    found = without_outliers([*right, odd, failed], scale)
    assert found[:20] == right
    assert str(found[20]).startswith("text of another recording: words score -20.0 on average")
    assert found[21] is failed
    assert without_outliers([*right[:18], odd], scale) == [*right[:18], odd]
    assert without_outliers([*right, odd], None) == [*right, odd]


def test_heard_words_are_given_to_the_pieces_that_read_so() -> None:
    pieces = [
        PieceReadings(text, readings, text)
        for text, readings in (
            ("the", (("the",),)),
            ("12", (("twelve",), ("one", "two"))),
            ("[x]", ((), ("x",))),
            ("wrong", (("wrong",),)),
            ("the", (("the",),)),
        )
    ]
    heard = [Word(text, place, place + 1, -1.0) for place, text in enumerate(("the", "one", "two", "the"))]
    found = _assigned(pieces, heard)
    assert [piece.tokens for piece in found] == [heard[:1], heard[1:3], [], [None], heard[3:]]
    assert [piece.is_plain for piece in found] == [True, False, True, False, True]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ("the warm [laughter] bread was twenty one days old", []),
        ("the warm bread was 21 days old", []),
        ("the warm bread extraordinary was twenty one days old", ["extraordinary"]),
        ("the warm extraordinary was twenty one days old", ["extraordinary"]),
        ("the warm bread was twenty one days zebra", ["zebra"]),
        ("zebra warm bread was twenty one days old", ["zebra"]),
    ],
)
def test_ctc_bends_alike(seed: int, changed: str, missing: list[str]) -> None:
    said = "the warm bread was twenty one days old"
    emission, _ = placed_emission(said, seed)
    aligner = CtcAligner(make_model())
    right = {word.text: word for word in aligner.timed_words(emission, said)}
    found = aligner.found_words(emission, changed)
    assert [word for word in found if isinstance(word, str)] == missing
    for word in found:
        if isinstance(word, TimedWord) and (same := right.get(word.text.split()[0])):
            assert (word.start_s, word.end_s) == pytest.approx((same.start_s, same.end_s), abs=0.021)
            assert len(word.character_ends_s) == len(word.text.replace(" ", ""))


def test_the_search_through_one_reading_is_the_forced_path() -> None:
    """Against torchaudio's path where nothing is to choose and nothing is missing."""
    said = "hello little world it's all mississippi"
    emission, _ = placed_emission(said, 1)
    aligner = CtcAligner(make_model())
    pieces = aligner._labels.readings(said, ())
    found = best_readings(emission.numpy(), [[word.label_ids for word in one.words] for one in pieces], 0, 1)
    frame_s = aligner.ctc.samples_a_frame / 16_000
    for word, one in zip(aligner.timed_words(emission, said), found, strict=True):
        assert (word.start_s, word.end_s) == pytest.approx((one.starts[0] * frame_s, one.ends[-1] * frame_s))
        assert word.score == pytest.approx(one.score, abs=1e-5)


def test_texts_too_long_for_any_path_are_refused() -> None:
    emission = torch.log_softmax(torch.zeros(0, 5), 1)
    with pytest.raises(AlignmentError, match="no path through it fits into 0 frames"):
        best_readings(emission.numpy(), [[[1, 2]]], 0, None)


def test_unaligned_words_stay_so_in_records_and_leave_others_as_they_were() -> None:
    words = (Word("a", 0, 2, -1.0), Word("b", 2, 3, 0.0, is_unaligned=True), Word("c", 3, 4, -1.0))
    whole = Utterance("u", "", "a b c", 0.2, np.zeros(4, np.uint16), words)
    assert Utterance.from_record(whole.to_record(), whole.units).words == words
    plain = replace(whole, words=tuple(word._replace(is_unaligned=False) for word in words))
    assert "unaligned_words" not in plain.to_record()
    assert whole.to_record() == {**plain.to_record(), "unaligned_words": [1]}
