"""The manifest: three formats in, one out, and every problem of it named in one error."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from repository import SHARED_DATA

from lst.data.checks.corpus import check_corpus
from lst.data.corpora.manifest import parse_manifest, read_manifest, split_of, write_manifest
from lst.data.corpora.row_checks import apply_on_error, check_rows, num_bad_rows, text_faults
from lst.data.corpora.rows import ManifestProblem, ManifestRow
from lst.errors import ProblemsError, UserError


def write_wav(path: Path, duration_s: float = 1.0, sample_rate_hz: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(duration_s * sample_rate_hz), 0.1, np.float32), sample_rate_hz)
    return path


def write(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


# Reading


def test_tsv_has_no_quoting_and_csv_has(tmp_path: Path) -> None:
    tsv = write(tmp_path / "a.tsv", 'id\tpath\ttext\nu1\ta.wav\t"Well, said he\nu2\tb.wav\tsaid "no"\n')
    assert [row.text for row in read_manifest(tsv)] == ['"Well, said he', 'said "no"']
    csv = write(tmp_path / "a.csv", 'id,path,text\nu1,a.wav,"""Well"", said he"\nu2,"b,c.wav",two words\n')
    assert [(row.path.name, row.text) for row in read_manifest(csv)] == [
        ("a.wav", '"Well", said he'),
        ("b,c.wav", "two words"),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("suffix", ["jsonl", "tsv", "csv"])
def test_byte_order_mark_and_line_ends_change_nothing(tmp_path: Path, suffix: str, bom: str, newline: str) -> None:
    lines = {
        "jsonl": [
            '{"id": "u1", "path": "a.wav", "text": "one"}',
            "",
            '{"id": "u2", "path": "b.wav", "text": "deux é"}',
        ],
        "tsv": ["id\tpath\ttext", "u1\ta.wav\tone", "", "u2\tb.wav\tdeux é"],
        "csv": ["id,path,text", "u1,a.wav,one", "", "u2,b.wav,deux é"],
    }[suffix]
    path = write(tmp_path / f"a.{suffix}", bom + newline.join(lines) + newline)
    assert read_manifest(path) == [
        ManifestRow("u1", tmp_path / "a.wav", "one"),
        ManifestRow("u2", tmp_path / "b.wav", "deux é"),
    ]


def test_aliases_capitals_and_unknown_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tsv",
        "Client_ID\tgender\tSentence\tseconds\tsubset\tending_start_word\taudio_filepath\n"
        "ann\tF\tone two three\t2.5\ttrain-clean-100\t1.0\tclips/a.b.mp3\n",
    )
    row = ManifestRow("a.b", tmp_path / "clips" / "a.b.mp3", "one two three", "ann", "train", 2.5, 1)
    assert read_manifest(path) == [row]
    assert read_manifest(path)[0].place == "line 2"


def test_paths_absolute_stay_and_relative_ones_start_at_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    absolute = tmp_path / "elsewhere" / "b.wav"
    write(folder / "a.tsv", f"path\ttext\na.wav\tone\n{absolute}\ttwo\n")
    monkeypatch.chdir(tmp_path)
    assert [row.path for row in read_manifest(Path("corpus/a.tsv"))] == [folder / "a.wav", absolute]


def test_splits() -> None:
    assert {split_of(name) for name in ("train", "TRAIN-clean-100", "training")} == {"train"}
    names = ("dev", "valid", "validation", "val", "test", "eval", "dev-clean", "test_other", "Test2")
    assert {split_of(name) for name in names} == {"valid"}
    assert split_of(" ") == ""
    assert {split_of(name) for name in ("validated", "invalidated", "other", "testimony")} == {None}


