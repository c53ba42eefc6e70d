"""Simulated stories and a grid so small that every model trains in a second."""

from __future__ import annotations

from pathlib import Path

import pytest

GRID = """
words: [experiment=smoke, model.ffn_multiple_of=16, data.mix.interleaved=0, data.mix.paired=0, eval.max_items=2,
  eval.bootstrap_samples=100, data.mix.fresh_speech=true, data.mix.fresh_stories=true, train.row_patches=256,
  train.warmup_steps=0, train.eval_every=99]
sizes:
  a: [model.global_dim=16]
  b: [model.global_dim=32]
arms:
  baseline: [model=baseline_debug, patching=none]
budgets: [1, 2, 4]
control: flops
"""
PREPARE = (
    "corpus=simulated",
    "data.stories=mini",
    "data.num_spoken_stories=12",
    "data.num_text_stories=4",
    "data.num_questions=0",
    "data.valid_share=0.25",
    "tokenizer.text_vocab_size=300",
    "card.after_prepare=false",
    "num_workers=1",
)
AGAIN = "[data.mix.fresh_speech=false,data.mix.fresh_stories=false,model=baseline_debug,patching=none]"


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "grid.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture(scope="module")
def law_plan(tmp_path_factory: pytest.TempPathFactory, grid: Path) -> Path:
    """The plan of a law, as a user's own file."""
    path = tmp_path_factory.mktemp("plan") / "tiny.yaml"
    lines = ["prepare:", *(f"  - {word}" for word in PREPARE)]
    lines += ["grids:", f"  law: [scale={grid}]", "repeated:"]
    lines += [
        f'  again: [scale={grid}, "scale.sizes.a=[model.global_dim=16]", "scale.budgets=[4]"',
        f', "scale.arms.baseline={AGAIN}"]',
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
