"""How many items are longer than the contexts of a run's models, estimated before anything is spoken."""

from __future__ import annotations

from lst.errors import LstError
from lst.evaluation.benchmark.plan import S_A_LETTER, BuildPlan
from lst.model.checkpoint import CONFIG_FILE
from lst.model.pretrained import read_model_config
from lst.runs import RunFolder

# Models that take a step a unit; all others cut speech into patches of about the static size.
_UNPATCHED = ("none", "speech_bpe")


def too_long(plan: BuildPlan, run: RunFolder, unit_rate_hz: float) -> list[str]:
    """A line for each trained model whose context some items exceed; ``lst eval`` leaves these out and lists them.

    Args:
        plan: whose texts are spoken; recordings are not estimated.
        run: whose models are asked.
        unit_rate_hz: speech units a second.
    """
    letters = {said.id: len(said.spoken) for said in plan.said}
    longest = [
        letters.get(f"{item.id}-context", 0)
        + max(letters[f"{item.id}-{number}"] for number in range(len(item.endings)))
        for item in plan.items
    ]
    lines = []
    for name in [] if plan.is_recorded else run.trained_models():
        try:
            found = read_model_config(run.final(name) / CONFIG_FILE)
        except LstError as error:
            lines.append(f"  the context of {name} is not known: {' '.join(str(error).split())}")
            continue
        size = 1 if found.patching.strategy in _UNPATCHED else found.patching.static_patch_size
        limit = found.model.max_patches * size / (S_A_LETTER * unit_rate_hz)
        if count := sum(own > limit for own in longest):
            lines.append(
                f"  about {count:,} of {len(longest):,} items are longer than the context of {name}, "
                f"{found.model.max_patches:,} patches: lst eval will leave them out, each with its reason"
            )
    return lines