@pytest.mark.parametrize(("suffix", "found"), [("jsonl", "'sound'"), ("tsv", "'sound'"), ("csv", "'sound'")])
def test_missing_columns_are_told_with_aliases_and_an_example(tmp_path: Path, suffix: str, found: str) -> None:
    content = {"jsonl": '{"id": "u1", "sound": "a.wav"}\n', "tsv": "id\tsound\nu1\ta.wav\n", "csv": "id,sound\nu1,a\n"}
    with pytest.raises(UserError) as raised:
        parse_manifest(write(tmp_path / f"a.{suffix}", content[suffix]))
    message = str(raised.value)
    for part in ("path, text", found, "audio_filepath", "transcription", "For example:\n"):
        assert part in message
    assert len(message.split("For example:\n")[1].splitlines()) == 2


def test_the_shown_examples_can_be_read(tmp_path: Path) -> None:
    from lst.data.corpora.manifest import EXAMPLES

    for suffix, example in EXAMPLES.items():
        assert read_manifest(write(tmp_path / f"example{suffix}", example))[0].id == "utt_1"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "", "holds no rows"),
        ("a.tsv", "path\ttext\n", "holds no rows"),
        ("a.jsonl", "\n\n", "holds no rows"),
        ("a.txt", "path\ttext\n", "must end in .jsonl, .tsv, .csv"),
        ("a.csv", 'path,text\na.wav,"never closed\nb.wav,two\n', "line 2"),
        ("a.csv", 'path,text\na.wav,"one" two\nb.wav,two\n', "line 2"),
        ("a.tsv", "path\ttext\tText\na.wav\tone\ttwo\n", "column text occurs more than once"),
    ],
)
def test_files_that_are_no_manifest(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_manifest(write(tmp_path / name, content))


def test_other_encodings_and_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.tsv is not UTF-8: byte 17 is 0xe9"):
        parse_manifest(write(tmp_path / "a.tsv", "path\ttext\na.wav\té\n", encoding="latin-1"))
    for encoding in ("utf-16", "utf-32", "utf-16-le", "utf-8-sig"):
        rows, problems = parse_manifest(write(tmp_path / "b.tsv", "path\ttext\na.wav\té\n", encoding=encoding))
        assert ([row.text for row in rows], problems) == (["é"], [])
    with pytest.raises(UserError, match=r"absent\.tsv cannot be read: No such file"):
        parse_manifest(tmp_path / "absent.tsv")


def test_every_bad_line_is_named_in_one_error(tmp_path: Path) -> None:
    lines = {
        "fine": '{"id": "u1", "path": "a.wav", "text": "one"}',
        "not JSON": '{"id": "u2", "path": ',
        "not a JSON object": '["u3"]',
        "names no audio file": '{"id": "u4", "text": "one"}',
        "NUL": '{"id": "u4b", "path": "a\\u0000.wav", "text": "one"}',
        "has no transcript": '{"id": "u5", "path": "a.wav"}',
        "split 'other' is unknown": '{"id": "u6", "path": "a.wav", "text": "one", "split": "other"}',
        "duration 'long' is not": '{"id": "u7", "path": "a.wav", "text": "one", "duration": "long"}',
        "duration 'nan' is not": '{"id": "u8", "path": "a.wav", "text": "one", "duration": NaN}',
        "duration '-1' is not": '{"id": "u9", "path": "a.wav", "text": "one", "duration": -1}',
        "ending_start_word '1.5' is not a whole": '{"id": "v1", "path": "a", "text": "o", "ending_start_word": 1.5}',
        "text must be text": '{"id": "v2", "path": "a.wav", "text": ["one"]}',
        "surrogates not allowed": '{"id": "v3", "path": "a.wav", "text": "\\ud800"}',
    }
    path = write(tmp_path / "a.jsonl", "\n".join(lines.values()) + "\n")
    with pytest.raises(ProblemsError) as raised:
        read_manifest(path)
    problems = raised.value.problems
    assert len(problems) == len(lines) - 1
    for number, (message, problem) in enumerate(zip(list(lines)[1:], problems, strict=True), 2):
        assert problem.startswith(f"line {number}")
        assert message in problem
        assert problem in str(raised.value)
    rows, parsed = parse_manifest(path)
    assert [row.id for row in rows] == ["u1"]
    assert num_bad_rows(parsed) == len(lines) - 1


def test_a_table_row_of_another_width_is_a_problem(tmp_path: Path) -> None:
    rows, problems = parse_manifest(
        write(tmp_path / "a.tsv", "id\tpath\ttext\nu1\ta.wav\nu2\tb.wav\ttwo\nu3\tc\td\te\n")
    )
    assert [row.id for row in rows] == ["u2"]
    assert [str(problem) for problem in problems] == [
        "line 2: has 2 cells, the header has 3",
        "line 4: has 4 cells, the header has 3",
    ]


def test_csv_lines_are_counted_where_a_record_starts(tmp_path: Path) -> None:
    content = 'path,text\na.wav,"one\ntwo"\nb.wav\nc.wav,three\n'
    rows, problems = parse_manifest(write(tmp_path / "a.csv", content))
    assert [(row.text, row.place) for row in rows] == [("one\ntwo", "line 2"), ("three", "line 5")]
    assert [problem.place for problem in problems] == ["line 4"]


def test_written_rows_are_read_back_equal(tmp_path: Path) -> None:
    rows = [
        ManifestRow("u1", tmp_path / "a.wav", 'quote " tab \t line \u2028 é 水', "ann", "train", 1 / 3, 2),
        ManifestRow("u2", tmp_path / "b c.wav", "two"),
    ]
    write_manifest(tmp_path / "out" / "a.jsonl", rows)
    assert read_manifest(tmp_path / "out" / "a.jsonl") == rows
    with pytest.raises(UserError, match=r"\.jsonl"):
        write_manifest(tmp_path / "a.tsv", rows)


# Checking


def test_prepared_data_may_hold_questions_and_a_corpus_may_not(tmp_path: Path) -> None:
    rows = [ManifestRow("a", tmp_path / "a.wav", "hello", "ann", "questions")]
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, rows)
    assert read_manifest(path) == rows
    kept, problems = parse_manifest(path)
    assert kept == []
    assert "split 'questions' is unknown" in problems[0].message


