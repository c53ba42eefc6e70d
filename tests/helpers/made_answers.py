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


def add_contamination(root: Path, data: str) -> None:
    """Counts of held-out texts, one of four of which was seen whole."""
    seen = {"num_items": 4, "num_whole": 1, "num_shared": 2, "num_short": 0}
    example = {"item": "<i>", "source": "s", "words": "one <two>", "is_whole": True}
    found = {"version": 1, "made_from": "x", "data": data, "trained_on": "y", "missing": "", "ngram": 13}
    found |= {"num_texts": 7, "num_words": 70, "kinds": {"held_out": {**seen, "examples": [example]}}}
    (root / "eval/contamination.json").write_text(json.dumps(found))
