"""Alignments of other tools: found by any spelling of an utterance's name, untimed words, tiers by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lst.data.alignment.aligner import AlignItem
from lst.data.alignment.formats.mfa_csv import read_mfa_csv
from lst.data.alignment.formats.textgrid import read_textgrid
from lst.data.alignment.imported import ImportAligner, given_times
from lst.data.alignment.names import NamedAlignments
from lst.data.config import AlignConfig
from lst.data.corpora import ManifestRow
from lst.errors import ProblemsError


@pytest.mark.parametrize(
    ("names", "utterance_id", "audio", "expected"),
    [
        (["talk-u01", "talk-u02"], "talk_u01", "/c/audio/talk u01", ["talk-u01"]),
        (["talk-space-u01"], "talk_u01", "/c/talk u01", ["talk-space-u01"]),
        (["spk1/u01", "spk2/u01"], "spk2_u01", "/c/spk2/u01", ["spk2/u01"]),
        (["spk1/u01", "spk2/u01"], "u01", "/c/spk1/u01", ["spk1/u01"]),
        (["audio_talk-u01", "b"], "x7", "/c/audio/talk u01", ["audio_talk-u01"]),
        (["u01"], "utt-0123abcd", "/c/x/u01", ["u01"]),
        (["spk1/u01", "spk2/u01"], "u01", "/c/audio/u01", ["spk1/u01", "spk2/u01"]),
        (["cafe\u0301_1"], "x", "/c/caf\u00e9 1", ["cafe\u0301_1"]),
        (["other"], "u01", "/c/u01", []),
    ],
)
def test_spellings(names: list[str], utterance_id: str, audio: str, expected: list[str]) -> None:
    assert NamedAlignments(names).find(utterance_id, audio) == expected


def test_a_miss_shows_the_nearest_name_and_an_ambiguous_one_all(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "u01.json").write_text(json.dumps({"segments": []}))
    (tmp_path / "talk_17.json").write_text(json.dumps({"segments": []}))
    aligner = ImportAligner(str(tmp_path))
    assert "the nearest name is 'talk_17'" in aligner.timed_words("talk_16", "x", 1.0)[1][0]
    assert "u01: 2 alignments may be its own: a/u01, b/u01" in aligner.timed_words("u01", "x", 1.0)[1][0]


def test_words_of_whisperx_without_times_lie_between_their_neighbours(tmp_path: Path) -> None:
    words = [
        {"word": "In", "start": 0.0, "end": 0.2, "score": 0.9},
        {"word": "2014", "start": 0.3},
        {"word": "5%"},
        {"word": "left.", "start": 1.0, "end": 1.4, "score": None},
        {"word": "42"},
    ]
    (tmp_path / "u.json").write_text(json.dumps({"segments": [{"words": words[:2]}, {"words": words[2:]}]}))
    aligner = ImportAligner(str(tmp_path))
    timed, problems = aligner.timed_words("u", "In 2014 5% left. 42", 2.0)
    assert problems == []
    assert [(word.text, round(word.start_s, 2), round(word.end_s, 2), word.is_unaligned) for word in timed] == [
        ("In", 0.0, 0.2, False),
        ("2014", 0.2, 0.6, True),
        ("5%", 0.6, 1.0, True),
        ("left.", 1.0, 1.4, False),
        ("42", 1.4, 1.4, True),
    ]
    (placed,) = aligner.align_many([AlignItem(np.zeros(32_000, np.float32), "In 2014 5% left. 42", 50, "u")], 25)
    assert isinstance(placed, tuple)
    assert [(word.start_frame, word.end_frame, word.is_unaligned) for word in placed] == [
        (0, 5, False),
        (5, 15, True),
        (15, 25, True),
        (25, 35, False),
        (35, 36, True),
    ]


def grid(*tiers: tuple[str, str]) -> bytes:
    body = " ".join(f'"IntervalTier" "{name}" 0 1 1 0 1 "{word}"' for name, word in tiers)
    return f'"ooTextFile" "TextGrid" 0 1 <exists> {len(tiers)} {body}'.encode()


def test_a_tier_is_chosen_by_its_name() -> None:
    content = grid(("Phones", "f"), ("Text", "said"), ("ann - Word", "word"))
    assert read_textgrid(content, "a.TextGrid")[0].text == "word"
    for tier in ("Text", "text"):
        assert read_textgrid(content, "a.TextGrid", tier)[0].text == "said"
    with pytest.raises(
        ProblemsError, match=r"no tier 'Txt' .*its tiers of intervals are 'Phones', 'Text', 'ann - Word'"
    ):
        read_textgrid(content, "a.TextGrid", "Txt")
    # A tier that was guessed says so, wherever its words do not fit.
    assert "data.align.tier: 'Text'" in read_textgrid(grid(("Phones", "f"), ("Text", "said")), "a.TextGrid")[0].place


@pytest.mark.parametrize("tiers", [["phones"], ["ann - phones", "MAU"], ["chars"]])
def test_parts_of_words_are_not_taken_for_words(tiers: list[str]) -> None:
    with pytest.raises(ProblemsError, match="no tier of words; its tiers of intervals are '" + "', '".join(tiers)):
        read_textgrid(grid(*((tier, "f") for tier in tiers)), "a.TextGrid")
    assert read_textgrid(grid(*((tier, "f") for tier in tiers)), "a.TextGrid", tiers[0])[0].text == "f"


@pytest.mark.parametrize(("name", "tier"), [("u1", ""), ("talk one", ""), ("u1", "Text")])
def test_a_mended_alignment_changes_its_row(tmp_path: Path, name: str, tier: str) -> None:
    row = ManifestRow("u1", tmp_path / "talk one.wav", "said", duration_s=1.0)
    config = AlignConfig(method="import", source=str(tmp_path), tier=tier)
    found = []
    for start in (b"0", b"0.5"):
        content = grid(("words", "other"), (tier or "x", "said")) if tier else grid(("words", "said"))
        (tmp_path / f"{name}.TextGrid").write_bytes(content.replace(b'1 0 1 "said"', b"1 " + start + b' 1 "said"'))
        times_of = given_times(config)
        assert times_of is not None
        found.append(times_of(row))
    assert found[0] != found[1]


def test_csv_of_mfa() -> None:
    content = b"Begin,End,Label,Type,Speaker\n0,0.5,hello,words,ann\n0,0.2,HH,phones,ann\n0.5,x,there,words,ann\n"
    with pytest.raises(ProblemsError, match="word 2: 'x' is not a number"):
        read_mfa_csv(content, "a.csv")
    found = read_mfa_csv(content.replace(b"0.5,x", b"0.5,0.9"), "a.csv")
    assert [word[:3] for word in found] == [("hello", 0.0, 0.5), ("there", 0.5, 0.9)]
    assert [word.text for word in read_mfa_csv(content, "a.csv", "phones")] == ["HH"]
    with pytest.raises(ProblemsError, match="types are phones, words"):
        read_mfa_csv(content, "a.csv", "syllables")
