"""A decay that branches off a longer training with ``train.schedule=wsd``: one training gives several budgets.

::

    long      warm-up ── stable ──┬───────────┬─────── decay
    short                         └─ decay    │
    middle                                    └─ decay

Before the decay, neither batches nor rates depend on the number of steps. So a branch ends with the weights, bit for
bit, of a training that went its way from step 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lst.configs.schema import TrainConfig

# Settings in which a branch may differ. The number of warm-up steps may not.
BRANCH_OPTIONS = (
    "train.max_steps",
    "train.warmup_steps",
    "train.warmup_share",
    "train.decay_share",
    "train.final_rate_share",
)


def branch_problems(step: int, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Why a training cannot branch off a checkpoint, apart from settings that differ; empty if it can.

    Args:
        step: of the checkpoint.
        then: settings that it was trained with, by dotted key.
        now: settings of the branch.
    """
    before, after = _schedule(then), _schedule(now)
    if before.schedule != "wsd":
        return [f"train.schedule={before.schedule} then: only wsd has a stable phase"]
    found = []
    if then["patching.strategy"] == "curriculum":
        found.append("patching=curriculum follows the share of the training that is done, so no phase of it is shared")
    warmup_steps = before.num_warmup_steps
    if after.num_warmup_steps != warmup_steps:
        found.append(
            f"its warm-up had {warmup_steps} steps, this one has {after.num_warmup_steps}: add "
            f"train.warmup_steps={warmup_steps}"
        )
    if step < warmup_steps:
        found.append(f"step {step} lies in the warm-up, which ends at step {warmup_steps}")
    if step > before.first_decay_step:
        found.append(f"step {step} lies in the decay, which began after step {before.first_decay_step}")
    if step > after.first_decay_step:
        found.append(
            f"step {step} lies behind step {after.first_decay_step}, where this training begins to decay: raise "
            "train.max_steps, or lower train.decay_share"
        )
    return found


def _schedule(settings: Mapping[str, Any]) -> TrainConfig:
    """The schedule of some settings; earlier releases recorded less."""
    names = ("max_steps", "warmup_steps", "warmup_share", "schedule", "decay_share")
    return TrainConfig(**{name: settings[key] for name in names if (key := f"train.{name}") in settings})
