"""Names and texts of foreign files never reach the terminal as commands, and output fits any encoding."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from repository import ROOT

from lst.cli import main
from lst.data.checks.report import CheckReport
from lst.errors import ProblemsError, StorageError, UserError, one_line, printable
from lst.progress import Progress, say, show

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
HOSTILE = f"a{ESCAPE}\r\x08\x7f\x9b31m\u202egnp.exe\u2066\u2028\u200b\ud800\nlst: all is well"


def is_harmless(text: str) -> bool:
    """Whether a terminal shows a text as it is."""
    return all(char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in text)


def test_every_character_that_a_terminal_obeys_or_hides_is_written_out() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(char) in (
            *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
        ):
            assert one_line(char) == (char if char == "\t" else char.encode("unicode_escape").decode())
    assert one_line("Grüße, 世界 \t✓") == "Grüße, 世界 \t✓"
    assert printable("a\nb\x1b") == "a\nb\\x1b"


@pytest.mark.parametrize("kind", [UserError, StorageError])
def test_errors_quote_what_they_name(kind: type[UserError] | type[StorageError]) -> None:
    message = str(kind(f"{HOSTILE} does not exist"))
    assert is_harmless(message)
    assert "\n" not in message
    assert message.startswith("a\\x1b]0;owned\\x07")
    assert str(kind("first", f"second {HOSTILE}")).count("\n") == 1
    # A message within a message is quoted once.
    assert str(kind(message)) == message


def test_problems_are_a_line_each() -> None:
    error = ProblemsError("subject", [HOSTILE, "other"], "remedy")
    assert is_harmless(str(error))
    assert str(error).count("\n") == 3
    assert error.problems[0] == HOSTILE


def test_progress_lines_and_reports_quote_names(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    show(HOSTILE)
    stream = io.StringIO()
    with Progress(2, HOSTILE, stream=stream) as progress:
        progress.advance(note=HOSTILE)
        progress._print_line()
    report = CheckReport(HOSTILE, 5)
    report.add(HOSTILE, HOSTILE)
    report.notes.append(HOSTILE)
    report.statistics[HOSTILE] = {HOSTILE: HOSTILE}
    captured = capsys.readouterr()
    for text in (captured.err, captured.out, stream.getvalue(), report.as_text()):
        assert "owned" in text
        assert is_harmless(text)
    assert stream.getvalue().count("\n") == 1


def test_a_hostile_corpus_is_checked_without_a_character_that_a_terminal_obeys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = HOSTILE.replace("\ud800", "").replace("/", "")
    rows = [
        dict.fromkeys(("id", "path", "text", "speaker", "split", "duration", "start_s", "channel", "words"), name),
        {"path": "a.wav", "text": name, "words": [[name, 0, 1]], name: name},
        {"path": "a.wav", "text": name, "split": {name: name}, "member": name},
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + name)
    (tmp_path / f"{name}.wav").write_bytes(name.encode())
    assert main(["check", f"corpus={tmp_path}"]) == 1
    (tmp_path / "manifest.jsonl").rename(tmp_path / f"{name}.tsv")
    assert main(["check", f"corpus={tmp_path}"]) == 1
    assert main(["prepare", f"corpus={tmp_path}", f"run_dir={tmp_path}/run"]) == 2
    captured = capsys.readouterr()
    assert is_harmless(captured.out + captured.err)
    assert not any(line.startswith("lst: all is well") for line in (captured.out + captured.err).splitlines())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_output_fits_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["--help"]) == 0
    assert main(["train", "--help"]) == 0
    assert main(["train", "train.größe=ß世"]) == 2
    for stream in (out, err):
        stream.flush()
        assert stream.buffer.getvalue()  # type: ignore[attr-defined]


def test_words_that_are_not_utf8_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["generate", "generate.text=caf\udce9"], ["check", "corpus=/data/\udcff"], ["\udcff"]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "is not UTF-8: write it in UTF-8" in err
        assert err.count("\n") == 1
        assert is_harmless(err)


def test_an_output_that_cannot_be_written_is_one_line() -> None:
    command = [sys.executable, "-m", "lst", "train", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, cwd="/")
    assert (done.returncode, done.stderr) == (
        2,
        b"lst train: the output cannot be written: the disk that it goes to is full\n",
    )
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, env=environment, cwd="/")
    assert (closed.returncode, closed.stderr) == (
        2,
        b"lst train: standard output is closed: send it somewhere, to > /dev/null if nobody reads it\n",
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--patching", "static"], "the command comes first: lst COMMAND --patching …"),
        (["seed=3", "train"], "the command comes first: lst COMMAND seed=3 …"),
        (["train", "--model.size=x"], "options are words, did you mean "),
        (["train", "seed", "3"], "'seed' is not of the form key=value: write seed=…"),
        (["train", "seed:3"], "write seed=3"),
        (["train", "--seed"], "write seed=…"),
    ],
)
def test_habits_of_other_tools_are_answered(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["version"], ["train", "--version"]])
def test_the_version_is_told_wherever_it_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("lst 0.")


@pytest.mark.parametrize("words", [["help", "train"], ["--help", "train"], ["train", "-h"], ["train", "seed=3", "-h"]])
def test_help_of_a_command_is_found_in_any_order(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("lst train: ")
