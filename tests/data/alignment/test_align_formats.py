"""Other tools' alignment files: read in every form, refused with the line, written and read again."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.data.alignment.aligner import AlignmentError
from lst.data.alignment.formats.aligner_json import read_mfa_json, read_whisper_json
from lst.data.alignment.formats.ctm import ctm_of, read_ctm, write_ctm
from lst.data.alignment.formats.textgrid import read_textgrid, read_textgrid_tiers, textgrid_of, write_textgrids
from lst.data.alignment.imported import READERS, ImportAligner
from lst.data.alignment.words import match_words, place_words, word_key
from lst.data.utterance import TimedWord, Utterance, Word, time_problems
from lst.errors import ProblemsError, UserError
from tests.data.conftest import align

LONG = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.3
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "TextTier"
        name = "bell"
        xmin = 0
        xmax = 2.3
        points: size = 1
        points [1]:
            number = 0.75
            mark = "ding 1"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 2.3
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 2.3
            text = "x ""= 9"
    item [3]:
        class = "IntervalTier"
        name = "Words"
        xmin = 0
        xmax = 2.3
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.25
            text = "say ""äh"""
        intervals [3]:
            xmin = 1.25
            xmax = 2.3
            text = "two
lines"
'''
SHORT = '''File type = "ooTextFile short"
"TextGrid"

