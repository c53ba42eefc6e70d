"""Headers of audio are read by several processes, with the rows and problems that one process finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lst.data.corpora import ManifestRow, check_rows
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
