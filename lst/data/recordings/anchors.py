"""Which tokens of a transcript were heard: sequences are compared where they agree beyond chance.

::

    heard       … he took a resolve │ and in they said │ not to misinterpret her …
    transcript  … he took a resolve │ after this       │ not to misinterpret her …
                    anchors: runs that come once in both     between two of them: the longest common subsequence
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

# Of the table of a longest common subsequence: larger gaps between anchors stay unmatched.
MAX_CELLS = 10_000_000


def match_tokens(written: Sequence[str], heard: Sequence[str], run: int, anchor: int) -> list[tuple[int, int]]:
    """Pairs (place in ``written``, place in ``heard``) of tokens that are the same, both increasing.

    Args:
        written: tokens of the transcript.
        heard: tokens of the recording.
        run: shorter runs of equal tokens are taken for chance.
        anchor: runs of so many tokens that come once on both sides are matched first.

    >>> match_tokens("the cat sat on the mat".split(), "a cat sat on a mat".split(), 2, 3)
    [(1, 1), (2, 2), (3, 3)]
    """
    fixed = [(-1, -1), *_anchors(written, heard, anchor), (len(written), len(heard))]
    pairs: list[tuple[int, int]] = []
    for before, after in pairwise(fixed):
        if before[0] >= 0:
            pairs.append(before)
        first, second = before[0] + 1, before[1] + 1
        common = _common(written[first : after[0]], heard[second : after[1]])
        pairs += [(first + one, second + other) for one, other in common]
    return list(_runs(pairs, run))


def to_the_nearer(
    pairs: Sequence[tuple[int, int]],
    written: Sequence[str],
    heard: Sequence[str],
    starts_s: Sequence[float],
    ends_s: Sequence[float],
) -> list[tuple[int, int]]:
    """The pairs of ``match_tokens``, where a token before a gap belongs to the run that is nearer in time.

    A recogniser that knows the transcript alone hears its next word in speech that the transcript lacks, too.

    >>> tokens = ["chapter", "and", "so"]
    >>> to_the_nearer([(0, 0), (1, 1), (2, 4)], tokens, ["chapter", "and", "then", "and", "so"], [0, 2, 3, 6, 7], \
[1, 3, 4, 7, 8])
    [(0, 0), (1, 3), (2, 4)]
    """
    found = list(pairs)
    for place in range(len(found) - 1, 0, -1):
        (one, at), (after, later) = found[place - 1], found[place]
        if after != one + 1 or later <= at + 1 or heard[later - 1] != written[one]:
            continue
        gap_before_s = starts_s[at] - ends_s[at - 1] if at else 0.0
        if starts_s[later] - ends_s[later - 1] < gap_before_s:
            found[place - 1] = (one, later - 1)
    return found


def _anchors(written: Sequence[str], heard: Sequence[str], size: int) -> list[tuple[int, int]]:
    """Pairs within runs of ``size`` tokens that come once on both sides, as many as increase together."""
    once, other = _unique_runs(written, size), _unique_runs(heard, size)
    places = sorted((place, other[run]) for run, place in once.items() if run in other)
    starts = [places[number] for number in _longest_increasing([second for _, second in places])]
    found: list[tuple[int, int]] = []
    for first, second in starts:
        for step in range(size):
            if not found or (first + step > found[-1][0] and second + step > found[-1][1]):
                found.append((first + step, second + step))
    return found


def _unique_runs(tokens: Sequence[str], size: int) -> dict[tuple[str, ...], int]:
    runs = [tuple(tokens[place : place + size]) for place in range(len(tokens) - size + 1)]
    counts = Counter(runs)
    return {run: place for place, run in enumerate(runs) if counts[run] == 1}


def _longest_increasing(values: Sequence[int]) -> list[int]:
    """Indices of a longest increasing subsequence of different numbers.

    >>> _longest_increasing([5, 1, 9, 2, 3])
    [1, 3, 4]
    """
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for number, value in enumerate(values):
        length = bisect_left(tails, value)
        before.append(ends[length - 1] if length else -1)
        tails[length : length + 1], ends[length : length + 1] = [value], [number]
    found: list[int] = []
    number = ends[-1] if ends else -1
    while number >= 0:
        found.append(number)
        number = before[number]
    return found[::-1]


def _common(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of a longest common subsequence; none of sequences that are too long."""
    if not first or not second or len(first) * len(second) > MAX_CELLS:
        return []
    ids = {token: number for number, token in enumerate(dict.fromkeys([*first, *second]))}
    rows, columns = np.array([ids[token] for token in first]), np.array([ids[token] for token in second])
    table = np.zeros((len(rows) + 1, len(columns) + 1), np.int32)
    for number in range(len(rows) - 1, -1, -1):
        # The longest of what is left of both from here on.
        best = np.maximum(table[number + 1, :-1], table[number + 1, 1:] + (columns == rows[number]))
        table[number, :-1] = np.maximum.accumulate(best[::-1])[::-1]
    found: list[tuple[int, int]] = []
    row = column = 0
    while row < len(rows) and column < len(columns):
        if rows[row] == columns[column] and table[row, column] == table[row + 1, column + 1] + 1:
            found.append((row, column))
            row, column = row + 1, column + 1
        elif table[row + 1, column] == table[row, column]:
            row += 1
        else:
            column += 1
    return found


def _runs(pairs: Sequence[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """The pairs that lie in runs of at least ``size``, whose places follow one another on both sides."""
    run: list[tuple[int, int]] = []
    for pair in [*pairs, (-2, -2)]:
        if run and pair != (run[-1][0] + 1, run[-1][1] + 1):
            if len(run) >= size:
                yield from run
            run = []
        run.append(pair)
