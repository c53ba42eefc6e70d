"""Chooses the utterances to hold out for validation."""

from __future__ import annotations

import hashlib
import heapq
import os
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lst.data.corpora.row_table import RowBlock, RowTable, name_key, rows_of
from lst.data.corpora.rows import ManifestRow
from lst.data.utterance import HeldOut
from lst.errors import UserError
from lst.parallel import ordered_map
from lst.progress import say

MIN_SPEAKERS_TO_HOLD_OUT = 5
# A recording of more segments than so many times what is wanted is not held out whole.
MOST_TIMES_WANTED = 4
LARGEST_DRAW = "f" * 64
MOST_NAMES_SENT = 1_000


@dataclass(frozen=True)
class Recordings:
    """Which recording a row belongs to: the file that it is a segment of, by its place from the corpus on.

    Attributes:
        root: where the corpus lies.
        also_whole: ``name_key`` of the files that have a row of their whole sound beside rows of their segments.
    """

    root: str
    also_whole: frozenset[int] = frozenset()

    @classmethod
    def of_rows(cls, rows: RowTable, root: str) -> Recordings:
        """Those of a corpus. Rows are read only where some are segments and some whole files."""
        recordings = cls(root)
        if not (rows.facts.have_segments and rows.facts.have_whole):
            return recordings
        of_segments, of_whole = array("Q"), array("Q")
        for row in rows:
            (of_segments if row.is_segment else of_whole).append(name_key(recordings.file_of(row)))
        both = np.intersect1d(np.array(of_segments, np.uint64), np.array(of_whole, np.uint64))
        return cls(root, frozenset(both.tolist()))

    def of(self, row: ManifestRow) -> str:
        """The recording of a row; empty for a whole file without segments, which is a recording of its own."""
        if row.is_segment:
            return self.file_of(row)
        return file if self.also_whole and name_key(file := self.file_of(row)) in self.also_whole else ""

    def file_of(self, row: ManifestRow) -> str:
        """The file or member of a tar where the sound of a row lies."""
        path = row.path if isinstance(row.path, str) else os.path.abspath(row.path)
        place = path.removeprefix(f"{self.root.rstrip('/')}/")
        return f"{place}#{row.member}" if row.member else place


