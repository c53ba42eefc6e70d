"""``model=family``: the shape of a model and its training by one dial, ``model.depth``.

::

    model.depth ─▶ width ─▶ heads, local modules, windows
                └▶ batch ─▶ rate, β₂

The rules meet small models that were trained here (depth 3) and the published settings of large ones (depth 25 to 32).
A rule reads what comes before it. So a value that is given replaces its rule, and what depends on it follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

HEAD_DIM = 64
# Up to here, cross-attention reads the last complete patch alone: a small model does not find it among many.
LAST_DEPTH_OF_ONE_PATCH = 8
# Tokens or patches of a step: those that the base rate was found with, and those of the published training.
BASE_BATCH, PUBLISHED_BATCH = 512, 1 << 19
MOST_ROW_PATCHES, MOST_WINDOW = 4096, 512
BASE_RATE, PUBLISHED_BETA2 = 1e-3, 0.95

Numbers = Mapping[str, float]
# An option by its key: the rule in words, and the value for a depth and the values before it.
RULES: dict[str, tuple[str, Callable[[int, Numbers], int | float]]] = {
    "model.global_layers": ("the depth", lambda depth, _: depth),
    "model.global_dim": (
        "depth · (32 + 3 · depth), to the nearest multiple of 64",
        lambda depth, _: HEAD_DIM * round(depth * (32 + 3 * depth) / HEAD_DIM),
    ),
    "model.global_heads": ("width / 64", lambda _, values: _num_heads(values["model.global_dim"])),
    "model.encoder_layers": (
        "1; 0 with patching=none or speech_bpe",
        lambda _, values: int(values["is_patched"]),
    ),
    "model.decoder_layers": (
        "a third of the depth, rounded up; 0 without encoder",
        lambda depth, values: math.ceil(depth / 3) if values["model.encoder_layers"] else 0,
    ),
    "model.local_dim": (
        "half the width, rounded up to a multiple of 64",
        lambda _, values: HEAD_DIM * max(1, math.ceil(values["model.global_dim"] / 2 / HEAD_DIM)),
    ),
    "model.local_heads": ("local width / 64", lambda _, values: _num_heads(values["model.local_dim"])),
    "model.window_tokens": (
        "16 · depth, rounded up to a power of two, at most 512",
        lambda depth, _: min(MOST_WINDOW, 1 << math.ceil(math.log2(16 * depth))),
    ),
    "model.encoder_window_patches": (
        "1 up to depth 8, then as many as window_tokens",
        lambda depth, values: _window_patches(depth, values),
    ),
    "model.decoder_window_patches": (
        "1 up to depth 8, then as many as window_tokens",
        lambda depth, values: _window_patches(depth, values),
    ),
    "train.row_patches": (
        "the batch, at most 4,096; a batch is 16 · depth³ patches, to the nearest power of two, at least 512",
        lambda depth, _: min(_batch(depth), MOST_ROW_PATCHES),
    ),
    "train.rows": (
        "batch / row_patches",
        lambda depth, values: max(1, round(_batch(depth) / max(1, values["train.row_patches"]))),
    ),
    "train.learning_rate": (
        "0.001 · (batch / 512)^(1/6); init=mup scales it by 256 / inputs for each matrix",
        lambda _, values: float(f"{BASE_RATE * (_given_batch(values) / BASE_BATCH) ** (1 / 6):.3g}"),
    ),
    "train.beta2": (
        "1 − 0.05 · (batch / 524,288)^(1/4), at least 0.95",
        lambda _, values: round(
            1 - (1 - PUBLISHED_BETA2) * min(1.0, _given_batch(values) / PUBLISHED_BATCH) ** (1 / 4), 4
        ),
    ),
}


def family_values(depth: int, is_patched: bool, given: Numbers) -> dict[str, int | float]:
    """The options that follow from a depth, by their keys.

    Args:
        depth: within ``FAMILY_DEPTHS``.
        is_patched: whether the patching needs local modules.
        given: options of ``RULES`` that have values already; they are not in the result.
    """
    values: dict[str, float] = {**given, "is_patched": is_patched}
    found: dict[str, int | float] = {}
    for key, (_, rule) in RULES.items():
        if key not in given:
            found[key] = values[key] = rule(depth, values)
    return found


def _num_heads(dim: float) -> int:
    return max(1, round(dim / HEAD_DIM))


def _window_patches(depth: int, values: Numbers) -> int:
    return 1 if depth <= LAST_DEPTH_OF_ONE_PATCH else int(values["model.window_tokens"])


def _batch(depth: int) -> int:
    return max(BASE_BATCH, 1 << round(math.log2(16 * depth**3)))


def _given_batch(values: Numbers) -> float:
    return max(1.0, values["train.rows"] * values["train.row_patches"])
