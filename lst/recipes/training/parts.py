"""The parts of a step's batch: what one device computes at a time, with what it needs to know of the others.

::

    batch of a step   part 0   part 1   part 2   part 3        2 devices, 2 rounds
    device 0          round 0           round 1
    device 1                   round 0           round 1

The loader gives the parts in this order, on any number of devices. The loss is the mean over the targets of the whole
batch, so each part needs their number (``LossTotals``). It is counted on the host before the first round.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from lst.data.batches import LoaderState
from lst.model.batch import IGNORE_ID, SPEECH, PackedBatch
from lst.model.loss_config import LossConfig
from lst.model.lst import LossTotals
from lst.parallel import Ranks
from lst.progress import say


@dataclass(frozen=True)
class Part:
    """A part of a step's batch.

    Attributes:
        packed: its rows.
        state: of this rank's loader after it.
        before: of this rank's loader before the first part of the batch; None at the beginning.
        batch_index: number of the step's batch, from 1; batches that are left out count.
        place: among the parts of the batch, from 0.
        totals: of the whole batch; None where this part is all of it.
        flops: of its forward and backward pass.
    """

    packed: PackedBatch
    state: LoaderState
    before: LoaderState | None
    batch_index: int
    place: int
    totals: LossTotals | None = None
    flops: float = 0.0

    def to(self, device: torch.device) -> Part:
        """The same part on another device."""
        return replace(self, packed=self.packed.to(device), totals=self.totals and self.totals.to(device))


def parts_of_batches(
    batches: Iterable[tuple[PackedBatch, LoaderState]],
    before: LoaderState | None,
    rounds: int,
    ranks: Ranks,
    loss: LossConfig,
    skipped: Collection[int] = (),
) -> Iterator[Part]:
    """The parts of this rank.

    Args:
        batches: of this rank's loader.
        before: the loader's state before them.
        rounds: parts of a step on each rank.
        ranks: that train together.
        loss: weights of the modalities.
        skipped: numbers of batches that are left out, from 1.
    """
    batches, num_parts = iter(batches), rounds * ranks.size
    while own := list(itertools.islice(batches, rounds)):
        batch_index = own[-1][1].batch_index // num_parts
        if batch_index in skipped:
            say(f"batch {batch_index} is left out (train.skip_batches)")
        else:
            totals = None if num_parts == 1 else _totals([packed for packed, _ in own], ranks, loss)
            for number, (packed, state) in enumerate(own):
                yield Part(packed, state, before, batch_index, number * ranks.size + ranks.rank, totals)
        before = own[-1][1]


def _totals(parts: Iterable[PackedBatch], ranks: Ranks, loss: LossConfig) -> LossTotals:
    """Of a whole batch: counts are whole numbers, so they do not depend on how it is divided."""
    counts = [0, 0, 0]
    for packed in parts:
        has_target, to_speech = packed.target_ids != IGNORE_ID, packed.target_modalities == SPEECH
        for place, mask in enumerate((has_target & to_speech, has_target & ~to_speech, packed.modalities == SPEECH)):
            counts[place] += int(mask.sum())
    num_speech, num_text, num_units = ranks.sums(counts)
    weight = num_speech * loss.speech_weight + num_text * loss.text_weight
    return LossTotals(torch.tensor(weight, dtype=torch.float64), torch.tensor(num_units, dtype=torch.float64))
