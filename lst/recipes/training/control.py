"""What trainings that are compared have in common: steps × patches, tokens or operations.

::

    reference training ──spent──▶ Spent ──controlled──▶ another training with the steps that spend as much

Batches follow from the configuration and the data alone. So a training's batches are made and counted before it starts,
and the count is that of what it will use. A curriculum spreads over the steps, so its count is repeated until the
number of steps stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.model.flops import model_flops, workload_of_batch
from lst.recipes.training.batches import build_loader
from lst.runs import FittedPatching

# A curriculum's number of steps settles after two or three counts.
MAX_COUNTS = 6
# More than any training that is compared by its cost.
MAX_STEPS_FACTOR = 1000


@dataclass(frozen=True)
class Spent:
    """What a training uses.

    Attributes:
        steps: of the optimiser.
        patches: real ones in all batches; tokens, for the baseline.
        tokens: real ones.
        flops: operations of forward and backward passes, with local modules and head.
        units: of speech.
        text_bytes: UTF-8 bytes of the tokens of text.
    """

    steps: int = 0
    patches: int = 0
    tokens: int = 0
    flops: float = 0.0
    units: int = 0
    text_bytes: int = 0

    def of(self, control: str) -> float:
        """What ``control`` holds equal."""
        return {"compute": self.patches, "data": self.tokens, "flops": self.flops}[control]


def with_steps(config: Config, steps: int) -> Config:
    """The training, of so many steps."""
    return replace(config, train=replace(config.train, max_steps=steps))


def spent(config: Config, data: PreparedData, patching: FittedPatching) -> Spent:
    """What a training will use, counted from its batches."""
    return next(itertools.islice(_running(config, data, patching), config.train.max_steps - 1, None))


def controlled(config: Config, data: PreparedData, patching: FittedPatching, reference: Spent, control: str) -> Spent:
    """What a training uses with the number of steps that spends what the reference spends, to the nearest step.

    Args:
        config: the training; its own ``train.max_steps`` does not matter.
        data: prepared.
        patching: of the training, with what is fitted for it.
        reference: what the other training uses.
        control: ``compute`` (steps × patches), ``data`` (tokens), ``flops``, or ``steps`` for the reference's own.
    """
    if control == "steps":
        return spent(with_steps(config, reference.steps), data, patching)
    wanted = reference.of(control)
    nearest = Spent(steps=reference.steps)
    for _ in range(MAX_COUNTS):
        steps = nearest.steps
        nearest = _nearest(
            _running(with_steps(config, steps), data, patching), wanted, control, MAX_STEPS_FACTOR * reference.steps
        )
        if nearest.steps == steps or config.patching.strategy != "curriculum":
            break
    return nearest


def _running(config: Config, data: PreparedData, patching: FittedPatching) -> Iterator[Spent]:
    """What is used up to each step, without end: a step takes as many batches of the loader as it has parts."""
    vocabulary = patching.vocabulary
    piece_bytes = torch.zeros(vocabulary.size, dtype=torch.int64)
    piece_bytes[: vocabulary.num_text] = torch.tensor(data.tokenizer.piece_bytes)
    units = torch.zeros(vocabulary.size, dtype=torch.int64)
    units[vocabulary.first_unit_id :] = 1
    if patching.speech_bpe is not None:
        units[vocabulary.first_unit_id :] = torch.from_numpy(patching.speech_bpe.piece_lengths)
    total = Spent()
    with build_loader(config, data, "count", patching=patching) as loader:
        for batch, state in loader:
            flops = model_flops(config.model, vocabulary.size, workload_of_batch(batch, config.model)).training
            total = Spent(
                state.batch_index // config.train.num_parts,
                total.patches + batch.num_patches,
                total.tokens + batch.num_tokens,
                total.flops + flops,
                total.units + int(units[batch.token_ids.long()].sum()),
                total.text_bytes + int(piece_bytes[batch.token_ids.long()].sum()),
            )
            if state.batch_index % config.train.num_parts == 0:
                yield total


def _nearest(running: Iterator[Spent], wanted: float, control: str, max_steps: int) -> Spent:
    before = Spent()
    for now in itertools.islice(running, max_steps):
        if now.of(control) >= wanted:
            is_nearer = before.steps > 0 and wanted - before.of(control) < now.of(control) - wanted
            return before if is_nearer else now
        before = now
    return before


def accounting(spent_by: Mapping[str, Spent], control: str) -> list[str]:
    """A table of what each training will use; what ``control`` holds equal is marked."""
    columns: dict[str, tuple[str, Callable[[Spent], str]]] = {
        "steps": ("steps", lambda one: f"{one.steps:,}"),
        "compute": ("patches", lambda one: f"{one.patches:,}"),
        "data": ("tokens", lambda one: f"{one.tokens:,}"),
        "flops": ("FLOPs", lambda one: f"{one.flops:.3g}"),
    }
    width = max(map(len, ["model", *spent_by]))
    heads = [f"{head}{'*' if key == control else ''}" for key, (head, _) in columns.items()]
    lines = [f"{'model':<{width}}" + "".join(f"{head:>14}" for head in heads)]
    for name, one in spent_by.items():
        lines.append(f"{name:<{width}}" + "".join(f"{text(one):>14}" for _, text in columns.values()))
    return [*lines, f"* held equal, to the nearest step (control={control})"]
