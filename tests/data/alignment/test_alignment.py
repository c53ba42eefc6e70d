"""Forced alignment: words lie where they are said, whatever was aligned before, and misfits are refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository import SHARED_DATA

from lst.data.alignment.aligner import AlignmentError
from lst.data.alignment.hmm import PocketsphinxAligner
from lst.data.alignment.words import fit_words
from lst.data.audio.read import read_audio
from lst.data.synthesis.voices import choose_engine, pseudo_speakers, synthesize_cached
from lst.data.utterance import Utterance, Word
from lst.errors import UserError
from tests.data.conftest import align

WORDS = ("bread", "garden", "summer", "window", "seven")
SENTENCE = "Anna ate the warm bread, with butter!"
OTHER_SENTENCE = "He walked home in the rain - 12 miles."
UNKNOWN_WORDS = "The zorblax glimmeled near the zorblax."

Speak = Callable[[str], np.ndarray]


@pytest.fixture(scope="session")
def speak(tmp_path_factory: pytest.TempPathFactory) -> Speak:
    """Speech of a text, 16 kHz, kept for the session."""
    try:
        speaker = pseudo_speakers(choose_engine("auto"), 1, seed=0)[0]
    except UserError as error:
        pytest.skip(f"no speech engine: {error}")
    folder = tmp_path_factory.mktemp("voices")
    return lambda text: read_audio(synthesize_cached(text, speaker, folder))


@pytest.fixture(scope="session")
def librispeech() -> Path:
    """Real recordings with transcripts."""
    folder = SHARED_DATA / "librispeech_mini"
    if not (folder / "manifest.tsv").exists():
        pytest.skip("recordings are absent: set LST_SHARED_DATA to the folder that holds librispeech_mini")
    return folder


@pytest.fixture
def aligner() -> PocketsphinxAligner:
    return PocketsphinxAligner()


def num_frames_of(waveform: np.ndarray, frame_rate_hz: int = 25) -> int:
    return -(-len(waveform) * frame_rate_hz // 16_000)


def align_at_25_hz(aligner: PocketsphinxAligner, waveform: np.ndarray, text: str) -> tuple[Word, ...]:
    return align(aligner, waveform, text, num_frames_of(waveform), 25)


def check_tiles(words: tuple[Word, ...], num_frames: int) -> None:
    """Words are in order, of a frame or more, apart; with the silences between they tile the frames."""
    position = 0
    for word in words:
        assert position <= word.start_frame < word.end_frame <= num_frames
        position = word.end_frame
    utterance = Utterance("a", "", "", 0.0, np.zeros(num_frames, np.uint16), words)
    covered = [frame for _, start, end in utterance.segments() for frame in range(start, end)]
    assert covered == list(range(num_frames))


def spoken_apart(speak: Speak) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Words with 0.4 s of near silence around each, and where in frames of 40 ms each was put."""
    noise = np.random.default_rng(0).normal(0, 1e-4, 6_400).astype(np.float32)
    parts, places, position = [noise], [], len(noise)
    for word in WORDS:
        sound = speak(word)
        loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
        sound = sound[loud[0] : loud[-1] + 1]
        places.append((position / 640, (position + len(sound)) / 640))
        parts += [sound, noise]
        position += len(sound) + len(noise)
    return np.concatenate(parts), places


def test_words_lie_where_they_were_put(aligner: PocketsphinxAligner, speak: Speak) -> None:
    waveform, places = spoken_apart(speak)
    words = align_at_25_hz(aligner, waveform, " ".join(WORDS))
    check_tiles(words, num_frames_of(waveform))
    errors = [
        abs(found - put)
        for word, place in zip(words, places, strict=True)
        for found, put in zip((word.start_frame, word.end_frame), place, strict=True)
    ]
    print(f"boundaries are off by {np.mean(errors):.2f} frames of 40 ms on average, {max(errors):.2f} at most")
    assert np.mean(errors) < 1
    assert max(errors) <= 4


