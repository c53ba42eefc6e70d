"""Which utterances are held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from lst.data.corpora.manifest import ManifestRow
from lst.errors import UserError

MIN_SPEAKERS_TO_HOLD_OUT = 5


def assign_splits(rows: Sequence[ManifestRow], valid_share: float, seed: int) -> list[ManifestRow]:
    """Gives every row a split, ``"train"`` or ``"valid"``, the same whatever the rows' order.

    A corpus with a ``"valid"`` row keeps its splits, and rows without one become ``"train"``. In any other, about
    ``valid_share`` of the utterances are held out by a seeded hash: among the rows without a split, or among all where
    the corpus calls every row ``"train"``. With five or more speakers that no training row shares, whole speakers are
    held out, as many as ``valid_share`` has room for, and the one with fewest utterances where it has room for none.
    Else single utterances are, at least one.

    Args:
        rows: the rows, of unique ids.
        valid_share: share of utterances to hold out, from 0 (none at all) to below 1.
        seed: another seed, another choice.

    Returns:
        The rows in their order.

    Raises:
        UserError: ``valid_share`` is out of its range, or a single utterance is all there is.
    """
    if not 0 <= valid_share < 1:
        raise UserError(f"valid_share={valid_share} must be from 0 to below 1.")
    if rows and all(row.split == "valid" for row in rows):
        # A development set alone (LibriSpeech's dev-clean, say): something must train.
        rows = [replace(row, split="") for row in rows]
    candidates = [row for row in rows if not row.split] or list(rows)
    held_out: set[str] = set()
    if valid_share > 0 and rows and not any(row.split == "valid" for row in rows):
        if len(rows) < 2:
            raise UserError("the corpus has one usable utterance: nothing can be held out. Add more, or valid_share=0.")
        held_out = _held_out_ids(rows, candidates, valid_share, seed)
    return [replace(row, split="valid" if row.id in held_out else row.split or "train") for row in rows]


def _held_out_ids(
    rows: Sequence[ManifestRow], candidates: Sequence[ManifestRow], valid_share: float, seed: int
) -> set[str]:
    """Ids of the candidates to hold out: of whole speakers where five are free to choose from, else single ones."""

    def draw(kind: str, name: str) -> str:
        return hashlib.sha256(f"{seed}:{kind}:{name}".encode()).hexdigest()

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
