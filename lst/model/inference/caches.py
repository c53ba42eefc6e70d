"""The caches of generation: of each layer keys and values within a window, or a state of fixed size; rotations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lst.model.layers import Rotary

_LEAST_CAPACITY = 64


class KeyValueCache:
    """Keys and values of one layer, [S, G, capacity, D]. Position p of a sequence is in column p mod capacity.

    A new position overwrites one that no later query sees. So the capacity is the length of the longest visible range,
    however long the sequences are.

    Args:
        num_sequences: S.
        window: upper bound of the positions that a query sees; None if there is no fixed bound.

    Attributes:
        key, value: [S, G, capacity, D]; empty before anything is stored.
    """

    def __init__(self, num_sequences: int, window: int | None = None) -> None:
        self.num_sequences, self.window = num_sequences, window
        self.key = self.value = torch.empty(num_sequences, 0, 0, 0)
        # The last position of each sequence decides which position each column holds.
        self._last = np.full(num_sequences, -1)

    @property
    def capacity(self) -> int:
        """Number of positions of a sequence that fit."""
        return self.key.shape[2]

    def _reserve(self, num_places: int, shape: tuple[int, ...], like: torch.Tensor) -> None:
        capacity = self.capacity
        if num_places <= capacity:
            return
        wanted = max(num_places, 2 * capacity, _LEAST_CAPACITY)
        if self.window is not None:
            wanted = max(num_places, min(wanted, self.window))
        rows = torch.arange(self.num_sequences)[:, None]
        if capacity:
            last = self._last[:, None]
            columns = torch.from_numpy((last - (last - np.arange(capacity)) % capacity) % wanted)
        for name in ("key", "value"):
            grown = like.new_zeros(self.num_sequences, shape[0], wanted, shape[1])
            if capacity:
                grown.transpose(1, 2)[rows, columns] = getattr(self, name).transpose(1, 2)
            setattr(self, name, grown)

    def fill(self, sequence: int, key: torch.Tensor, value: torch.Tensor, first: int = 0) -> None:
        """Stores the first n positions of a sequence, from [n, G, D]. Positions before ``first`` are not needed."""
        num_places = len(key)
        if self.window is not None:
            first = max(first, num_places - self.window)
        # It may be that no later query sees any position of a prompt.
        self._reserve(max(num_places - first, 1), key.shape[-2:], key)
        self._last[sequence] = num_places - 1
        columns = torch.arange(first, num_places, device=key.device) % self.capacity
        self.key[sequence][:, columns] = key[first:].transpose(0, 1)
        self.value[sequence][:, columns] = value[first:].transpose(0, 1)

    def make_room(
        self, sequences: np.ndarray, places: np.ndarray, num_places: int, shape: tuple[int, ...], like: torch.Tensor
    ) -> None:
        """Makes room for the next position of each of some sequences, which the caller writes.

        Args:
            sequences, places: as of ``put``.
            num_places: the most positions of a sequence that are needed.
            shape: heads and width of keys and values.
            like: a tensor of their type and device.
        """
        self._reserve(num_places, shape, like)
        self._last[sequences] = places

    def put(
        self, sequences: np.ndarray, places: np.ndarray, first: np.ndarray, key: torch.Tensor, value: torch.Tensor
    ) -> None:
        """Stores the next position of each of some sequences.

        Args:
            sequences: int64 [n], indices of the sequences.
            places: int64 [n], their next positions.
            first: int64 [n]; positions before them are not needed any more.
            key, value: [n, G, D].
        """
        self.make_room(sequences, places, int((places - first).max()) + 1, key.shape[-2:], key)
        columns = places % self.capacity
        if len(sequences) == self.num_sequences and (columns == columns[0]).all():
            # All sequences write one column: a slice costs a fraction of an indexed write.
            self.key[:, :, columns[0]], self.value[:, :, columns[0]] = key, value
            return
        rows, at = (torch.from_numpy(index).to(key.device) for index in (sequences, columns))
        self.key[rows, :, at], self.value[rows, :, at] = key, value

    def attend(self, query: torch.Tensor, sequences: np.ndarray, first: np.ndarray, last: np.ndarray) -> torch.Tensor:
        """Attention of Q queries of each of some sequences to its positions ``first`` … ``last`` (inclusive).

        Args:
            query: [n, Q, H, D].
            sequences: int64 [n], indices of the sequences.
            first, last: int64 [n].
        """
        starts, ends = first % self.capacity, last % self.capacity
        wraps = bool((starts > ends).any())
        low, high = (0, self.capacity) if wraps else (int(starts.min()), int(ends.max()) + 1)
        key, value = self.key[:, :, low:high], self.value[:, :, low:high]
        if len(sequences) < self.num_sequences:
            rows = torch.from_numpy(sequences).to(query.device)
            key, value = key[rows], value[rows]
        # Not a fused attention: on the CPU its threads cost more than one query.
        num_queries, head_dim = query.shape[1], query.shape[3]
        grouped = query.view(len(query), num_queries, key.shape[1], -1, head_dim).transpose(1, 2)
        scores = grouped.reshape(len(query), key.shape[1], -1, head_dim) @ key.transpose(-1, -2)
        scores *= head_dim**-0.5
        num_seen = last - first + 1
        if (num_seen < high - low).any():
            unseen = (np.arange(low, high) - first[:, None]) % self.capacity >= num_seen[:, None]
            scores.masked_fill_(torch.from_numpy(unseen[:, None, None]).to(query.device), float("-inf"))
        out = (scores.softmax(dim=-1) @ value).view(len(query), key.shape[1], num_queries, -1, head_dim)
        return out.transpose(1, 2).reshape(query.shape)

    def keep(self, sequences: torch.Tensor) -> None:
        """Drops all other sequences; int64 [n], indices of those to keep."""
        self.num_sequences = len(sequences)
        self._last = self._last[sequences.cpu().numpy()]
        if self.capacity:
            self.key, self.value = self.key[sequences], self.value[sequences]


class RotationTable:
    """Rotations of the positions so far, so that a step only looks them up.

    Args:
        rotary: computes them.
        device: of the table.
    """

    def __init__(self, rotary: Rotary, device: torch.device) -> None:
        self.rotary, self.device = rotary, device
        self._cos = self._sin = torch.empty(0)

    def __call__(self, positions: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, float32 [n, 1, head_dim / 2], of int64 positions [n]."""
        if (needed := int(positions.max()) + 1) > len(self._cos):
            self._cos, self._sin = self.rotary(torch.arange(max(2 * needed, _LEAST_CAPACITY), device=self.device))
        if len(positions) == 1:
            # A slice costs a fraction of a look-up.
            return self._cos[needed - 1 : needed], self._sin[needed - 1 : needed]
        rows = torch.from_numpy(positions).to(self.device)
        return self._cos[rows], self._sin[rows]


