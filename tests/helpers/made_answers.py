"""Answers of models made by hand: rows of items, results on a benchmark, what was seen in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lst.evaluation.accuracy import direction_scores
from lst.evaluation.results import DIRECTIONS

NUM_ITEMS = 200


def rows_of(right: dict[str, int], directions: tuple[str, ...] = DIRECTIONS) -> list[dict[str, Any]]:
    """Rows of a model that answers the first questions of each direction rightly."""
    return [
        {
            "item": f"q{number}",
            "stratum": ("name", "story")[number % 2],
            "direction": direction,
            "ending": ending,
            "is_true": ending == 0,
            "nats": -1.0 if (ending == 0) == (number < right.get(direction, NUM_ITEMS // 2)) else -2.0,
            "swapped_nats": -1.5,
            "alone_nats": -1.5,
            "num_tokens": 2,
            "num_bytes": 9,
        }
        for direction in directions
        for number in range(NUM_ITEMS)
        for ending in range(2)
    ]


def add_benchmark(root: Path) -> None:
    """Results of both models of ``make_run`` on a benchmark: 100 and 170 of 200 right in S→S."""
    for number, name in enumerate(("baseline", "static")):
        rows: Any = rows_of({"S→S": 100 + 70 * number, "T→T": 150, "T→S": 90})
        sha256 = json.loads((root / "eval" / f"{name}.json").read_text())["weights_sha256"]
        path = root / "eval" / f"{name}@copa-0123456789ab.benchmark.json"
        result = {
            "version": 1,
            "made_from": "x",
            "name": name,
            "benchmark": "copa",
            "data": "0123456789abcdef",
            "weights_sha256": sha256,
            "seed": 0,
            "strategy": "static",
            "options": {},
            "num_parameters": 10,
            "chance": 0.5,
            "num_items": NUM_ITEMS,
            "left_out": [{"id": "q9", "reason": "too <long>"}],
            "controls": {},
            "directions": direction_scores(rows, 100, 0),
        }
        path.write_text(json.dumps(result))
        path.with_suffix(".items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def add_adapted(root: Path) -> None:
    """Word errors of both models of ``make_run``: 1 and 3 of 4 words of each of 20 utterances are wrong."""
    for name, errors in (("baseline", 1), ("static", 3)):
        sha256 = json.loads((root / "eval" / f"{name}.json").read_text())["weights_sha256"]
        path = root / "eval" / f"{name}@asr-valid-0123456789ab.adapted.json"
        rows = [
            {
                "utterance": f"u{number}",
                "source": "model",
                "wanted": "a small red boat",
                "heard": "",
                "word_errors": errors,
                "num_words": 4,
                "character_errors": 8,
                "num_characters": 16,
                "duration_s": 2.0,
                "num_tokens": 5,
                "num_global_steps": 20,
                "num_unpatched_steps": 40,
                "ended_by": "stop",
            }
            for number in range(20)
        ]
        rate = {"rate": errors / 4, "low": errors / 4, "high": errors / 4, "num_errors": 20 * errors, "num_wanted": 80}
        result = {
            "version": 1,
            "made_from": "x",
            "name": name,
            "task": "asr",
            "split": "valid",
            "data": "0123456789abcdef",
            "weights_sha256": sha256,
            "seed": 0,
            "strategy": "none" if name == "baseline" else name,
            "num_parameters": 10,
            "num_beams": 1,
            "normaliser": "built-in 2",
            "measure": "jiwer 4",
            "recogniser": "",
            "voice": "",
            "num_utterances": 20,
            "left_out": [],
            "sources": {"model": {"wer": rate, "cer": {**rate, "rate": 0.5}}},
            "global_steps_a_second": 10.0,
            "length_ratio": 0.5,
            "ended_by": {"length": 5, "stop": 15},
        }
        path.write_text(json.dumps(result))
        path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def add_contamination(root: Path, data: str) -> None:
    """Counts of held-out texts, one of four of which was seen whole."""
    seen = {"num_items": 4, "num_whole": 1, "num_shared": 2, "num_short": 0}
    example = {"item": "<i>", "source": "s", "words": "one <two>", "is_whole": True}
    found = {"version": 1, "made_from": "x", "data": data, "trained_on": "y", "missing": "", "ngram": 13}
    found |= {"num_texts": 7, "num_words": 70, "kinds": {"held_out": {**seen, "examples": [example]}}}
    (root / "eval/contamination.json").write_text(json.dumps(found))
