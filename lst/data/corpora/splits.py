"""Chooses the utterances to hold out for validation."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from lst.data.corpora.row_table import RowTable
from lst.data.corpora.rows import ManifestRow
from lst.data.utterance import HeldOut
from lst.errors import UserError
from lst.progress import say

MIN_SPEAKERS_TO_HOLD_OUT = 5
_LARGEST_DRAW = "f" * 64


def assign_splits(
    rows: Sequence[ManifestRow], valid_share: float, seed: int, held_out: HeldOut | None = None
) -> RowTable:
    """Gives every row a split, ``"train"`` or ``"valid"``. The order of the rows does not matter.

    If a row is ``"valid"``, the corpus keeps its splits, and rows without a split become ``"train"``. Otherwise a
    seeded hash chooses about ``valid_share`` of the utterances, among the rows without a split, or among all rows if
    each is ``"train"``. With five or more speakers who are in no training row, whole speakers are held out: as many as
    ``valid_share`` has room for, or else the one with the fewest utterances. With fewer speakers, single utterances are
    held out, at least one. With ``valid_share`` 1, all candidates are, and a corpus of held-out utterances alone stays
    so. Where a split changes that the corpus names, that is said.

    Args:
        rows: the rows; their ids must be unique.
        valid_share: share of utterances to hold out, from 0 (none) to 1 (all).
        seed: of the hash.
        held_out: what an earlier state of the corpus chose, from ``choose_held_out``: it is kept.

    Returns:
        The rows in their order.

    Raises:
        UserError: ``valid_share`` is out of its range, or there is only one utterance.

    >>> rows = [ManifestRow(f"utt_{number}", "a.wav", "hello") for number in range(10)]
    >>> [row.id for row in assign_splits(rows, 0.2, seed=0) if row.split == "valid"]
    ['utt_3', 'utt_6']
    """
    rows = RowTable.of(rows)
    if _is_held_out_alone(rows, valid_share):
        say(
            f"all {len(rows):,} utterances are of a split that is held out: most become training data here, about "
            f"{valid_share:.0%} stay held out; data.valid_share=1 holds out all"
        )
        rows = RowTable(replace(row, split="") for row in rows)
    if not _is_drawn(rows, valid_share):
        return RowTable(row if row.split else replace(row, split="train") for row in rows)
    rule = held_out or choose_held_out(rows, valid_share, seed) or {}
    is_candidate, assigned, num_changed = _candidates(rows), RowTable(), 0
    for row in rows:
        split = "valid" if is_candidate(row) and is_held_out(row, rule) else row.split or "train"
        num_changed += row.split == "train" and split == "valid"
        assigned.append(replace(row, split=split))
    if num_changed:
        say(
            f"the corpus names no held-out split: {num_changed:,} of its training utterances are held out "
            f"(data.valid_share={valid_share:g}; 0 keeps the corpus's split)"
        )
    return assigned


def _candidates(rows: RowTable) -> Callable[[ManifestRow], bool]:
    """Which rows may be held out: those without a split, or all where each has one."""
    is_any_open = "" in rows.facts.splits
    return lambda row: not (is_any_open and row.split)


def choose_held_out(rows: Sequence[ManifestRow], valid_share: float, seed: int) -> HeldOut | None:
    """Which utterances ``assign_splits`` holds out; None where the corpus says itself, or none are.

    The choice is a rule, so that rows that come later have a split too, and none of those before changes its own: the
    speakers that are held out, or the largest draw of an utterance that is.
    """
    rows = RowTable.of(rows)
    if _is_held_out_alone(rows, valid_share):
        rows = RowTable(replace(row, split="") for row in rows)
    if not _is_drawn(rows, valid_share):
        return None
    if valid_share == 1:
        return {"seed": seed, "below": _LARGEST_DRAW}
    if len(rows) < 2:
        raise UserError("the corpus has one usable utterance: nothing can be held out. Add more, or valid_share=0.")
    is_candidate, num_wanted = _candidates(rows), valid_share * len(rows)
    is_all = len(rows.facts.splits) == 1
    train_speakers = set[str]() if is_all else {row.speaker for row in rows if not is_candidate(row)}
    num_by_speaker = Counter(row.speaker for row in rows if is_candidate(row) and row.speaker not in train_speakers)
    if len(num_by_speaker) < MIN_SPEAKERS_TO_HOLD_OUT:
        num_held_out = max(1, min(round(num_wanted), len(rows) - 1))
        draws = (_draw(seed, "id", row.id) for row in rows if is_candidate(row))
        return {"seed": seed, "below": heapq.nsmallest(num_held_out, draws)[-1]}
    held_out: set[str] = set()
    total = 0
    speakers = sorted(num_by_speaker, key=lambda speaker: _draw(seed, "speaker", speaker))
    for speaker in speakers:
        if total + num_by_speaker[speaker] <= num_wanted:
            held_out.add(speaker)
            total += num_by_speaker[speaker]
    return {"speakers": sorted(held_out or {min(speakers, key=lambda speaker: num_by_speaker[speaker])})}


def is_held_out(row: ManifestRow, rule: HeldOut) -> bool:
    """Whether a rule of ``choose_held_out`` holds out an utterance."""
    if "speakers" in rule:
        return row.speaker in rule["speakers"]
    return _draw(rule["seed"], "id", row.id) <= rule["below"]


def _draw(seed: int, kind: str, name: str) -> str:
    return hashlib.sha256(f"{seed}:{kind}:{name}".encode()).hexdigest()


def _is_held_out_alone(rows: RowTable, valid_share: float) -> bool:
    """Whether the corpus is a development set alone (LibriSpeech's dev-clean): some of it must become training data."""
    return valid_share < 1 and rows.facts.splits == {"valid"}


def _is_drawn(rows: RowTable, valid_share: float) -> bool:
    if not 0 <= valid_share <= 1:
        raise UserError(f"valid_share={valid_share} must be from 0 to 1.")
    return valid_share > 0 and bool(rows) and "valid" not in rows.facts.splits