def assign_splits(
    rows: Sequence[ManifestRow],
    valid_share: float,
    seed: int,
    held_out: HeldOut | None = None,
    root: str = "",
    num_workers: int = 1,
) -> RowTable:
    """Gives every row a split, ``"train"`` or ``"valid"``. The order of the rows does not matter.

    If a row is ``"valid"``, the corpus keeps its splits, and rows without a split become ``"train"``. Otherwise a
    seeded hash chooses about ``valid_share`` of the utterances, among the rows without a split, or among all rows if
    each is ``"train"``. With five or more speakers who are in no training row, whole speakers are held out: as many as
    ``valid_share`` has room for, or else the one with the fewest utterances. With fewer speakers, single utterances are
    held out, at least one, and all segments of a file or none: they are one recording, mostly of one voice. A row of
    the whole file goes with them. With ``valid_share`` 1, all candidates are, and a corpus of held-out utterances alone
    stays so. Where a split changes that the corpus names, that is said.

    Args:
        rows: the rows; their ids must be unique.
        valid_share: share of utterances to hold out, from 0 (none) to 1 (all).
        seed: of the hash.
        held_out: what an earlier state of the corpus chose, from ``choose_held_out``: it is kept.
        root: where the corpus lies; files are named from there on.
        num_workers: processes that share the work; small corpora need no second one.

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
    chosen = held_out or choose_held_out(rows, valid_share, seed, root) or {}
    assigned, num_changed = RowTable(), 0
    # Only a rule that names recordings asks for them.
    recordings = Recordings.of_rows(rows, root) if "recordings" in chosen else Recordings(root)
    assign = partial(_assign_some, chosen, recordings, "" in rows.facts.splits)
    # A rule that names many is not sent to others again and again.
    is_short = len(chosen.get("speakers", ())) + len(chosen.get("recordings", ())) <= MOST_NAMES_SENT
    for block, count in ordered_map(assign, rows.contents(), num_workers if is_short else 1):
        assigned.add(block)
        num_changed += count
    if num_changed:
        say(
            f"the corpus names no held-out split: {num_changed:,} of its training utterances are held out "
            f"(data.valid_share={valid_share:g}; 0 keeps the corpus's split)"
        )
    return assigned


def _assign_some(rule: HeldOut, recordings: Recordings, is_any_open: bool, content: bytes) -> tuple[RowBlock, int]:
    """Some rows with their splits, and how many of the training rows among them are held out."""
    is_held_out, assigned, num_changed = _by_rule(rule, recordings), list[ManifestRow](), 0
    for row in rows_of(content):
        split = "valid" if _is_candidate(is_any_open, row) and is_held_out(row) else row.split or "train"
        num_changed += row.split == "train" and split == "valid"
        assigned.append(replace(row, split=split))
    return RowBlock.of(assigned), num_changed


def _candidates(rows: RowTable) -> Callable[[ManifestRow], bool]:
    """Which rows may be held out: those without a split, or all where each has one."""
    return partial(_is_candidate, "" in rows.facts.splits)


def _is_candidate(is_any_open: bool, row: ManifestRow) -> bool:
    return not (is_any_open and row.split)


def choose_held_out(rows: Sequence[ManifestRow], valid_share: float, seed: int, root: str = "") -> HeldOut | None:
    """Which utterances ``assign_splits`` holds out; None where the corpus says itself, or none are.

    The choice is a rule, so that rows that come later have a split too, and none of those before changes its own: the
    speakers and recordings that are held out, or the largest draw of an utterance that is.
    """
    rows = RowTable.of(rows)
    if _is_held_out_alone(rows, valid_share):
        rows = RowTable(replace(row, split="") for row in rows)
    if not _is_drawn(rows, valid_share):
        return None
    if valid_share == 1:
        return {"seed": seed, "below": LARGEST_DRAW}
    if len(rows) < 2:
        raise UserError("the corpus has one usable utterance: nothing can be held out. Add more, or valid_share=0.")
    is_candidate, num_wanted = _candidates(rows), valid_share * len(rows)
    is_all = len(rows.facts.splits) == 1
    train_speakers = set[str]() if is_all else {row.speaker for row in rows if not is_candidate(row)}
    num_by_speaker = Counter(row.speaker for row in rows if is_candidate(row) and row.speaker not in train_speakers)
    if len(num_by_speaker) < MIN_SPEAKERS_TO_HOLD_OUT:
        return _drawn(rows, num_wanted, seed, root)
    speakers = sorted(num_by_speaker, key=lambda speaker: _draw(seed, "speaker", speaker))
    return {
        "speakers": sorted(_with_room(speakers, num_by_speaker, num_wanted) or {_smallest(speakers, num_by_speaker)})
    }


def _with_room(names: Sequence[str], sizes: Counter[str], room: float) -> set[str]:
    """Of some names in order, those for which there is room."""
    found, total = set[str](), 0
    for name in names:
        if total + sizes[name] <= room:
            found.add(name)
            total += sizes[name]
    return found


def _smallest(names: Sequence[str], sizes: Counter[str]) -> str:
    return min(names, key=lambda name: sizes[name])


def _num_drawn(rows: RowTable, num_wanted: float) -> int:
    return max(1, min(round(num_wanted), len(rows) - 1))


def _drawn_alone(rows: RowTable, num_wanted: float, seed: int) -> HeldOut:
    """Single utterances by their draws."""
    is_candidate = _candidates(rows)
    draws = (_draw(seed, "id", row.id) for row in rows if is_candidate(row))
    return {"seed": seed, "below": heapq.nsmallest(_num_drawn(rows, num_wanted), draws)[-1]}


def _drawn(rows: RowTable, num_wanted: float, seed: int, root: str) -> HeldOut:
    """Single utterances by their draws, and recordings of several segments as a whole.

    Where no recording fits, the smallest is held out, unless it is many times what is wanted: then single segments are.
    """
    if not rows.facts.have_segments:
        return _drawn_alone(rows, num_wanted, seed)
    recordings = Recordings.of_rows(rows, root)
    is_alone, sizes = _of_several_rows(rows, recordings)
    several, num_alone = sorted(sizes, key=lambda name: _draw(seed, "recording", name)), int(is_alone.sum())
    num_drawn = round(num_wanted * num_alone / len(rows)) if several else _num_drawn(rows, num_wanted)
    held_out = _with_room(several, sizes, num_wanted - num_drawn)
    if several and not held_out and num_drawn < num_wanted / MOST_TIMES_WANTED:
        smallest = _smallest(several, sizes)
        if (num_alone or len(several) > 1) and sizes[smallest] <= min(MOST_TIMES_WANTED * num_wanted, len(rows) / 2):
            held_out, num_drawn = {smallest}, 0
        else:
            say(
                f"recordings are too long to hold one out: {smallest} alone has {sizes[smallest]:,} of {len(rows):,} "
                "utterances. Single segments are held out, so scores on them say little about other recordings"
            )
            return _drawn_alone(rows, num_wanted, seed)
    draws = (_draw(seed, "id", row.id) for row, own in zip(rows, is_alone, strict=True) if own)
    below = heapq.nsmallest(num_drawn, draws)[-1] if num_drawn else ""
    for row, own in zip(rows, is_alone, strict=True):
        if own and row.is_segment and _draw(seed, "id", row.id) <= below:
            held_out.add(recordings.of(row))
    return {"seed": seed, "below": below, "recordings": sorted(held_out)}


def _of_several_rows(rows: RowTable, recordings: Recordings) -> tuple[np.ndarray, Counter[str]]:
    """Which candidates share their file with no other row, and how many rows each file of several has.

    Files with a segment that the corpus itself gives to training are left out, unless there are no others.
    """
    keys, candidates, is_candidate = array("Q"), bytearray(), _candidates(rows)
    for row in rows:
        keys.append(name_key(name) if (name := recordings.of(row)) else 0)
        candidates.append(is_candidate(row))
    files, is_free = np.array(keys, np.uint64), np.frombuffer(bytes(candidates), bool)
    trained = np.unique(files[~is_free])
    if (is_apart := is_free & ~np.isin(files, trained[trained > 0])).any():
        is_free = is_apart
    found, firsts, counts = np.unique(files[is_free], return_index=True, return_counts=True)
    is_several = (found > 0) & (counts > 1)
    numbers = np.flatnonzero(is_free)[firsts[is_several]].tolist()
    sizes = Counter[str]()
    for number, count in zip(numbers, counts[is_several].tolist(), strict=True):
        sizes[recordings.of(rows[number])] = count
    return is_free & ~np.isin(files, found[is_several]), sizes


def _by_rule(rule: HeldOut, recordings: Recordings) -> Callable[[ManifestRow], bool]:
    """Whether a rule of ``choose_held_out`` holds out an utterance."""
    if "speakers" in rule:
        speakers = frozenset(rule["speakers"])
        return lambda row: row.speaker in speakers
    held_out = frozenset(rule["recordings"]) if "recordings" in rule else None

    def is_held_out(row: ManifestRow) -> bool:
        if held_out is not None and (recording := recordings.of(row)):
            return recording in held_out
        return _draw(rule["seed"], "id", row.id) <= rule["below"]

    return is_held_out


def _draw(seed: int, kind: str, name: str) -> str:
    return hashlib.sha256(f"{seed}:{kind}:{name}".encode()).hexdigest()


def _is_held_out_alone(rows: RowTable, valid_share: float) -> bool:
    """Whether the corpus is a development set alone (LibriSpeech's dev-clean): some of it must become training data."""
    return valid_share < 1 and rows.facts.splits == {"valid"}


def _is_drawn(rows: RowTable, valid_share: float) -> bool:
    if not 0 <= valid_share <= 1:
        raise UserError(f"valid_share={valid_share} must be from 0 to 1.")
    return valid_share > 0 and bool(rows) and "valid" not in rows.facts.splits