def test_every_problem_class_is_named_in_one_error(tmp_path: Path) -> None:
    good = write_wav(tmp_path / "good.wav")
    write_wav(tmp_path / "short.wav", 0.2)
    write_wav(tmp_path / "long.wav", 5.0)
    write_wav(tmp_path / "zero.wav", 0.0)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "noise.wav").write_bytes(random.Random(0).randbytes(500))
    content = good.read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    (tmp_path / "folder.wav").mkdir()
    cases = [
        ("g1", "good.wav", "fine", None, None, None),
        ("m1", "absent.wav", "hello", None, None, "transcript without audio: "),
        ("m1b", "swapped " * 50, "hello", None, None, "transcript without audio: "),
        ("m2", "empty.wav", "hello", None, None, "is an empty file (0 bytes)"),
        ("m3", "noise.wav", "hello", None, None, "cannot be read as audio"),
        ("m4", "zero.wav", "hello", None, None, "is empty, its duration is 0 s"),
        ("m5", "cut.wav", "hello", None, None, "is cut short"),
        ("m6", "folder.wav", "hello", None, None, "not a file"),
        ("s1", "short.wav", "hello", None, None, "is too short: 0.20 s, allowed are 0.5 to 3 s"),
        ("s2", "long.wav", "hello", None, None, "is too long: 5.00 s, allowed are 0.5 to 3 s"),
        ("g1", "good.wav", "again", None, None, "the id is also at line 1"),
        ("d1", "good.wav", "hello", 1.2, None, "duration is stated as 1.20 s, but the audio has 1.00 s"),
        ("t1", "good.wav", "  ", None, None, "the transcript is empty"),
        ("t2", "good.wav", "… – …", None, None, "no letter a–z and no digit: '… – …'"),
        ("t3", "good.wav", "привет", None, None, "'п' 'р' 'и' 'в' 'е' 'т' (Cyrillic)"),
        ("t4", "good.wav", "hello 世界", None, None, "not English: '世' '界' (Cjk)"),
        ("e1", "good.wav", "one two", None, 2, "ending_start_word 2 is outside of 1 … 1"),
        ("a.b", "good.wav", "hello", None, None, "id 'a.b' must be made of A–Z, a–z, 0–9, _ and - alone"),
        ("a/b", "good.wav", "hello", None, None, "id 'a/b' must be"),
        ("a\nb", "good.wav", "hello", None, None, "id 'a\\nb' must be"),
        ("é", "good.wav", "hello", None, None, "id 'é' must be"),
        ("", "good.wav", "hello", None, None, "id '' must be"),
        ("ok-1_Z", "good.wav", "ÉTÉ", 1.1, None, None),
    ]
    rows = [
        ManifestRow(name, tmp_path / file, text, "ann", "train", duration_s, ending, f"line {number}")
        for number, (name, file, text, duration_s, ending, _) in enumerate(cases, 1)
    ]
    kept, problems = check_rows(rows, 0.5, 3.0)
    assert [(row.id, row.duration_s, row.speaker) for row in kept] == [("g1", 1.0, "ann"), ("ok-1_Z", 1.0, "ann")]
    bad = [case for case in cases if case[-1]]
    assert num_bad_rows(problems) == len(bad)
    with pytest.raises(ProblemsError) as raised:
        apply_on_error(problems, len(rows), "raise", 0.5, "manifest corpus.tsv")
    message = str(raised.value)
    for case in bad:
        assert case[-1] in message
    assert message.startswith("manifest corpus.tsv: ")
    assert f"leave out {len(bad)} of {len(rows)} utterances with on_error=skip" in message