@pytest.mark.parametrize("text", [SENTENCE, OTHER_SENTENCE, UNKNOWN_WORDS, "Yes."])
def test_words_keep_their_text_and_tile_the_utterance(aligner: PocketsphinxAligner, speak: Speak, text: str) -> None:
    waveform = speak(text)
    words = align_at_25_hz(aligner, waveform, text)
    assert " ".join(word.text for word in words) == text
    check_tiles(words, num_frames_of(waveform))
    assert all(word.score < 0 for word in words)


def test_finer_frames_tell_the_same_places(aligner: PocketsphinxAligner, speak: Speak) -> None:
    waveform = speak(SENTENCE)
    coarse = align_at_25_hz(aligner, waveform, SENTENCE)
    fine = align(aligner, waveform, SENTENCE, num_frames_of(waveform, 100), 100)
    for left, right in zip(coarse, fine, strict=True):
        assert abs(left.start_frame - right.start_frame / 4) <= 0.5
        assert abs(left.end_frame - right.end_frame / 4) <= 0.5


def test_result_does_not_depend_on_what_was_aligned_before(speak: Speak) -> None:
    """Neither on other speech and new words, nor on a loud noise, nor on failures."""
    alone = {text: align_at_25_hz(PocketsphinxAligner(), speak(text), text) for text in (SENTENCE, OTHER_SENTENCE)}
    aligner = PocketsphinxAligner()
    noise = np.random.default_rng(0).uniform(-1, 1, 40_000).astype(np.float32)
    for text in (SENTENCE, OTHER_SENTENCE, SENTENCE, UNKNOWN_WORDS, SENTENCE, OTHER_SENTENCE):
        words = align_at_25_hz(aligner, speak(text), text)
        assert words == alone.get(text, words)
        for misfit in (noise, noise[:1], np.zeros(5_000, np.float32)):
            with pytest.raises(AlignmentError):
                align_at_25_hz(aligner, misfit, "this is far too much to say in the time that there is for it")


def test_unknown_words_are_counted_once_each_and_aligned(aligner: PocketsphinxAligner, speak: Speak) -> None:
    align_at_25_hz(aligner, speak(SENTENCE), SENTENCE)
    assert aligner.num_by_rule == 0
    waveform = speak(UNKNOWN_WORDS)
    first = align_at_25_hz(aligner, waveform, UNKNOWN_WORDS)
    assert aligner.num_by_rule == 2
    assert [word.text for word in first] == UNKNOWN_WORDS.split()
    assert align_at_25_hz(aligner, waveform, UNKNOWN_WORDS) == first
    assert aligner.num_by_rule == 2


def test_right_words_score_better_than_wrong_ones(aligner: PocketsphinxAligner, speak: Speak) -> None:
    waveform = speak(SENTENCE)
    right = np.mean([word.score for word in align_at_25_hz(aligner, waveform, SENTENCE)])
    try:
        wrong = np.mean([word.score for word in align_at_25_hz(aligner, waveform, "Hello")])
    except AlignmentError:
        wrong = -np.inf
    assert right > wrong + 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("one two three four five six seven eight nine ten " * 3, "the audio does not fit the text: 0 of 30 words"),
        ("word " * 200, r"200 words do not fit into \d+ frames of 0\.040 s"),
        ("—", "nothing in '—' can be said"),
        ("", "nothing in '' can be said"),
        ("это не то", "letters that are not English"),
    ],
)
def test_text_that_does_not_fit_is_refused(aligner: PocketsphinxAligner, speak: Speak, text: str, reason: str) -> None:
    with pytest.raises(AlignmentError, match=reason):
        align_at_25_hz(aligner, speak(SENTENCE), text)


@pytest.mark.parametrize("num_samples", [1, 160, 400, 1_000])
def test_audio_too_short_for_a_word_is_refused(aligner: PocketsphinxAligner, speak: Speak, num_samples: int) -> None:
    with pytest.raises(AlignmentError, match="0 of 1 words were found"):
        align_at_25_hz(aligner, speak("bread")[5_000 : 5_000 + num_samples], "bread")