0
2.3
<exists>
3
"TextTier"
"bell"
0
2.3
1
0.75
"ding 1"
"IntervalTier"
"phones"
0
2.3
1
0
2.3
"x ""= 9"
"IntervalTier"
"Words"
0 2.3 3 0 0.5 "" 0.5 1.25 "say ""äh""" 1.25 2.3 "two
lines"
'''


def times(words: list[TimedWord]) -> list[tuple[str, float, float]]:
    return [(word.text, word.start_s, word.end_s) for word in words]


@pytest.mark.parametrize("text", [LONG, SHORT, LONG.replace("\n", "\r\n")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_textgrids_are_read_in_both_forms_and_all_encodings(text: str, encoding: str) -> None:
    content = text.encode(encoding)
    content = b"\xfe\xff" + content if encoding == "utf-16-be" else content
    tiers = read_textgrid_tiers(content, "a.TextGrid")
    assert [(tier.name, tier.is_intervals, len(tier.intervals)) for tier in tiers] == [
        ("bell", False, 1),
        ("phones", True, 1),
        ("Words", True, 3),
    ]
    assert tiers[1].intervals[0].text == 'x "= 9'
    words = read_textgrid(content, "a.TextGrid")
    assert [(text.replace("\r", ""), *rest) for text, *rest in times(words)] == [
        ("", 0, 0.5),
        ('say "äh"', 0.5, 1.25),
        ("two\nlines", 1.25, 2.3),
    ]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("words", "b"), ("ORT-MAU", "b"), ("word", "b"), ("speaker one - words", "b"), ("KAN-MAU", "a")],
)
def test_the_tier_of_words_is_found_by_its_names_else_the_first(name: str, chosen: str) -> None:
    tiers = f'"IntervalTier" "phones" 0 1 1 0 1 "a" "IntervalTier" "{name}" 0 1 1 0 1 "b"'
    content = f'"ooTextFile" "TextGrid" 0 1 <exists> 2 {tiers}'.encode()
    assert [word.text for word in read_textgrid(content, "x")] == [chosen]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (LONG.replace("xmax = 1.25", 'xmax = "1.25"').encode(), "line 40: an end should be a number, not '1.25'"),
        (LONG[:600].encode(), r"line \d+: the file ends where"),
        (LONG.replace("intervals: size = 3", "intervals: size = 2.5").encode(), "line 33: .* cannot be 2.5"),
        (LONG.replace("size = 3\nitem", "size = 1e999\nitem").encode(), "line 7: .* cannot be inf"),
        (LONG.replace('"TextTier"', '"FooTier"').encode(), "line 10: there is no class of tiers 'FooTier'"),
        (b"ooBinaryFile\x08TextGrid", "this is no TextGrid"),
        (b"\xff\xfe\x00", "neither UTF-8 nor UTF-16"),
        (b'"ooTextFile" "TextGrid" 0 1 <absent>', "no tier of intervals"),
    ],
)
def test_faulty_textgrids_are_refused_with_the_line(content: bytes, problem: str) -> None:
    with pytest.raises(ProblemsError, match=problem):
        read_textgrid(content, "a.TextGrid")


def test_characters_come_from_a_tier_of_their_own() -> None:
    words = '"IntervalTier" "words" 0 2 3 0 0.5 "Hi" 0.5 1 "" 1 2 "it\'s"'
    chars = '"IntervalTier" "chars" 0 2 6 0 0.2 "H" 0.2 0.5 "i" 0.5 1 "" 1 1.5 "it" 1.5 1.7 "\'" 1.7 2 "s"'
    content = f'"ooTextFile" "TextGrid" 0 2 <exists> 2 {words} {chars}'.encode()
    found = read_textgrid(content, "x")
    assert [word.character_ends_s for word in found] == [(0.2, 0.5), (), (1.5, 1.5, 2.0)]
    matched, problems = match_words("“Hi” it's.", found)
    assert problems == []
    assert [word.character_ends_s for word in matched] == [(0, 0.2, 0.5, 0.5), (1.5, 1.5, 1.5, 2.0, 2.0)]
    placed = place_words(matched, 50, 25)
    assert [word.character_ends for word in placed] == [(0, 5, 12, 12), (13, 13, 13, 25, 25)]


def test_ctm_files_hold_many_utterances() -> None:
    content = b";; made by hand\nb 1 0.50 0.25 two 0.5\n\na A 1.0 0.5 one\nb 1 0.0 0.5 One 1.0 lex\nb 1 .8 .1 x NA\n"
    found = read_ctm(content, "x.ctm")
    assert times(found["a"]) == [("one", 1.0, 1.5)]
    assert [(word.text, word.score) for word in found["b"]] == [
        ("One", 0),
        ("two", pytest.approx(math.log(0.5), abs=1e-5)),
        ("x", 0),
    ]
    assert found["b"][1].place == "x.ctm, line 2"
    with pytest.raises(ProblemsError) as raised:
        read_ctm(b"a 1 0 1\na 1 x 1 w\na 1 0 nan w\na 1 0 1 w\na 1 0 1 w high", "x.ctm")
    assert [problem.partition(":")[0] for problem in raised.value.problems] == ["line 1", "line 2", "line 3", "line 5"]


def test_json_of_mfa_and_whispers() -> None:
    mfa = {
        "start": 0,
        "end": 2,
        "tiers": {
            "phones": {"type": "interval", "entries": [[0, 1, "p"]]},
            "words": {"type": "interval", "entries": [[0.1, 0.4, "one"], [0.4, 0.6, ""], [0.6, 1, "<unk>"]]},
        },
    }
    assert times(read_mfa_json(json.dumps(mfa).encode(), "x")) == [("one", 0.1, 0.4), ("", 0.4, 0.6), ("<unk>", 0.6, 1)]
    whisper = {
        "segments": [
            {"words": [{"text": "One,", "start": 0.1, "end": 0.4, "confidence": 0.5}]},
            {
                "words": [{"word": " two", "start": 0.5, "end": 1.0, "probability": 1.0}],
                "chars": [
                    {"char": "t", "start": 0.5, "end": 0.6},
                    {"char": "w", "start": 0.6, "end": 0.8},
                    {"char": "o", "start": 0.8, "end": 1.0},
                    {"char": "?"},
                ],
            },
        ]
    }
    found = read_whisper_json(json.dumps(whisper).encode(), "x")
    assert times(found) == [("One,", 0.1, 0.4), ("two", 0.5, 1.0)]
    assert [word.score for word in found] == [pytest.approx(math.log(0.5), abs=1e-5), 0]
    assert found[1].character_ends_s == (0.6, 0.8, 1.0)
    whisper["segments"] += [{"id": 2}, {"words": [{"text": "x", "start": 1}, {"start": 1, "end": 2}]}]
    with pytest.raises(ProblemsError) as raised:
        read_whisper_json(json.dumps(whisper).encode(), "x")
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "segment 3",
        # A word with a start alone is placed between its neighbours; one without a text is a mistake.
        "segment 4, word 2",
    ]


KEYS = ("segments", "words", "text", "word", "start", "end", "tiers", "entries", "chars", "char")
json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=20,
)


@given(json_values, st.binary(max_size=60), st.text(alphabet='"<>exists 0123.e-TextGridooTextFile\n', max_size=200))
@settings(max_examples=120, deadline=None)
def test_nonsense_is_words_or_a_list_of_problems(value: Any, binary: bytes, text: str) -> None:
    start = b'"ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "w" '
    for content in (json.dumps(value).encode(), binary, text.encode(), start + text.encode(), start + binary):
        for reader in (*READERS.values(), read_ctm):
            # Any other error would come through.
            with contextlib.suppress(ProblemsError):
                reader(content, "file")


def word(text: str, start: float, end: float, **more: Any) -> TimedWord:
    return TimedWord(text, start, end, **more)


def test_words_agree_but_for_case_and_punctuation() -> None:
    timed = [
        word("<eps>", 0, 0.1),
        word("WELL", 0.1, 0.4, score=-1.0),
        word("known", 0.4, 0.6, score=-4.0),
        word("sil", 0.6, 0.7),
        word("<unk>", 0.7, 0.9),
        word("dont", 1.0, 1.2),
    ]
    matched, problems = match_words("“Well-known — Zorblax, don’t!", timed)
    assert problems == []
    assert times(matched) == [("“Well-known —", 0.1, 0.6), ("Zorblax,", 0.7, 0.9), ("don’t!", 1.0, 1.2)]
    assert matched[0].score == pytest.approx((-1.0 * 0.3 - 4.0 * 0.2) / 0.5)
    for text, problem in (
        ("well known zorblax do", "word 4 is 'do' in the transcript and 'dont' in the alignment"),
        ("well known zorblax", "the transcript ends before 'dont'"),
        ("well known zorblax dont you", "the alignment ends before word 5 of the transcript, 'you'"),
        ("—", "the transcript has no word"),
    ):
        assert problem in match_words(text, timed)[1][0]


def test_times_are_checked_all_at_once() -> None:
    timed = [word("a", 0, 0.5), word("b", 0.4, 0.6), word("c", 0.9, 0.7), word("d", -1, 0.5), word("e", 0.8, 1.2)]
    assert [problem.split(":")[0][:3] for problem in time_problems(timed, 1.0)] == ["'b'", "'c'", "'d'", "'e'"]
    assert time_problems([word("a", 0, 0.5), word("b", 0.46, 1.04)], 1.0) == []


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.lists(st.floats(0, 3), max_size=4)), max_size=8),
    st.integers(0, 30),
)
def test_placed_words_and_characters_lie_inside(drawn: list[tuple[float, float, list[float]]], num_frames: int) -> None:
    timed = [word("w" * len(ends), a, b, character_ends_s=tuple(ends)) for a, b, ends in drawn]
    if len(timed) > num_frames:
        with pytest.raises(AlignmentError, match="do not fit into"):
            place_words(timed, num_frames, 10)
        return
    position = 0
    for placed, (_, _, ends) in zip(place_words(timed, num_frames, 10), drawn, strict=True):
        assert position <= placed.start_frame < placed.end_frame <= num_frames
        position = placed.end_frame
        assert len(placed.character_ends) == len(ends)
        assert all(0 <= end <= placed.end_frame - placed.start_frame for end in placed.character_ends)
        if ends:
            assert max(placed.character_ends) == placed.end_frame - placed.start_frame


def make_utterance(seed: int, num_words: int, name: str = "utt", characters: bool = True) -> Utterance:
    generator = np.random.default_rng(seed)
    words, position = [], 0
    for index in range(num_words):
        position += int(generator.integers(0, 4))
        text = "".join(generator.choice(list("abcxyz"), int(generator.integers(1, 6)))) + ("," if index % 3 else '"')
        length = int(generator.integers(1, 12))
        ends = np.sort(generator.integers(1, length + 1, len(text)))
        ends[-2:] = length
        words.append(Word(text, position, position + length, 0.0, tuple(map(int, ends)) if characters else ()))
        position += length
    text = " ".join(item.text for item in words)
    return Utterance(name, "s", text, position / 25, np.zeros(position + 3, np.uint16), tuple(words))


@pytest.mark.parametrize("characters", [False, True])
def test_exported_textgrids_and_ctm_come_back_as_they_were(tmp_path: Path, characters: bool) -> None:
    utterances = [make_utterance(seed, 12, f"utt_{seed}", characters) for seed in range(5)]
    unaligned = Utterance("none", "s", "a", 0.2, np.zeros(5, np.uint16))
    assert write_textgrids(tmp_path / "grids", [*utterances, unaligned], 25) == 5
    assert write_ctm(tmp_path / "ctm" / "all.ctm", [unaligned, *utterances], 25) == 5
    for source in ("grids", "ctm", "ctm/all.ctm"):
        aligner = ImportAligner(str(tmp_path / source))
        for utterance in utterances:
            waveform = np.zeros(utterance.num_frames * 640, np.float32)
            words = align(aligner, waveform, utterance.text, utterance.num_frames, 25, utterance.id)
            expected = utterance.words
            if "ctm" in source:
                expected = tuple(item._replace(character_ends=()) for item in expected)
            assert words == expected
    with pytest.raises(UserError, match="white space"):
        ctm_of(make_utterance(0, 2, "two words"), 25)
    for name in ("../../up", "/up"):
        with pytest.raises(UserError, match="leads out of the folder"):
            write_textgrids(tmp_path / "grids", [make_utterance(0, 2, name)], 25)
    assert "characters" in textgrid_of(make_utterance(0, 3), 25)


def test_import_finds_files_by_id_and_names_every_problem(tmp_path: Path) -> None:
    (tmp_path / "speaker").mkdir()
    (tmp_path / "speaker" / "one.TextGrid").write_text(textgrid_of(make_utterance(1, 4), 25))
    good = {"segments": [{"words": [{"text": "Hello", "start": 0.0, "end": 0.5, "confidence": 0.9}]}]}
    (tmp_path / "two.json").write_text(json.dumps(good))
    (tmp_path / "three.json").write_text(json.dumps({"tiers": {"words": {"entries": [[0, 9, "hello"]]}}}))
    (tmp_path / "four.TextGrid").write_text("nothing")
    aligner = ImportAligner(str(tmp_path))

    def problems_of(items: list[tuple[str, str, float]]) -> list[str]:
        return [problem for item in items for problem in aligner.timed_words(*item)[1]]

    assert problems_of([("speaker/one", make_utterance(1, 4).text, 5.0), ("two", "hello!", 0.5)]) == []
    problems = problems_of([("two", "goodbye", 0.5), ("three", "hello", 1.0), ("four", "x", 1.0), ("5", "x", 1.0)])
    assert len(problems) == 4
    for problem, part in zip(
        problems,
        (
            "two: two.json, segment 1, line 1: word 1 is 'goodbye'",
            "three: three.json, line 1: 'hello' from 0.000 to",
            "four: line 1: this is no TextGrid",
            "5: there is no alignment of it",
        ),
        strict=True,
    ):
        assert part in problem
    with pytest.raises(AlignmentError, match="goodbye"):
        align(aligner, np.zeros(8000, np.float32), "goodbye", 12, 25, "two")
    only = ImportAligner(str(tmp_path), "textgrid")
    with pytest.raises(AlignmentError, match="no alignment of it"):
        align(only, np.zeros(8000, np.float32), "hello", 12, 25, "two")
    (tmp_path / "two.TextGrid").write_text("x")
    (tmp_path / "a.ctm").write_text("one 1 0 1 x\nz 1 0 x\n")
    with pytest.raises(ProblemsError) as raised:
        ImportAligner(str(tmp_path))
    assert len(raised.value.problems) == 2
    (tmp_path / "a.ctm").write_text("one 1 0 1 x\n")
    with pytest.raises(ProblemsError, match=r"2 problems\n.*two: both .*\n.*one: both .*one\.TextGrid and .*a\.ctm"):
        ImportAligner(str(tmp_path))
    with pytest.raises(UserError, match="no such file or folder"):
        ImportAligner(str(tmp_path / "gone"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no file of"):
        ImportAligner(str(tmp_path / "empty"))


def test_keys_of_words() -> None:
    assert word_key("“Don’t!”") == word_key("DONT") == "dont"