def test_of_a_row_that_cannot_be_read_whole_the_rest_is_checked(tmp_path: Path) -> None:
    """All of its problems at once, and none that only follows from what could not be read."""
    write_wav(tmp_path / "good.wav", 1.0)
    write_wav(tmp_path / "long.wav", 5.0)
    cases: list[tuple[dict[str, object], list[str]]] = [
        ({"id": "a", "path": "good.wav", "text": "fine"}, []),
        (
            {"id": "a", "path": "absent.wav", "text": "", "duration_s": "abc"},
            [
                "duration 'abc' is not a number",
                "the id is also at line 1",
                "transcript is empty",
                "absent.wav does not",
            ],
        ),
        (
            {"id": "b.c", "path": "long.wav", "text": "fine", "channel": -1, "split": "some"},
            [
                "split 'some' is unknown",
                "channel '-1' is not a whole",
                "id 'b.c' must be made of",
                "is too long: 5.00 s",
            ],
        ),
        ({"path": {}, "text": "привет"}, ["path must be text", "names no audio", "no letter a–z", "(Cyrillic)"]),
        ({"id": "d", "path": "good.wav", "text": ["a"]}, ["text must be text"]),
        (
            {"path": "long.wav", "text": "fine", "start_s": "x", "words": [["fine", 2, 1]]},
            ["start_s 'x' is not a number", "1 s, ends before it starts"],
        ),
        (
            {"path": "long.wav", "text": "fine", "start_s": 1e308, "channel": 10**400},
            ["start_s '1e+308' is not a number of at least 0 and at most 1e+09", "channel '1000000"],
        ),
        ({"id": "bad id!", "path": None, "text": "fine"}, ["id 'bad id!' must be", "names no audio file"]),
        ({"id": "a", "path": "good.wav", "text": "fine", "start_s": "y"}, ["start_s 'y' is not", "also at line 1"]),
        ({"id": "f", "path": "good.wav", "text": "fine", "words": 3}, ["words must be a list"]),
    ]
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record, _ in cases))
    rows, problems = parse_manifest(path)
    good, found = check_rows(rows, 0.5, 3.0, problems)
    assert [row.place for row in good] == ["line 1"]
    for number, (_, expected) in enumerate(cases, 1):
        told = [problem.message for problem in [*problems, *found] if problem.place == f"line {number}"]
        assert len(told) == len(expected), told
        for part in expected:
            assert sum(part in message for message in told) == 1, told
    assert num_bad_rows([*problems, *found]) == len(cases) - 1
    report = check_corpus(path, "auto", 0.5, 3.0, decode=False, max_examples=0)
    assert report.num_problems == len(problems) + len(found)


