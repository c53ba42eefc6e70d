"""Trainings of nine steps on the smoke data, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

STEPS = ["train.max_steps=9", "train.checkpoint_every=3", "train.eval_every=4"]
# Validated and saved at the same steps, and all of it kept.
WHOLE = ["train.eval_every=3", "train.keep_checkpoints=3"]


def overrides(run: Path, *more: str) -> list[str]:
    """The words of a training; later ones win."""
    return ["experiment=smoke", f"run_dir={run}", *STEPS, *more]


def metrics(run: Path, name: str) -> list[dict]:
    """The rows of a training's ``metrics.jsonl``."""
    return [json.loads(line) for line in (run / "models" / name / "metrics.jsonl").read_text().splitlines()]


def has_equal_weights(first: Path, second: Path) -> bool:
    """Whether two trained models have the same weights, bit for bit."""
    a, b = (load_file(folder / "model.safetensors") for folder in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
