"""Options of ``lst synthetic``: the task, the model, the training. Imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lst.configs.schema import name_problems
from lst.model.config import ModelConfig
from lst.options import Options, option


@dataclass(frozen=True)
class Size:
    """What a size of a task may be.

    Attributes:
        least: smallest value.
        multiple_of: the value must be a multiple of this.
        why: what needs the smallest value.
    """

    least: int
    multiple_of: int = 1
    why: str = ""


# Sizes of each task; options that are sizes of other tasks only are left out.
TASK_SIZES = {
    "associative_recall": {
        "length": Size(2, 2, "pairs of key and value"),
        "vocabulary": Size(6, 2, "marker, full stop, two keys or more and as many values"),
    },
    "induction_head": {
        "length": Size(3, 1, "marker, what follows it, and one more"),
        "vocabulary": Size(4, 1, "marker, full stop, two tokens"),
    },
    "listops": {
        "min_length": Size(4, 1, "an operator, two digits and a bracket"),
        "max_length": Size(4, 1, "an operator, two digits and a bracket"),
        "max_depth": Size(2, 1, "an operator and its digits"),
        "max_arguments": Size(2),
    },
}
ALL_SIZES = tuple(dict.fromkeys(name for sizes in TASK_SIZES.values() for name in sizes))
# Distinct sequences are drawn until there are enough: beyond this share of all that exist, that would take long.
GREATEST_SHARE_DRAWN = 0.25


@dataclass
class TaskConfig(Options, prefix="task."):
    """Sizes of a synthetic task."""

    name: str = option("associative_recall", "the task; task= sets it", choices=tuple(TASK_SIZES))
    length: int | None = option(None, "tokens before the question, without ListOps")
    vocabulary: int | None = option(None, "ids of the language, marker and full stop included, without ListOps")
    min_length: int | None = option(None, "ListOps: tokens of the shortest expression")
    max_length: int | None = option(None, "ListOps: tokens of the longest expression")
    max_depth: int | None = option(None, "ListOps: nested levels at most, digits included")
    max_arguments: int | None = option(None, "ListOps: arguments of an operator at most")
    train_sequences: int = option(5000, "sequences to train on, all different", low=1)
    test_sequences: int = option(500, "sequences to test on, none of which is trained on", low=1)
    quick_steps: int = option(6000, "steps that train=quick takes", low=1)
    quick_init_std: float = option(0.05, "deviation of the initial weights that train=quick takes", above=0)
    published_steps: int | None = option(None, "steps that train=published takes; null where none is published", low=1)

    def rules(self) -> list[str]:
        """The sizes are those of the task, and enough different sequences exist."""
        if self.name not in TASK_SIZES:
            return []
        found = [problem for name in ALL_SIZES if (problem := self._size_problem(name))]
        if self.min_length is None or self.max_length is None:
            return found or self._count_problems()
        if self.min_length > self.max_length:
            found.append(
                f"task.min_length={self.min_length}, max_length={self.max_length}: must satisfy min_length ≤ max_length"
            )
        return found

    def _size_problem(self, name: str) -> str:
        value, size = getattr(self, name), TASK_SIZES[self.name].get(name)
        if size is None:
            return "" if value is None else f"task.{name}={value}: task={self.name} has no such size; leave it out"
        if value is None:
            return f"task.{name}=null: task={self.name} needs a number"
        if value >= size.least and value % size.multiple_of == 0:
            return ""
        kind = "an even number of " if size.multiple_of == 2 else ""
        return f"task.{name}={value}: must be {kind}{size.least} or more{size.why and ': '}{size.why}"

    def _count_problems(self) -> list[str]:
        wanted, possible = self.train_sequences + self.test_sequences, self.num_possible_sequences()
        if wanted <= GREATEST_SHARE_DRAWN * possible:
            return []
        return [
            f"task.train_sequences={self.train_sequences}, test_sequences={self.test_sequences}: of {possible:,} "
            f"different sequences of this length and vocabulary at most {GREATEST_SHARE_DRAWN:.0%} can be drawn; lower "
            "the counts or raise task.length or task.vocabulary"
        ]

    def num_possible_sequences(self) -> int:
        """How many different sequences a synthetic language of this length and vocabulary has."""
        assert self.length is not None
        assert self.vocabulary is not None
        ordinary = self.vocabulary - 2
        if self.name == "induction_head":
            return (self.length - 2) * ordinary ** (self.length - 1)
        num_keys, num_pairs = ordinary // 2, self.length // 2
        # k different keys over the pairs in any order, a value for each, and one of them asked for.
        return sum(
            math.comb(num_keys, k) * _num_surjections(num_pairs, k) * num_keys**k * k
            for k in range(1, min(num_keys, num_pairs) + 1)
        )

    @property
    def num_tokens(self) -> int:
        """Tokens that the model reads of a sequence: all but the answer."""
        if self.name == "listops":
            return (self.max_length or 0) + 1
        return (self.length or 0) + (1 if self.name == "induction_head" else 2)

    @property
    def chance(self) -> float:
        """Accuracy of a guess among the possible answers."""
        if self.name == "listops":
            return 0.1
        ordinary = (self.vocabulary or 3) - 2
        return 1 / ordinary if self.name == "induction_head" else 2 / ordinary


def _num_surjections(num_items: int, num_kinds: int) -> int:
    """Ways to give each of some items a kind, so that every kind occurs."""
    return sum((-1) ** j * math.comb(num_kinds, j) * (num_kinds - j) ** num_items for j in range(num_kinds + 1))


@dataclass
class SyntheticTrainConfig(Options, prefix="train."):
    """Options of training on a synthetic task."""

    batch_sequences: int = option(32, "sequences of a batch", low=1)
    max_steps: int | None = option(
        None, "optimiser steps; with decay_share=0, more of them go on where it ended", low=1
    )
    learning_rate: float = option(2e-3, "learning rate after warm-up", above=0)
    warmup_steps: int = option(100, "steps of linear warm-up; the rate is constant after it", low=0)
    decay_share: float = option(
        0.0, "share of the steps, the last ones, over which the rate falls to zero", low=0, high=1
    )
    weight_decay: float = option(0.1, "AdamW's weight decay", low=0)
    beta1: float = option(0.9, "AdamW's first decay", low=0, below=1)
    beta2: float = option(0.999, "AdamW's second decay", low=0, below=1)
    eval_every: int = option(200, "steps between accuracies on the test sequences", low=1)
    stop_at: float | None = option(
        None, "test accuracy that ends the training early, such as 0.999; null trains to the last step", above=0, high=1
    )
    checkpoint_every: int = option(500, "steps between checkpoints", low=1)

    def rules(self) -> list[str]:
        """The number of steps is known."""
        if self.max_steps is not None:
            return []
        return ["train.max_steps=null: give a number (no setting of this task is published: use train=quick)"]


@dataclass
class SyntheticConfig(Options):
    """All options of ``lst synthetic``."""

    run_dir: str = option("runs/synthetic", "folder of all tasks, models and seeds", path="folder")
    name: str = option("attention", "name of the model within the run; model= sets it")
    seeds: list[int] = option([0, 1, 2], "trained one after the other; of sequences, weights, order and dropout")
    convolution: str = option(
        "fast", "how state-space models convolve; plain is one FFT, for comparison", choices=("fast", "plain")
    )
    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: SyntheticTrainConfig = field(default_factory=SyntheticTrainConfig)

    @property
    def label(self) -> str:
        """The name that the run's folders and the report give this model."""
        return f"{self.name}-plain" if self.convolution == "plain" else self.name

    @property
    def has_convolutions(self) -> bool:
        """Whether the model has a state-space layer, which can be computed as a convolution."""
        return any(mixer not in ("attention", "window_attention") for mixer in self.model.global_mixers)

    def rules(self) -> list[str]:
        """Seeds differ, and the model suits sequences without patches."""
        found = name_problems(self.name)
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            found.append(
                f"seeds={list(self.seeds)}: give one or more different numbers of 0 or more, as in seeds=[0,1]"
            )
        if self.convolution == "plain" and not self.has_convolutions:
            found.append(
                "convolution=plain: this model has no convolution; choose model=h3 or model=s4d, or leave it out"
            )
        if self.model.family:
            found.append("model.family=true: sizes by depth are of lst train; set model.global_dim and global_layers")
        if self.model.init_from is not None:
            found.append(f"model.init_from={self.model.init_from}: synthetic languages have no text; leave it out")
        if self.model.has_local_modules:
            found.append(
                f"model.encoder_layers={self.model.encoder_layers}, decoder_layers={self.model.decoder_layers}: both "
                "must be 0: these sequences have no patches"
            )
        return found