def test_one_row_can_have_several_problems_and_counts_once(tmp_path: Path) -> None:
    _, problems = check_rows([ManifestRow("a.b", tmp_path / "absent.wav", "")], 0.5, 3.0)
    assert len(problems) == 3
    assert num_bad_rows(problems) == 1


def test_duration_slack_is_a_tenth_of_a_second_and_two_percent(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", 5.0)
    for stated_s, is_good in [(5.19, True), (4.81, True), (5.21, False), (4.79, False), (0.0, False)]:
        kept, _ = check_rows([ManifestRow("u", path, "one", duration_s=stated_s)], 0.5, 10.0)
        assert bool(kept) == is_good, stated_s


def test_which_transcripts_are_english() -> None:
    for text in ("don't", "Café", "ÉTÉ", "the Cæsars' mediæval …", "naı̈ve", "£5 5ᵗʰ Ⅻ oʼclock", "ｈｅｌｌｏ", "12:30"):
        assert not text_faults(text), text
    for text in ("", "\n", "…", "Ελλάδα", "नमस्ते", "abc π"):
        assert text_faults(text), text


@pytest.mark.parametrize("bound_s", [0.5, 3.0])
def test_duration_bounds_are_allowed_themselves(tmp_path: Path, bound_s: float) -> None:
    path = write_wav(tmp_path / "a.wav", bound_s)
    assert check_rows([ManifestRow("u", path, "one")], 0.5, 3.0)[1] == []


def test_skipping_is_allowed_up_to_a_share() -> None:
    problems = [ManifestProblem(f"line {number}", "", "broken") for number in range(5)]
    apply_on_error(problems, 100, "skip", 0.05, "manifest")
    apply_on_error([], 0, "raise", 0.0, "manifest")
    with pytest.raises(ProblemsError) as raised:
        apply_on_error(problems, 99, "skip", 0.05, "manifest")
    assert "5 of 99 utterances (5.1%) would be skipped, allowed are 5.0%" in str(raised.value)
    assert "max_skipped_share=0.051" in str(raised.value)
    with pytest.raises(ProblemsError, match="no utterance would be left"):
        apply_on_error(problems, 5, "skip", 1.0, "manifest")
    with pytest.raises(UserError, match="on_error=ignore"):
        apply_on_error([], 5, "ignore", 0.0, "manifest")
    with pytest.raises(UserError, match="max_skipped_share=5"):
        apply_on_error([], 5, "skip", 5, "manifest")


def test_real_speech_has_no_problems(tmp_path: Path) -> None:
    manifest = SHARED_DATA / "librispeech_mini" / "manifest.tsv"
    if not manifest.exists():
        pytest.skip("the real speech in shared/data/librispeech_mini is absent")
    rows = read_manifest(manifest)
    kept, problems = check_rows(rows, 0.5, 40.0)
    assert problems == []
    assert len(kept) == 301
    assert sum(row.split == "train" for row in kept) == 251
    assert sum(row.duration_s or 0.0 for row in kept) / 60 == pytest.approx(58.7, abs=0.2)
    write_manifest(tmp_path / "manifest.jsonl", kept)
    assert read_manifest(tmp_path / "manifest.jsonl") == kept
    assert json.loads((tmp_path / "manifest.jsonl").read_text().splitlines()[0])["id"] == rows[0].id


@pytest.mark.parametrize("language", ["", "de"])
def test_a_number_that_nobody_says_is_a_fault_of_its_row(language: str) -> None:
    """Python refuses to read it as a number, in the middle of preparing."""
    assert text_faults("a number: " + "7" * 1000, language) == []
    (fault,) = text_faults("a number: " + "7" * 5000, language)
    assert "more than 1,000 digits" in fault
