"""A disk that is really full, a small one in memory: the command says so, and goes on once there is space."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lst.cli import USAGE_EXIT, main
from tests.data.conftest import files_in, hashes

PAGE_BYTES = 4096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system in memory of 1 MiB; tests give it the size they want."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no command mount")
    if done.returncode:
        pytest.skip(f"a file system in memory may not be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize(folder: Path, num_bytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={num_bytes}", str(folder)], check=True)


@pytest.mark.parametrize("share", [0.2, 0.7, 0.9])
def test_a_full_disk_is_named_and_the_run_goes_on_with_more(
    small_disk: Path, prepared: Path, corpus: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    sizes = [(prepared / name).stat().st_size for name in files_in(prepared)]
    needed = PAGE_BYTES * sum(math.ceil(size / PAGE_BYTES) for size in sizes)
    resize(small_disk, int(share * needed) // PAGE_BYTES * PAGE_BYTES)
    words = [
        "prepare",
        f"run_dir={small_disk}",
        f"corpus={corpus}",
        "num_workers=1",
        "data.valid_share=0.25",
        "data.shard_utterances=2",
        "tokenizer.num_units=16",
        "tokenizer.text_vocab_size=300",
        "card.after_prepare=false",
    ]
    assert main(words) == USAGE_EXIT
    told = capsys.readouterr().err
    print(told.splitlines()[-1])
    assert "is full: " in told
    assert "run the same command again" in told
    data = small_disk / "data"
    left = files_in(data)
    assert not any("partial" in name or name in (".lock", "index.json") for name in left)
    # A tar without its receipt is made again.
    whole = [name for name in left if name == "units.safetensors" or name.replace(".tar", ".json") in left]
    before = {name: os.stat(data / name).st_mtime_ns for name in whole if not name.endswith((".json", ".jsonl"))}
    resize(small_disk, 2 * needed + (1 << 20))
    assert main(words) == 0
    assert hashes(data) == hashes(prepared)
    assert {name: os.stat(data / name).st_mtime_ns for name in before} == before