def test_samples_beyond_full_scale_are_clipped(aligner: PocketsphinxAligner, speak: Speak) -> None:
    waveform = 3 * speak(SENTENCE)
    assert np.abs(waveform).max() > 1
    assert align_at_25_hz(aligner, waveform, SENTENCE) == align_at_25_hz(aligner, np.clip(waveform, -1, 1), SENTENCE)


@given(st.data(), st.integers(1, 40))
def test_fit_words_gives_every_word_a_frame_of_its_own_inside(data: st.DataObject, num_frames: int) -> None:
    places = st.tuples(st.integers(-3, num_frames + 9), st.integers(-3, num_frames + 9))
    drawn = data.draw(st.lists(places, max_size=num_frames))
    words = [Word(str(index), start, end, -float(index)) for index, (start, end) in enumerate(drawn)]
    fitted = fit_words(words, num_frames)
    assert [(word.text, word.score) for word in fitted] == [(word.text, word.score) for word in words]
    check_tiles(fitted, num_frames)
    assert fit_words(fitted, num_frames) == fitted


@given(st.sets(st.integers(0, 60), min_size=2), st.integers(0, 5))
def test_fit_words_leaves_good_boundaries_alone(boundaries: set[int], left_over: int) -> None:
    cuts = sorted(boundaries)
    words = tuple(Word("w", a, b, 0.0) for a, b in pairwise(cuts))[:: 1 + left_over % 2]
    assert fit_words(words, cuts[-1] + left_over) == words


def test_fit_words_moves_only_what_is_wrong() -> None:
    words = [Word("a", 0, 4, 0.0), Word("b", 4, 4, 0.0), Word("c", 4, 9, 0.0), Word("d", 12, 21, 0.0)]
    fitted = fit_words(words, 20)
    assert [(word.start_frame, word.end_frame) for word in fitted] == [(0, 4), (4, 5), (5, 9), (12, 20)]


def test_real_recordings_align_in_any_order(aligner: PocketsphinxAligner, librispeech: Path) -> None:
    with open(librispeech / "manifest.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = sorted((row for row in rows if float(row["seconds"]) < 6), key=lambda row: row["utt_id"])[:6]
    assert len(rows) == 6
    waveforms = [read_audio(librispeech / row["path"]) for row in rows]
    forward = [align_at_25_hz(aligner, waveform, row["text"]) for waveform, row in zip(waveforms, rows, strict=True)]
    fresh = PocketsphinxAligner()
    backward = [align_at_25_hz(fresh, waveforms[index], rows[index]["text"]) for index in reversed(range(6))]
    assert backward[::-1] == forward
    for words, waveform, row in zip(forward, waveforms, rows, strict=True):
        assert [word.text for word in words] == row["text"].split()
        check_tiles(words, num_frames_of(waveform))
        # Differences of samples: one of the microphones had an offset. Silences hold less energy than time.
        energy = np.square(np.diff(waveform, prepend=waveform[0]))
        spoken = sum(energy[word.start_frame * 640 : word.end_frame * 640].sum() for word in words)
        print(f"{row['utt_id']}: words hold {spoken / energy.sum():.1%} of the energy")
        assert spoken > 0.95 * energy.sum()


def test_transcripts_of_other_recordings_do_not_pass_for_the_right_ones(
    aligner: PocketsphinxAligner, librispeech: Path
) -> None:
    with open(librispeech / "manifest.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = sorted((row for row in rows if 4 < float(row["seconds"]) < 8), key=lambda row: row["utt_id"])[:6]
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        waveform = read_audio(librispeech / row["path"])
        right = np.mean([word.score for word in align_at_25_hz(aligner, waveform, row["text"])])
        try:
            wrong = np.mean([word.score for word in align_at_25_hz(aligner, waveform, other["text"])])
        except AlignmentError:
            continue
        print(f"{row['utt_id']}: right {right:.1f}, wrong {wrong:.1f}")
        assert wrong < right
