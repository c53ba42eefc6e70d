"""Small models with recurrent mixers, of every kind and in every place."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from repository import ROOT

from lst.model.config import ModelConfig, PatchingConfig

VOCAB_SIZE = 60
STATIC, NONE = PatchingConfig("static", static_size=4), PatchingConfig("none")
SMALL = ModelConfig(
    global_dim=24,
    global_layers=3,
    global_heads=2,
    local_dim=16,
    local_heads=2,
    encoder_layers=1,
    decoder_layers=2,
    sub_queries=2,
    window_tokens=11,
    ffn_multiple_of=8,
    global_mixers=["h3"],
    ssm_modes=6,
    shift_taps=5,
)
PLAIN = dataclasses.replace(SMALL, encoder_layers=0, decoder_layers=0)
CONFIGS = {
    "h3": SMALL,
    "h3, heads of 8": dataclasses.replace(SMALL, h3_head_dim=8),
    "h3, zero-order hold": dataclasses.replace(SMALL, ssm_discretisation="zoh", shift_taps=1),
    "s4d": dataclasses.replace(SMALL, global_mixers=["s4d"]),
    "the example of docs/extend": dataclasses.replace(SMALL, global_mixers=["ema"]),
    "window": dataclasses.replace(SMALL, global_mixers=["window_attention"], global_window_patches=3),
    "all in one": dataclasses.replace(
        SMALL, global_mixers=["h3", "window_attention", "s4d"], positions="learned", global_window_patches=4
    ),
    "plain h3": dataclasses.replace(PLAIN, positions="none", norm="layer", ffn="gelu", tied_head=True),
    "plain hybrid": dataclasses.replace(
        PLAIN, global_mixers=["h3_hybrid"], global_layers=4, h3_head_dim=8, positions="none", norm="layer", ffn="gelu"
    ),
}


def patching_of(config: ModelConfig) -> PatchingConfig:
    return STATIC if config.has_local_modules else NONE


@cache
def documented_mixer() -> type[Any]:
    """The class that docs/extend/mixer.md shows."""
    page = (ROOT / "docs" / "extend" / "mixer.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {"__name__": "lst.model.moving_average"}
    exec(compile(code, "docs/extend/mixer.md", "exec"), names)
    found: type[Any] = names["MovingAverage"]
    return found
