"""The learning rate of each step, as a share of the peak.

All schedules begin with a linear warm-up. After it, with progress p from 0 to 1 at the last step and the final share f:

============  ===========================================================================
cosine        f + (1 − f)(1 + cos πp) / 2
linear        1 − (1 − f) p
constant      1
wsd           1, then from ``decay_share`` of the steps before the end linearly to f
============  ===========================================================================

``wsd`` (warm-up, stable, decay) and ``constant`` do not depend on the length of the training before the decay.
"""

from __future__ import annotations

import math

from lst.configs.schema import TrainConfig


def learning_rate_share(step: int, config: TrainConfig) -> float:
    """Share of the peak rate at a step, counted from 0."""
    warmup, final = config.num_warmup_steps, config.final_rate_share
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    start = config.first_decay_step if config.schedule == "wsd" else warmup
    progress = min(max((step - start) / max(config.max_steps - start, 1), 0.0), 1.0)
    fallen = 0.5 * (1 - math.cos(math.pi * progress)) if config.schedule == "cosine" else progress
    return 1 - (1 - final) * fallen
