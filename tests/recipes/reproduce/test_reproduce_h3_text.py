"""``lst reproduce h3_text`` with models that train in a second, and its statistics."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from made_texts import write_stories

from lst.cli import main
from lst.configs.compose import REPRODUCE
from lst.configs.reads import READS
from lst.model.config import ModelConfig
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.reproduce.formats import H3TextFile
from lst.recipes.reproduce.h3_text import check_plan, final_trainings
from lst.recipes.reproduce.text_pairs import TextGroup, pairs_of
from lst.storage import read_json

PLAN = """
prepare: [tokenizer.text_vocab_size=320, data.text.valid_share=0.3, num_workers=1]
common: [model=baseline_tiny, patching=none, model.global_dim=16, model.global_heads=2, model.global_layers=1,
  train.rows=1, train.row_patches=32, train.max_steps=4, train.eval_every=4, train.checkpoint_every=4]
models:
  transformer: []
  s4d: ["model.global_mixers=[s4d]", model.ssm_modes=4]
rates: [1e-3, 5e-2]
sweep_share: 0.5
seeds: [0, 1]
"""


def words(tmp_path: Path, *more: str) -> list[str]:
    (tmp_path / "plan.yaml").write_text(PLAN)
    return ["reproduce", "h3_text", f"h3_text={tmp_path}/plan.yaml", f"out={tmp_path}/out", "jobs=0", *more]


def test_it_goes_on_where_it_stopped_and_its_page_has_all_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_stories(tmp_path / "text", 30)
    all_words = words(tmp_path, f"text={text}")
    assert main([*all_words, "hours=1e-9"]) == 0
    told = capsys.readouterr().out
    assert "not finished: sweep-transformer-0_001, sweep-transformer-0_05, sweep-s4d-0_001" in told
    assert "No order: two models with all their seeds are needed." in told
    assert main(all_words) == 0
    found = read_json(tmp_path / "out" / "h3_text.json", H3TextFile, "the page", "")
    assert found["missing"] == []
    assert [one["model"] for one in found["models"]] == ["transformer", "s4d"]
    assert [one["published"] for one in found["models"]] == [20.6, 24.9]
    for one in found["models"]:
        low, value, high = (one["perplexity"][key] for key in ("low", "value", "high"))
        assert low is not None
        assert high is not None
        assert low < value < high
        assert list(one["by_seed"]) == ["0", "1"]
        assert one["tokens"] == 4 * 32
        best = min((row for row in found["sweep"] if row["model"] == one["model"]), key=lambda row: row["perplexity"])
        assert one["rate"] == best["rate"]
    assert {row["steps"] for row in found["sweep"]} == {2}
    assert [(one["first"], one["second"], one["published_better"]) for one in found["pairs"]] == [
        ("transformer", "s4d", "transformer")
    ]
    page = (tmp_path / "out" / "h3_text.html").read_text()
    assert "State-space models on text" in page
    assert "of 1 pairs are separated" in page
    monkeypatch.setattr("lst.recipes.reproduce.h3_text.train", None)
    for more in ([], ["page_only=true"]):
        assert main([*all_words, *more]) == 0
        assert read_json(tmp_path / "out" / "h3_text.json", H3TextFile, "the page", "") == found


def test_without_a_text_stories_are_written_and_the_plan_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    all_words = words(tmp_path, "h3_text.num_stories=20")
    assert main([*all_words, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "20 stories of this project in" in told
    assert "4 short trainings choose the rates, 4 are compared" in told
    assert not (tmp_path / "out").exists()
    assert main([*all_words, "hours=1e-9"]) == 0
    assert len((tmp_path / "out" / "stories.txt").read_text().splitlines()) == 20


def test_every_mistake_of_a_plan_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text("models: {a: [model=h4], b/c: []}\nprepare: [data.text.document=page]\n")
    assert main(["reproduce", "h3_text", f"h3_text={tmp_path}/plan.yaml", f"out={tmp_path}/out"]) == 2
    told = capsys.readouterr().err
    for part in ("h3_text.models.a: model=h4", "name='b/c'", "h3_text.prepare: data.text.document=page"):
        assert part in told, told
    assert main(["reproduce", "h3_text", "h3_text.seeds=[0,0]"]) == 2
    assert "h3_text.seeds=[0, 0]: each may be there once" in capsys.readouterr().err


@pytest.mark.parametrize("plan", ["full", "books"])
def test_shipped_plans_compose_with_equal_parameters(plan: str, tmp_path: Path) -> None:
    config = REPRODUCE.build([f"h3_text={plan}", f"out={tmp_path}"], READS["reproduce h3_text"])
    check_plan(config)
    assert config.h3_text.seeds == [0, 1, 2]
    config.h3_text.seeds = [0]
    trainings = list(final_trainings(config, dict.fromkeys(config.h3_text.models, 1e-3)))
    assert [one.name for one in trainings] == [f"{name}-seed-0" for name in ("transformer", "h3", "hybrid", "s4d")]
    assert [mixer for one in trainings for mixer in one.config.model.mixers].count("attention") == 6 + 2
    sizes = [num_parameters(one.config.model) for one in trainings]
    assert max(sizes) < 1.01 * min(sizes)
    assert 3e6 < sizes[0] < 5e6


def num_parameters(config: ModelConfig) -> int:
    with torch.device("meta"):
        return LatentSpeechTextModel(config, 2053).num_parameters


def made_groups(rng: np.random.Generator, gap: float) -> dict[str, TextGroup]:
    """Models a and b on 80 texts of unequal length, with noise of texts, seeds and both; b is worse by ``gap``."""
    tokens = rng.integers(100, 500, 80).astype(float)
    texts = rng.normal(0, 0.2, 80)
    return {
        name: TextGroup(
            (3 + more + texts + rng.normal(0, 0.02, (3, 1)) + rng.normal(0, 0.05, (3, 80))) * tokens, tokens
        )
        for name, more in (("a", 0.0), ("b", gap))
    }


def test_intervals_hold_the_truth_and_only_separated_models_are_ordered() -> None:
    rng = np.random.default_rng(0)
    held = ordered = false = 0
    for _ in range(200):
        (pair,) = pairs_of(made_groups(rng, 0.0))
        assert pair["ratio"]["low"] is not None
        assert pair["ratio"]["high"] is not None
        false += bool(pair["better"])
        (pair,) = pairs_of(made_groups(rng, 0.15))
        held += pair["ratio"]["low"] < math.exp(-0.15) < pair["ratio"]["high"]  # type: ignore[operator]
        ordered += pair["better"] == "a"
    assert held >= 180
    assert false <= 20
    assert ordered >= 190


def test_a_perplexity_is_that_of_all_tokens_and_one_seed_gives_no_interval() -> None:
    group = made_groups(np.random.default_rng(1), 0.0)["a"]
    total = group.nats.mean(axis=0).sum() / group.tokens.sum()
    found = group.perplexity()
    assert found["value"] == pytest.approx(math.exp(total))
    assert group.parts.mean() == pytest.approx(total)
    alone = TextGroup(group.nats[:1], group.tokens)
    assert alone.perplexity() == {"value": pytest.approx(alone.by_seed[0]), "low": None, "high": None}
    assert pairs_of({"a": alone, "b": group}) == []
