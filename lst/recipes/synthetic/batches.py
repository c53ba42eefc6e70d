"""Packed batches of a synthetic task, for training and for its test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch

from lst.model.batch import TEXT, Document, PackedBatch, pack_documents
from lst.model.patching import unpatched
from lst.recipes.synthetic.tasks import Split, TaskData

# A draw of its own, so that the order is not correlated with other draws of the seed.
_ORDER_STREAM = 0x0DE
# Upper bound of tokens in a test batch. Tests keep no activations: more would only cost memory.
TEST_TOKENS = 16_384


class Batches:
    """Makes packed batches of sequences of one length. They differ in their ids only, so the rest is made once.

    Args:
        num_tokens: of every sequence.
        vocab_size: upper bound of the ids, exclusive.
    """

    def __init__(self, num_tokens: int, vocab_size: int) -> None:
        self.num_tokens, self.vocab_size = num_tokens, vocab_size
        self._templates: dict[int, PackedBatch] = {}

    def of(self, split: Split, rows: np.ndarray) -> PackedBatch:
        """The sequences of these rows [S], one a row of the batch."""
        if len(rows) not in self._templates:
            self._templates[len(rows)] = self._template(len(rows))
        return replace(
            self._templates[len(rows)],
            token_ids=torch.from_numpy(split.token_ids[rows].reshape(-1)),
            target_ids=torch.from_numpy(split.target_ids[rows].reshape(-1)),
        )

    def _template(self, num_sequences: int) -> PackedBatch:
        document = Document(
            "", np.zeros(self.num_tokens, np.int64), np.full(self.num_tokens, TEXT, np.uint8), final_target_id=0
        )
        packed = pack_documents([[(document, unpatched(self.num_tokens))]] * num_sequences, self.num_tokens)
        return replace(packed, max_id=self.vocab_size - 1)


@dataclass(frozen=True)
class ScoredBatch:
    """Test sequences and their answers.

    Attributes:
        packed: the sequences.
        positions: int64 [S], the token of the packed batch at which each answer is predicted.
        answers: int64 [S].
    """

    packed: PackedBatch
    positions: torch.Tensor
    answers: torch.Tensor

    def to(self, device: torch.device) -> ScoredBatch:
        """The same on another device."""
        return ScoredBatch(self.packed.to(device), self.positions.to(device), self.answers.to(device))


def training_batches(data: TaskData, batch_sequences: int, seed: int, first_step: int) -> Iterator[PackedBatch]:
    """Batches of the training split, without end, from a step on."""
    batches = Batches(data.num_tokens, data.vocab_size)
    for step in count(first_step):
        yield batches.of(data.train, rows_of_step(step, batch_sequences, len(data.train), seed))


def scored_batches(data: TaskData) -> list[ScoredBatch]:
    """All of the test split, in order."""
    batches, split = Batches(data.num_tokens, data.vocab_size), data.test
    size = max(1, TEST_TOKENS // data.num_tokens)
    chunks = [np.arange(start, min(start + size, len(split))) for start in range(0, len(split), size)]
    return [
        ScoredBatch(
            batches.of(split, rows),
            torch.from_numpy(np.arange(len(rows)) * data.num_tokens + split.answer_positions[rows]),
            torch.from_numpy(split.answers[rows]),
        )
        for rows in chunks
    ]


def rows_of_step(step: int, batch_size: int, num_sequences: int, seed: int) -> np.ndarray:
    """int64 [batch_size]: the sequences of a step, from 0. Each pass goes through all of them in a new order.

    A batch may hold the end of a pass and the start of the next, so that every batch is full.
    """
    places = step * batch_size + np.arange(batch_size)
    passes, within = np.divmod(places, num_sequences)
    orders = {
        number: np.random.default_rng([_ORDER_STREAM, seed, number]).permutation(num_sequences)
        for number in np.unique(passes).tolist()
    }
    return np.array([orders[number][place] for number, place in zip(passes.tolist(), within.tolist(), strict=True)])
