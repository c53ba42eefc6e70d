"""Options of ``lst synthetic``: the task, the model, the training. Imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lst.model.config import ModelConfig

NAME_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
CONVOLUTIONS = ("fast", "plain")
# Which options give the size of which task; the others have none of them.
LANGUAGE_SIZES = ("length", "vocabulary")
LISTOPS_SIZES = ("min_length", "max_length", "max_depth", "max_arguments")
TASK_SIZES = {
    "associative_recall": LANGUAGE_SIZES,
    "induction_head": LANGUAGE_SIZES,
    "listops": LISTOPS_SIZES,
}
# Distinct sequences are drawn until there are enough: beyond this share of all that exist, that would take long.
GREATEST_SHARE_DRAWN = 0.25


@dataclass
class TaskConfig:
    name: str = field(default="associative_recall", metadata={"doc": f"one of {', '.join(TASK_SIZES)}"})
    length: int | None = field(default=None, metadata={"doc": "tokens before the question, without ListOps"})
    vocabulary: int | None = field(
        default=None, metadata={"doc": "ids of the language, marker and full stop included, without ListOps"}
    )
    min_length: int | None = field(default=None, metadata={"doc": "ListOps: tokens of the shortest expression"})
    max_length: int | None = field(default=None, metadata={"doc": "ListOps: tokens of the longest expression"})
    max_depth: int | None = field(default=None, metadata={"doc": "ListOps: nested levels at most, digits included"})
    max_arguments: int | None = field(default=None, metadata={"doc": "ListOps: arguments of an operator at most"})
    train_sequences: int = field(default=5000, metadata={"doc": "sequences to train on, all different"})
    test_sequences: int = field(default=500, metadata={"doc": "sequences to test on, none of which is trained on"})
    quick_steps: int = field(default=6000, metadata={"doc": "steps that train=quick takes"})
    quick_init_std: float = field(
        default=0.05, metadata={"doc": "deviation of the initial weights that train=quick takes"}
    )
    published_steps: int | None = field(
        default=None, metadata={"doc": "steps that train=published takes; null where none is published"}
    )

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        if self.name not in TASK_SIZES:
            return [f"task.name={self.name}: allowed are {', '.join(TASK_SIZES)}"]
        found = []
        for size in dict.fromkeys(size for sizes in TASK_SIZES.values() for size in sizes):
            value = getattr(self, size)
            if size in TASK_SIZES[self.name] and value is None:
                found.append(f"task.{size}=null: task={self.name} needs a number")
            elif size not in TASK_SIZES[self.name] and value is not None:
                found.append(f"task.{size}={value}: task={self.name} has no such size; leave it out")
        for size in ("train_sequences", "test_sequences", "quick_steps"):
            if getattr(self, size) < 1:
                found.append(f"task.{size}={getattr(self, size)}: must be 1 or more")
        if any(getattr(self, size) is None for size in TASK_SIZES[self.name]):
            return found
        of_task = self._listops_problems() if self.name == "listops" else self._language_problems()
        return found + (of_task or (self._count_problems() if not found else []))

    def _language_problems(self) -> list[str]:
        assert self.length is not None
        assert self.vocabulary is not None
        found = []
        if self.name == "induction_head":
            if self.length < 3:
                found.append(f"task.length={self.length}: must be 3 or more: marker, what follows it, and one more")
            if self.vocabulary < 4:
                found.append(f"task.vocabulary={self.vocabulary}: must be 4 or more: marker, full stop, two tokens")
            return found
        if self.length < 2 or self.length % 2:
            found.append(f"task.length={self.length}: must be an even number of 2 or more: pairs of key and value")
        if self.vocabulary < 6 or self.vocabulary % 2:
            found.append(
                f"task.vocabulary={self.vocabulary}: must be an even number of 6 or more: marker, full stop, two keys "
                "or more and as many values"
            )
        return found

    def _count_problems(self) -> list[str]:
        if self.name == "listops":
            return []
        wanted, possible = self.train_sequences + self.test_sequences, self.num_possible_sequences()
        if wanted <= GREATEST_SHARE_DRAWN * possible:
            return []
        return [
            f"task.train_sequences={self.train_sequences}, test_sequences={self.test_sequences}: of {possible:,} "
            f"different sequences of this length and vocabulary at most {GREATEST_SHARE_DRAWN:.0%} can be drawn; lower "
            "the counts or raise task.length or task.vocabulary"
        ]

    def _listops_problems(self) -> list[str]:
        assert self.min_length is not None
        assert self.max_length is not None
        assert self.max_depth is not None
        assert self.max_arguments is not None
        found = []
        if not 4 <= self.min_length <= self.max_length:
            found.append(
                f"task.min_length={self.min_length}, max_length={self.max_length}: must satisfy "
                "4 ≤ min_length ≤ max_length (an operator, two digits and a bracket are the shortest)"
            )
        if self.max_depth < 2:
            found.append(f"task.max_depth={self.max_depth}: must be 2 or more: an operator and its digits")
        if self.max_arguments < 2:
            found.append(f"task.max_arguments={self.max_arguments}: must be 2 or more")
        return found

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
class SyntheticTrainConfig:
    batch_sequences: int = field(default=32, metadata={"doc": "sequences of a batch"})
    max_steps: int | None = field(
        default=None, metadata={"doc": "optimiser steps; with decay_share=0, more of them go on where it ended"}
    )
    learning_rate: float = field(default=2e-3, metadata={"doc": "learning rate after warm-up"})
    warmup_steps: int = field(default=100, metadata={"doc": "steps of linear warm-up; the rate is constant after it"})
    decay_share: float = field(
        default=0.0, metadata={"doc": "share of the steps, the last ones, over which the rate falls to zero"}
    )
    weight_decay: float = field(default=0.1, metadata={"doc": "AdamW's weight decay"})
    beta1: float = field(default=0.9, metadata={"doc": "AdamW's first decay"})
    beta2: float = field(default=0.999, metadata={"doc": "AdamW's second decay"})
    eval_every: int = field(default=200, metadata={"doc": "steps between accuracies on the test sequences"})
    stop_at: float | None = field(
        default=None,
        metadata={"doc": "test accuracy that ends the training early, such as 0.999; null trains to the last step"},
    )
    checkpoint_every: int = field(default=500, metadata={"doc": "steps between checkpoints"})

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        found = []
        for name in ("batch_sequences", "eval_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                found.append(f"train.{name}={getattr(self, name)}: must be 1 or more")
        if self.max_steps is None:
            found.append("train.max_steps=null: give a number (no setting of this task is published: use train=quick)")
        elif self.max_steps < 1:
            found.append(f"train.max_steps={self.max_steps}: must be 1 or more")
        if not 0 < self.learning_rate < math.inf:
            found.append(f"train.learning_rate={self.learning_rate}: must be a number above 0")
        if self.warmup_steps < 0 or self.weight_decay < 0:
            found.append(
                f"train.warmup_steps={self.warmup_steps}, weight_decay={self.weight_decay}: both must be 0 or more"
            )
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            found.append(f"train.beta1={self.beta1}, beta2={self.beta2}: must be at least 0 and below 1")
        if not 0 <= self.decay_share <= 1:
            found.append(f"train.decay_share={self.decay_share}: must lie between 0 and 1")
        if self.stop_at is not None and not 0 < self.stop_at <= 1:
            found.append(f"train.stop_at={self.stop_at}: must be null, or above 0 and at most 1")
        return found


@dataclass
class SyntheticConfig:
    run_dir: str = field(default="runs/synthetic", metadata={"doc": "folder of all tasks, models and seeds"})
    name: str = field(default="attention", metadata={"doc": "name of the model within the run; model= sets it"})
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2],
        metadata={"doc": "trained one after the other; of sequences, weights, order and dropout"},
    )
    convolution: str = field(
        default="fast", metadata={"doc": "how state-space models convolve: fast, or plain (one FFT, for comparison)"}
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
        return any(mixer not in ("attention", "window_attention") for mixer in self.model.global_mixers)

    def problems(self) -> list[str]:
        """Everything that is wrong with these values, a line each."""
        found = []
        if not self.run_dir:
            found.append("run_dir= is empty: give a path, or leave the option out")
        if not self.name or set(self.name) - NAME_SIGNS:
            found.append(f"name={self.name!r}: allowed are letters, digits, _ and -")
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            found.append(
                f"seeds={list(self.seeds)}: give one or more different numbers of 0 or more, as in seeds=[0,1]"
            )
        if self.convolution not in CONVOLUTIONS:
            found.append(f"convolution={self.convolution}: allowed are {', '.join(CONVOLUTIONS)}")
        elif self.convolution == "plain" and not self.has_convolutions:
            found.append(
                "convolution=plain: this model has no convolution; choose model=h3 or model=s4d, or leave it out"
            )
        if self.model.has_local_modules:
            found.append(
                f"model.encoder_layers={self.model.encoder_layers}, decoder_layers={self.model.decoder_layers}: both "
                "must be 0: these sequences have no patches"
            )
        return found + self.task.problems() + self.model.problems() + self.train.problems()
