"""What generation keeps of the past, a layer each: keys and values that grow, or states of one size."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

_LEAST_CAPACITY = 64


class KeyValueCache:
    """Keys and values of one layer, [S, G, capacity, D], which grow as they fill up; sequence s begins at 0."""

    def __init__(self, num_sequences: int) -> None:
        self.num_sequences = num_sequences
        self.key: torch.Tensor | None = None
        self.value: torch.Tensor | None = None

    def _reserve(self, wanted: int, like: torch.Tensor) -> None:
        capacity = 0 if self.key is None else self.key.shape[2]
        if wanted <= capacity:
            return
        shape = (self.num_sequences, like.shape[-2], max(wanted, 2 * capacity, _LEAST_CAPACITY), like.shape[-1])
        for name in ("key", "value"):
            grown = like.new_zeros(shape)
            if capacity:
                grown[:, :, :capacity] = getattr(self, name)
            setattr(self, name, grown)

    def fill(self, sequence: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Sets the first n places of a sequence, from [n, G, D]."""
        self._reserve(len(key), key)
        assert self.key is not None
        assert self.value is not None
        self.key[sequence, :, : len(key)] = key.transpose(0, 1)
        self.value[sequence, :, : len(key)] = value.transpose(0, 1)

    def put(self, sequences: np.ndarray, places: np.ndarray, key: torch.Tensor, value: torch.Tensor) -> None:
        """Sets one place of each of some sequences, from [n, G, D]."""
        self._reserve(int(places.max()) + 1, key)
        assert self.key is not None
        assert self.value is not None
        if len(sequences) == self.num_sequences and (places == places[0]).all():
            # Everyone at one place: a plain slice, which costs a fraction of an indexed write.
            self.key[:, :, places[0]], self.value[:, :, places[0]] = key, value
            return
        rows, columns = (torch.from_numpy(index).to(key.device) for index in (sequences, places))
        self.key[rows, :, columns], self.value[rows, :, columns] = key, value

    def attend(self, query: torch.Tensor, sequences: np.ndarray, first: np.ndarray, last: np.ndarray) -> torch.Tensor:
        """Queries [n, Q, H, D], one group a sequence, see its places ``first`` … ``last`` (inclusive)."""
        assert self.key is not None
        assert self.value is not None
        low, high = int(first.min()), int(last.max()) + 1
        key, value = self.key[:, :, low:high], self.value[:, :, low:high]
        if len(sequences) < self.num_sequences:
            rows = torch.from_numpy(sequences).to(query.device)
            key, value = key[rows], value[rows]
        # Written out: on the CPU a fused attention spends more on its threads than on one query.
        num_queries, head_dim = query.shape[1], query.shape[3]
        grouped = query.view(len(query), num_queries, key.shape[1], -1, head_dim).transpose(1, 2)
        scores = grouped.reshape(len(query), key.shape[1], -1, head_dim) @ key.transpose(-1, -2)
        scores *= head_dim**-0.5
        if (first > low).any() or (last < high - 1).any():
            places = np.arange(low, high)
            unseen = (places < first[:, None]) | (places > last[:, None])
            scores.masked_fill_(torch.from_numpy(unseen[:, None, None]).to(query.device), float("-inf"))
        out = (scores.softmax(dim=-1) @ value).view(len(query), key.shape[1], num_queries, -1, head_dim)
        return out.transpose(1, 2).reshape(query.shape)

    def keep(self, sequences: torch.Tensor) -> None:
        """Drops all other sequences."""
        self.num_sequences = len(sequences)
        if self.key is not None and self.value is not None:
            self.key, self.value = self.key[sequences], self.value[sequences]


class StateCache:
    """The state of one recurrent mixer, tensors [S, …], and what of its parameters every step needs.

    Args:
        mixer: a mixer with ``constants`` and ``step``.
    """

    def __init__(self, mixer: Any) -> None:
        self.mixer = mixer
        self.constants: tuple[torch.Tensor, ...] = ()
        self.state: tuple[torch.Tensor, ...] = ()

    def fill(self, state: tuple[torch.Tensor, ...]) -> None:
        """Sets the states of all sequences."""
        self.constants, self.state = self.mixer.constants(), state

    def step(self, sequences: np.ndarray, *inputs: torch.Tensor) -> torch.Tensor:
        """One more token of some sequences: inputs [n, D] each → [n, D]."""
        if len(sequences) == len(self.state[0]):
            out, self.state = self.mixer.step(*inputs, constants=self.constants, state=self.state)
            return out
        rows = torch.from_numpy(sequences).to(inputs[0].device)
        some = tuple(x[rows] for x in self.state)
        out, some = self.mixer.step(*inputs, constants=self.constants, state=some)
        for whole, part in zip(self.state, some, strict=True):
            whole[rows] = part
        return out

    def keep(self, sequences: torch.Tensor) -> None:
        """Drops all other sequences."""
        self.state = tuple(x[sequences] for x in self.state)