class StateCache:
    """The state of one recurrent mixer, tensors [S, …], and the mixer's constants.

    Args:
        mixer: a mixer with ``constants`` and ``step``.
    """

    def __init__(self, mixer: Any) -> None:
        self.mixer = mixer
        self.constants: tuple[torch.Tensor, ...] = ()
        self.state: tuple[torch.Tensor, ...] = ()

    def fill(self, state: tuple[torch.Tensor, ...]) -> None:
        """Sets the states of all sequences, and computes the mixer's constants."""
        self.constants, self.state = self.mixer.constants(), state

    def step(self, sequences: np.ndarray, mixer: Any, *inputs: torch.Tensor) -> torch.Tensor:
        """One more token of some sequences, int64 [n]: inputs [n, D] each → [n, D]."""
        if len(sequences) == len(self.state[0]):
            out, self.state = mixer.step(*inputs, constants=self.constants, state=self.state)
            return out
        rows = torch.from_numpy(sequences).to(inputs[0].device)
        out, some = mixer.step(*inputs, constants=self.constants, state=tuple(x[rows] for x in self.state))
        for whole, part in zip(self.state, some, strict=True):
            whole[rows] = part
        return out

    def keep(self, sequences: torch.Tensor) -> None:
        """Drops all other sequences; int64 [n], indices of those to keep."""
        self.state = tuple(x[sequences] for x in self.state)
