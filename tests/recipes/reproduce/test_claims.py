"""``lst reproduce lst``: credits of made-up models become verdicts and a page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lst.cli import main
from lst.evaluation.results import DIRECTIONS
from lst.recipes.reproduce import claims
from lst.recipes.reproduce.claims import CLAIMS, claim_records, groups_of
from lst.recipes.reproduce.formats import LstFile
from lst.recipes.reproduce.grids import Trained
from lst.storage import read_json, write_jsonl

NUM_ITEMS, NUM_SEEDS = 100, 4
# Accuracy by grid, arm and size.
ACCURACIES = {
    ("compute", "baseline", "small"): 0.5,
    ("compute", "static-4", "small"): 0.7,
    ("compute", "curriculum", "small"): 0.5,
    ("flops", "baseline", "small"): 0.8,
    ("large", "baseline", "small"): 0.5,
    ("large", "static-4", "small"): 0.5,
    ("large", "baseline", "large"): 0.5,
    ("large", "static-4", "large"): 0.75,
}


def model(folder: Path, grid: str, arm: str, size: str, seed: int, accuracy: float) -> Trained:
    """A finished model whose answers lie where evaluations leave them."""
    generator = np.random.default_rng([seed, *map(ord, grid + arm + size)])
    rows = []
    for direction in DIRECTIONS:
        for stratum in ("name", "topic"):
            right = generator.random(NUM_ITEMS) < accuracy
            for item, is_right in enumerate(right):
                for ending, is_true in enumerate((True, False)):
                    nats = float(is_true == is_right)
                    row = {"item": f"{stratum}-{item}", "stratum": stratum, "direction": direction, "ending": ending}
                    row |= {"is_true": is_true, "nats": nats, "swapped_nats": 0.0, "alone_nats": 0.0}
                    rows.append(row | {"num_tokens": 1, "num_bytes": 1})
    home = folder / f"{grid}-{arm}-{size}-{seed}"
    write_jsonl(home / "eval" / f"{arm}.questions.jsonl", rows)
    numbers = {"N": 1e6, "D": 1e6, "C": 1e13, "speech_bits": 1.5, "text_bits": 0.2}
    cell: Any = {"arm": arm, "size": size, "seed": seed, "name": home.name}
    point: Any = {"version": 1, "made_from": "", "row": numbers}
    return Trained(grid, cell, point, home)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Trained]:
    folder = tmp_path_factory.mktemp("models")
    found = [model(folder, *key, seed, accuracy) for key, accuracy in ACCURACIES.items() for seed in range(NUM_SEEDS)]
    missing: Any = {"arm": "baseline", "size": "small", "seed": 9, "name": "missing-9"}
    return [*found, Trained("compute", missing, None, folder / "none")]


def test_claims_are_answered_by_what_was_trained(models: list[Trained]) -> None:
    found = {one["claim"]: one for one in claim_records(groups_of(models))}
    verdicts = [one["verdict"] for one in found.values()]
    assert list(found) == [claim.text for claim in CLAIMS]
    assert verdicts[0] == "holds"
    static = found[CLAIMS[0].text]
    assert static["answer"] is not None
    assert static["answer"]["value"] == pytest.approx(0.2, abs=0.05)
    assert (static["answer"]["num_seeds"], static["answer"]["num_items"]) == (NUM_SEEDS, NUM_ITEMS)
    assert static["at_flops"] is not None
    assert static["at_flops"]["verdict"] == "does not hold", "the baseline wins at equal FLOPs"
    assert verdicts[2:4] == ["not decided here"] * 2, "nothing was trained on equal data"
    assert found[CLAIMS[2].text]["answer"] is None
    assert verdicts[4] == "does not hold", "the curriculum is worse than static patches"
    growth = found[CLAIMS[5].text]
    assert growth["verdict"] == "holds"
    assert growth["answer"] is not None
    assert growth["answer"]["value"] == pytest.approx(0.25, abs=0.06)
    assert verdicts[6] == "holds"


def test_only_questions_that_all_were_asked_count(models: list[Trained], tmp_path: Path) -> None:
    first = models[0]
    rows = [
        {"item": f"name-{item}", "stratum": "name", "direction": "S→S", "ending": ending, "is_true": ending == 0}
        | {"nats": 0.0, "swapped_nats": 0.0, "alone_nats": 0.0, "num_tokens": 1, "num_bytes": 1}
        for item in range(7)
        for ending in range(2)
    ]
    write_jsonl(tmp_path / "eval" / "baseline.questions.jsonl", rows)
    groups = groups_of([Trained(first.grid, first.cell, first.point, tmp_path), *models[1:]])
    assert {credits.shape[1] for group in groups.values() for credits in group.credits.values()} == {7}
    assert groups_of([]) == {}


def test_the_page_says_what_holds_and_what_ran(
    models: list[Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = SimpleNamespace(questions=["one"])
    monkeypatch.setattr(claims, "prepare_data", lambda *_: data)
    monkeypatch.setattr(claims, "trained_models", lambda _: models)
    monkeypatch.setattr(claims, "train_grids", lambda *_: ["compute: 1 of 13 models failed"])
    assert main(["reproduce", "lst", f"out={tmp_path}"]) == 2
    assert "compute: 1 of 13 models failed" in capsys.readouterr().err
    assert main(["reproduce", "lst", f"out={tmp_path}", "page_only=true"]) == 0
    page, found = (tmp_path / "lst.html").read_text(), read_json(tmp_path / "lst.json", LstFile, "the page", "")
    assert found["ran"][0] == {"grid": "compute", "num_models": 13, "num_finished": 12, "missing": ["missing-9"]}
    assert found["num_items"]["S→S, name"] == NUM_ITEMS
    assert len(found["differences"]) == 3 * 8 + 8
    for group in found["groups"]:
        own = group["by_seed"]["S→S"]["name"]
        assert len(own) == len(group["seeds"]) == group["num_seeds"]
        assert sum(own) / len(own) == pytest.approx(group["accuracy"]["S→S"]["name"]["value"])
    assert (tmp_path / "seeds-name.svg").exists()
    for part in (
        "does not hold",
        "not decided here",
        "missing-9",
        "32 of 33",
        "At equal FLOPs",
        "Seed by seed",
        "All differences",
    ):
        assert part.lower() in page.lower(), part
    monkeypatch.setattr(claims, "trained_models", lambda _: [])
    assert main(["reproduce", "lst", f"out={tmp_path}", "page_only=true"]) == 0
    assert "not decided here" in (tmp_path / "lst.html").read_text()
    data.questions = []
    assert main(["reproduce", "lst", f"out={tmp_path}"]) == 2
    assert "data.num_questions=500" in capsys.readouterr().err
