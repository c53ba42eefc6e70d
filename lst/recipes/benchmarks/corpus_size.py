"""Time and memory of checking and planning a corpus by its number of utterances: a part of ``make bench-data``.

Each measurement is a process of its own, so that its peak memory is its own. Memory a row is the difference between two
sizes. By itself: ``python -m lst.recipes.benchmarks.corpus_size``, which writes ``runs/bench/corpus_size.json``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import soundfile

from lst.data.checks import check_corpus
from lst.data.config import DataConfig
from lst.data.prepare import PrepareOptions, prepare
from lst.data.synthesis import generate_stories
from lst.parallel import peak_memory_bytes
from lst.recipes.benchmarks.figures import Figures, run_in_own_process
from lst.tokenizers.config import TokenizerConfig

MODULE = "lst.recipes.benchmarks.corpus_size"
NUM_ROWS, NUM_FEWER = 100_000, 20_000
# Of which corpora of a million hours are made of, and the memory that a command may then take.
EXTRAPOLATED_ROWS, MOST_MB = 3_000_000, 1_000
NUM_RECORDINGS, FILES_A_FOLDER = 200, 1_000
# So many that none of the shards is of the last of them.
NUM_PARTS = 999_999


class Measured(TypedDict):
    """What a process prints: the time of the work, processor time of this process, and its peak memory."""

    seconds: float
    cpu_s: float
    peak_bytes: int


def main(arguments: Sequence[str]) -> None:
    """Measures one stage in this process, or all of them in processes of their own."""
    if arguments:
        stage, folder, num_workers = arguments
        print(json.dumps(_measured(lambda: STAGES[stage](Path(folder), int(num_workers)))))
        return
    figures = Figures("corpus_size")
    bench_corpus_size(figures)
    figures.write()


def bench_corpus_size(figures: Figures, num_rows: int = NUM_ROWS, num_fewer: int = NUM_FEWER) -> None:
    """Checks and plans corpora of two sizes."""
    with tempfile.TemporaryDirectory() as temporary:
        few, many = Path(temporary, "few"), Path(temporary, "many")
        _make_corpus(few, num_fewer)
        _make_corpus(many, num_rows)
        for stage in ("check", "plan"):
            one, two = _measure(stage, many, 1), _measure(stage, many, 2)
            name = f"{stage} of {num_rows:,} utterances"
            figures.add(f"{name}, one process: s", one["seconds"])
            figures.add(f"{name}, two processes: times the speed of one", one["seconds"] / two["seconds"], 1.8)
            _add_memory(figures, name, one, _measure(stage, few, 1), num_rows - num_fewer, num_rows)
        started, fewer = _measure("part", many, 1), _measure("part", few, 1)
        name = f"a part of {num_rows:,} utterances"
        figures.add(f"{name}: s of processor until its first shard", started["cpu_s"], 2, at_most=True)
        _add_memory(figures, name, started, fewer, num_rows - num_fewer, num_rows)


def _add_memory(figures: Figures, name: str, many: Measured, few: Measured, more_rows: int, num_rows: int) -> None:
    bytes_a_row = max(0.0, (many["peak_bytes"] - few["peak_bytes"]) / more_rows)
    figures.add(f"{name}: bytes of memory a row", bytes_a_row, 300, at_most=True)
    of_more = (many["peak_bytes"] + bytes_a_row * (EXTRAPOLATED_ROWS - num_rows)) / 1e6
    figures.add(f"{name}: MB for {EXTRAPOLATED_ROWS:,}, extrapolated", of_more, MOST_MB, at_most=True)


def _measure(stage: str, folder: Path, num_workers: int) -> Measured:
    found: Measured = run_in_own_process(MODULE, stage, folder, num_workers)
    return found


def _measured(work: Callable[[], object]) -> Measured:
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - started_s,
        "cpu_s": time.process_time() - started_cpu_s,
        "peak_bytes": peak_memory_bytes(),
    }


def _make_corpus(folder: Path, num_rows: int) -> None:
    """A manifest, and as many files as rows, which are links to few recordings."""
    words = " ".join(story.text for story in generate_stories(500, seed=1)).lower().split()
    generator = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    for number in range(NUM_RECORDINGS):
        noise = generator.normal(0, 0.1, 12_000 + 40 * number)
        soundfile.write(folder / f".{number}.wav", noise, 16_000)
    with open(folder / "manifest.jsonl", "w", encoding="utf-8") as manifest:
        for number in range(num_rows):
            place = folder / f"audio/{number // FILES_A_FOLDER:05d}"
            if number % FILES_A_FOLDER == 0:
                place.mkdir()
            name = f"{1000 + number % 977}-{number:07d}"
            os.link(folder / f".{number % NUM_RECORDINGS}.wav", place / f"{name}.wav")
            first, count = generator.integers(0, len(words) - 60), generator.integers(10, 57)
            record = {
                "id": name,
                "path": f"audio/{place.name}/{name}.wav",
                "text": " ".join(words[first : first + count]),
                "speaker": f"s{number % 977}",
            }
            manifest.write(json.dumps(record) + "\n")


def _check(folder: Path, num_workers: int) -> None:
    report = check_corpus(folder, "auto", 0.1, 30, decode=False, max_examples=5, num_workers=num_workers)
    assert not report.num_problems, report.as_text()


def _prepare(folder: Path, num_workers: int, part: str) -> None:
    options = PrepareOptions(
        corpus=str(folder),
        text=None,
        seed=0,
        on_error="raise",
        max_skipped_share=0.0,
        num_workers=num_workers,
        data=DataConfig(),
        tokenizer=TokenizerConfig(num_units=8, text_vocab_size=300, fit_max_frames=1_000),
        part=part,
    )
    prepare(folder.with_name(f"{folder.name}-prepared-{num_workers}"), options)


STAGES: dict[str, Callable[[Path, int], None]] = {
    "check": _check,
    "plan": lambda folder, num_workers: _prepare(folder, num_workers, "plan"),
    "part": lambda folder, num_workers: _prepare(folder, num_workers, f"{NUM_PARTS - 1}/{NUM_PARTS}"),
}


if __name__ == "__main__":
    main(sys.argv[1:])
