"""Chooses the utterances to hold out for validation."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from lst.data.corpora.manifest import ManifestRow
from lst.errors import UserError
from lst.progress import say

MIN_SPEAKERS_TO_HOLD_OUT = 5


def assign_splits(rows: Sequence[ManifestRow], valid_share: float, seed: int) -> list[ManifestRow]:
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

    Returns:
        The rows in their order.

    Raises:
        UserError: ``valid_share`` is out of its range, or there is only one utterance.

    >>> rows = [ManifestRow(f"utt_{number}", "a.wav", "hello") for number in range(10)]
    >>> [row.id for row in assign_splits(rows, 0.2, seed=0) if row.split == "valid"]
    ['utt_3', 'utt_6']
    """
    if not 0 <= valid_share <= 1:
        raise UserError(f"valid_share={valid_share} must be from 0 to 1.")
    if rows and all(row.split == "valid" for row in rows) and valid_share < 1:
        # A development set alone (LibriSpeech's dev-clean, for example): some of it must become training data.
        say(
            f"all {len(rows):,} utterances are of a split that is held out: most become training data here, about "
            f"{valid_share:.0%} stay held out; data.valid_share=1 holds out all"
        )
        rows = [replace(row, split="") for row in rows]
    candidates = [row for row in rows if not row.split] or list(rows)
    held_out: set[str] = set()
    if valid_share > 0 and rows and not any(row.split == "valid" for row in rows):
        if len(rows) < 2 and valid_share < 1:
            raise UserError("the corpus has one usable utterance: nothing can be held out. Add more, or valid_share=0.")
        held_out = _held_out_ids(rows, candidates, valid_share, seed)
    if num_changed := sum(row.split == "train" and row.id in held_out for row in rows):
        say(
            f"the corpus names no held-out split: {num_changed:,} of its training utterances are held out "
            f"(data.valid_share={valid_share:g}; 0 keeps the corpus's split)"
        )
    return [replace(row, split="valid" if row.id in held_out else row.split or "train") for row in rows]


def _held_out_ids(
    rows: Sequence[ManifestRow], candidates: Sequence[ManifestRow], valid_share: float, seed: int
) -> set[str]:
    """Ids of the candidates to hold out: of whole speakers if there are enough, else single utterances."""

    def draw(kind: str, name: str) -> str:
        return hashlib.sha256(f"{seed}:{kind}:{name}".encode()).hexdigest()

    if valid_share == 1:
        return {row.id for row in candidates}
    num_wanted = valid_share * len(rows)
    candidate_ids = {row.id for row in candidates}
    train_speakers = {row.speaker for row in rows if row.id not in candidate_ids}
    num_by_speaker = Counter(row.speaker for row in candidates if row.speaker not in train_speakers)
    if len(num_by_speaker) < MIN_SPEAKERS_TO_HOLD_OUT:
        ids = sorted(candidate_ids, key=lambda utterance_id: draw("id", utterance_id))
        return set(ids[: max(1, min(round(num_wanted), len(rows) - 1))])
    held_out: set[str] = set()
    num_held_out = 0
    speakers = sorted(num_by_speaker, key=lambda speaker: draw("speaker", speaker))
    for speaker in speakers:
        if num_held_out + num_by_speaker[speaker] <= num_wanted:
            held_out.add(speaker)
            num_held_out += num_by_speaker[speaker]
    held_out = held_out or {min(speakers, key=lambda speaker: num_by_speaker[speaker])}
    return {row.id for row in candidates if row.speaker in held_out}
