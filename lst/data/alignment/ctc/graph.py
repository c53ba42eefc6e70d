"""The likeliest CTC path through all readings of a transcript, where words may be missing: a Viterbi search.

::

    gap 0 ─▶ labels of piece 0, a reading each ─▶ gap 1 ─▶ labels of piece 1 ─▶ … ─▶ gap n
      └────────────── skipped, at a price ──────────┘

A gap is silence: the blank or the boundary of words. Beside each gap, the star stands for sound that the transcript
lacks; in a frame it is as likely as the likeliest label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lst.data.alignment.aligner import MisfitError

# In nats. A right word costs a few less than the star; a wrong one several a letter.
SKIP_PRICE, STAR_PRICE, STAR_FRAME_PRICE = 12.0, 4.0, 0.1
# Back pointers take a byte a frame and state.
MAX_BACK_BYTES = 1 << 30
_GAP, _STAR = -1, -2


class FoundReading(NamedTuple):
    """A piece as the path has it.

    Attributes:
        reading: which of its readings; None if the piece was not found.
        starts, ends: int64 [L], first frame of each label and the frame after its last; none if it is unsaid.
        score: mean log-probability of its labels over their frames.
    """

    reading: int | None
    starts: np.ndarray
    ends: np.ndarray
    score: float


class _Graph:
    """States and arcs; a state has what it emits, and its piece, reading and place in that."""

    def __init__(self, blank_id: int) -> None:
        self.blank_id = blank_id
        self.emits: list[int] = []
        self.owner: list[tuple[int, int, int]] = []
        self.arcs: list[dict[int, float]] = []

    def add(self, emits: int, before: dict[int, float], owner: tuple[int, int, int] = (-1, -1, -1)) -> int:
        """A state that may follow itself and the states ``before``, each at a price; −1 stands for the start."""
        self.emits.append(emits)
        self.owner.append(owner)
        self.arcs.append({**before, len(self.emits) - 1: 0.0})
        return len(self.emits) - 1

    def add_labels(self, labels: Sequence[int], before: dict[int, float], piece: int, reading: int) -> int:
        """States of a reading: a blank may stand between labels, and must between equal ones. Returns the last."""
        last = -1
        # Two equal labels in neighbouring frames are one.
        before = {state: price for state, price in before.items() if state < 0 or self.emits[state] != labels[0]}
        for place, label in enumerate(labels):
            if place:
                blank = self.add(self.blank_id, {last: 0.0})
                before = {blank: 0.0} if label == labels[place - 1] else {blank: 0.0, last: 0.0}
            last = self.add(label, before, (piece, reading, place))
        return last


def best_readings(
    emission: np.ndarray, pieces: Sequence[Sequence[Sequence[int]]], blank_id: int, boundary_id: int | None
) -> list[FoundReading]:
    """The likeliest reading of each piece, or that it is missing.

    Args:
        emission: float32 [num_frames, V], log-probabilities of labels.
        pieces: for each piece its readings as labels below V, or V for any sound; the empty one is unsaid.
        blank_id: CTC's blank.
        boundary_id: the label between words, if the model has one.

    Raises:
        MisfitError: no path fits into the frames, or the search would not fit into memory.
    """
    graph, ends = _graph(pieces, blank_id)
    scores = _emitted(emission, graph.emits, blank_id, boundary_id)
    path = _viterbi(scores, graph.arcs, ends)
    return [_found(number, graph, path, scores) for number in range(len(pieces))]


def _graph(pieces: Sequence[Sequence[Sequence[int]]], blank_id: int) -> tuple[_Graph, dict[int, float]]:
    """The graph, and the states that may be last, each with its price."""
    graph = _Graph(blank_id)
    ends: dict[int, float] = {-1: 0.0}
    earlier: dict[int, float] = {}
    for number in range(len(pieces) + 1):
        # What comes before this gap: the piece before it, or, where that is missing, the gap before.
        gap = graph.add(_GAP, {**earlier, **ends})
        star = graph.add(_STAR, {state: price + STAR_PRICE for state, price in {**earlier, **ends, gap: 0.0}.items()})
        graph.arcs[gap][star] = 0.0
        before = {**earlier, **ends, gap: 0.0, star: 0.0}
        if number == len(pieces):
            return graph, before
        last = {}
        for place, labels in enumerate(pieces[number]):
            if labels:
                last[graph.add_labels(labels, before, number, place)] = 0.0
        price = 0.0 if any(not labels for labels in pieces[number]) or not pieces[number] else SKIP_PRICE
        earlier = dict.fromkeys((*(state for state in ends if state >= 0), gap, star), price)
        if number == 0:
            earlier[-1] = price
        ends = last
    raise AssertionError


def _emitted(emission: np.ndarray, emits: Sequence[int], blank_id: int, boundary_id: int | None) -> np.ndarray:
    """Log-probability of each state in each frame, float32 [num_frames, S]."""
    silent = emission[:, blank_id]
    if boundary_id is not None:
        silent = np.maximum(silent, emission[:, boundary_id])
    star = emission.max(1) - STAR_FRAME_PRICE
    sound = np.delete(emission, blank_id, axis=1).max(1)
    columns = np.concatenate([emission, sound[:, None], star[:, None], silent[:, None]], axis=1)
    # The gap is the last column and the star the one before it, as their numbers say.
    return columns[:, np.array(emits)]


def _viterbi(scores: np.ndarray, arcs: Sequence[dict[int, float]], ends: dict[int, float]) -> np.ndarray:
    """The likeliest path, int64 [num_frames]."""
    num_frames, num_states = scores.shape
    width = max(map(len, arcs))
    if num_frames * num_states > MAX_BACK_BYTES:
        raise MisfitError(f"{num_frames} frames and {num_states} states are too many: cut the recording into parts")
    # The start is one more state, in which a path can only be before the first frame.
    before = np.full((num_states, width), num_states)
    prices = np.full((num_states, width), np.inf)
    for state, own in enumerate(arcs):
        before[state, : len(own)] = [num_states if one < 0 else one for one in own]
        prices[state, : len(own)] = list(own.values())
    best = np.full(num_states + 1, -np.inf)
    best[-1] = 0.0
    back = np.empty((num_frames, num_states), np.uint8 if width < 256 else np.uint16)
    rows = np.arange(num_states)
    for frame in range(num_frames):
        ways = best[before] - prices
        back[frame] = chosen = ways.argmax(1)
        best[:-1] = ways[rows, chosen] + scores[frame]
        best[-1] = -np.inf
    final = {state: best[state] - price for state, price in ends.items() if state >= 0}
    state = max(final, key=lambda one: final[one])
    if not num_frames or not np.isfinite(final[state]):
        raise MisfitError(f"the text does not fit the audio: no path through it fits into {num_frames} frames")
    path = np.empty(num_frames, np.int64)
    for frame in reversed(range(num_frames)):
        path[frame] = state
        state = int(before[state, back[frame, state]])
    return path


def _found(number: int, graph: _Graph, path: np.ndarray, scores: np.ndarray) -> FoundReading:
    owners = np.array(graph.owner)[path]
    frames = np.flatnonzero(owners[:, 0] == number)
    nothing = np.zeros(0, np.int64)
    if not len(frames):
        return FoundReading(None, nothing, nothing, 0.0)
    reading, places = int(owners[frames[0], 1]), owners[frames, 2]
    is_first = np.diff(places, prepend=-1) > 0
    is_last = np.append(is_first[1:], True)
    score = float(scores[frames, path[frames]].mean())
    return FoundReading(reading, frames[is_first], frames[is_last] + 1, score)
