"""What the plan of a training says that a device sends is what two ranks send."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import overrides
from torch.utils._python_dispatch import TorchDispatchMode
from two_ranks import TwoRanks

from lst.configs.compose import build_config
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.training.cluster_plan import cluster_of
from lst.recipes.training.language_model import LanguageModelModule
from lst.recipes.training.train import train
from lst.runs import open_data, plain_patching

NUM_RANKS = 2
# Rows that fill the last shard, which parameters are used, norms.
TOLERANCE = 0.005


def num_bytes(tensors: Any) -> int:
    """Of a tensor, or of lists of them."""
    return tensors.nbytes if isinstance(tensors, torch.Tensor) else sum(map(num_bytes, tensors))


# What a ring of many ranks sends of the arguments of c10d's operators; one of W ranks sends (W − 1)/W of it.
SENT = {
    "allreduce_": lambda arguments: 2 * num_bytes(arguments[0]),
    "_allgather_base_": lambda arguments: num_bytes(arguments[0]),
    "_reduce_scatter_base_": lambda arguments: num_bytes(arguments[1]),
}


class SentBytes(TorchDispatchMode):
    """Counts what the collectives of step 2 send."""

    def __init__(self) -> None:
        super().__init__()
        self.is_counting = False
        self.sent: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        if self.is_counting and function.namespace == "c10d":
            name = function._schema.name.partition("::")[2]
            sent = SENT[name](arguments) if name in SENT else 0
            self.sent[name] += sent * (NUM_RANKS - 1) / NUM_RANKS
        return function(*arguments, **(named or {}))


def counted_training(words: list[str]) -> dict[str, float]:
    """In each rank: bytes of step 2, by the name of the collective; 0 for those that send no weights."""
    mode = SentBytes()
    training_step, step_row = LanguageModelModule.training_step, LanguageModelModule.step_row

    def beginning(self: LanguageModelModule, *arguments: Any) -> Any:
        mode.is_counting = self.global_step == 1
        return training_step(self, *arguments)

    def ending(self: LanguageModelModule, step: int, loss: float) -> Any:
        mode.is_counting = False
        return step_row(self, step, loss)

    LanguageModelModule.training_step, LanguageModelModule.step_row = beginning, ending
    with mode:
        train(build_config(words))
    return dict(mode.sent)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_send_what_is_planned(run: Path, two_ranks: TwoRanks, strategy: str) -> None:
    words = overrides(
        run,
        *("name=m", "train.devices=2", f"train.strategy={strategy}", "train.rows=1", "train.batch_patches=384"),
        *("train.max_steps=2", "train.warmup_steps=1", "train.keep_checkpoints=1"),
    )
    counted = two_ranks.call(counted_training, words)
    config = build_config(words)
    vocab_size = plain_patching(config.patching, open_data(config)).vocabulary.size
    with torch.device("meta"):
        model = LatentSpeechTextModel(config.model, vocab_size)
    planned = cluster_of(config, model, step_flops=1.0, step_tokens=1.0, peak=1.0).sent
    assert planned.between_nodes == 0
    for sent in counted:
        # Beside these, a step sends norms and numbers of targets.
        assert sent.keys() - SENT.keys() <= {"broadcast_"}
        assert sum(sent.values()) == pytest.approx(planned.in_node, rel=TOLERANCE)
