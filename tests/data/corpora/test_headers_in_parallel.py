"""Headers of audio are read by several processes, with the rows and problems that one process finds."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lst.data.audio import AudioInfo
from lst.data.checks import CheckReport, check_corpus
from lst.data.config import DataConfig
from lst.data.corpora import ManifestRow, check_rows, row_checks
from lst.parallel import ordered


def test_two_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(280):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(8000 + number), 16_000)
    (tmp_path / "5.wav").write_bytes(b"no audio")
    rows = [ManifestRow(f"u{number}", tmp_path / f"{number}.wav", "hello there") for number in range(281)]
    # What of a row could not be read is not looked for.
    rows.append(ManifestRow("unread", "none://here", "hello", unread=frozenset({"path"})))
    one = check_rows(rows, 0.1, 60)
    monkeypatch.setattr(ordered, "START_S", -1.0)
    two = check_rows(rows, 0.1, 60, num_workers=2)
    assert [str(problem) for problem in one[1]] == [str(problem) for problem in two[1]]
    assert one[0] == two[0]
    assert {problem.id for problem in one[1]} == {"u5", "u280"}
    assert one[0][100].duration_s == 8101 / 16_000


def test_a_report_does_not_depend_on_the_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    rows = []
    for number in range(300):
        path = tmp_path / f"audio/{number}.{'flac' if number % 3 else 'wav'}"
        path.parent.mkdir(exist_ok=True)
        noise = generator.normal(0, 0.0 if number == 290 else 0.1, 3_000 + number % 7 * 400)
        soundfile.write(path, noise, 8_000 if number == 7 else 16_000)
        rows.append(
            {
                "id": f"u{number - number % 50 // 49}",
                "path": f"audio/{path.name}",
                "text": "the same words again" if number % 40 == 0 else f"these are [x] words {number}",
                "speaker": f"s{number % 5}",
                "split": "dev" if number % 10 == 0 else "train",
                "source": f"page {number % 3}",
            }
        )
    rows.append({**rows[270], "id": "twice", "split": "train"})
    rows[141]["text"], rows[142]["path"], rows[143]["id"] = "", "audio/gone.wav", "no/id"
    place = tmp_path / "manifest.jsonl"
    place.write_text("\n".join(map(json.dumps, rows)) + "\nno JSON\n")

    def report(num_workers: int, decode: bool) -> CheckReport:
        return check_corpus(place, "auto", 0.1, 0.35, decode, 0, num_workers=num_workers, data=DataConfig())

    one = [report(1, decode) for decode in (False, True)]
    monkeypatch.setattr(ordered, "START_S", -1.0)
    two = [report(2, decode) for decode in (False, True)]
    assert [found.as_text() for found in one] == [found.as_text() for found in two]
    assert [found.to_record() for found in one] == [found.to_record() for found in two]
    kinds = {"id", "transcript", "missing audio", "duration", "same audio", "row"}
    assert kinds <= {*one[0].counts}
    assert one[1].counts["level"] == 1
    assert [place for place in one[0].examples["id"] if "also at line 49;" in place]
    assert one[0].statistics["utterances"] == 301


def test_headers_that_wait_are_read_by_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(8000 + number), 16_000)
    places = [(tmp_path / f"{number}.wav", "") for number in range(41)]
    quick = row_checks._probe_many(places)
    clock, threads, probe = itertools.count(), set[int](), row_checks._probe

    def noted(place: tuple[Path | str, str]) -> AudioInfo | tuple[str, ...]:
        threads.add(threading.get_ident())
        return probe(place)

    monkeypatch.setattr(row_checks, "_probe", noted)
    monkeypatch.setattr(row_checks.time, "perf_counter", lambda: float(next(clock)))
    assert row_checks._probe_many(places) == quick
    assert len(threads) > 1
