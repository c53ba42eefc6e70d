"""Corpora as they are found on disk: which layout a folder or file has, its utterances, and what is held out.

    manifest         the project's own (see ``lst.data.manifest``): a file, or a folder with one
    librispeech      train-clean-100/103/1240/103-1240.trans.txt, 103-1240-0000.flac, …
    ljspeech         metadata.csv, wavs/
    vctk             txt/, wav48_silence_trimmed/ or wav48/
    common_voice     train.tsv, dev.tsv, test.tsv or validated.tsv, clips/
    mls              train|dev|test/transcripts.txt, audio/
    peoples_speech   JSON lines with training_data
    lhotse           cuts.jsonl, cuts.jsonl.gz
    nemo             JSON lines with audio_filepath; tarred sets too
    webdataset       tars of audio and text

In a folder that holds one corpus, audio without a transcript and a transcript without audio are both problems.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lst import storage
from lst.data.config import AUTO_LAYOUT, LAYOUT_NAMES
from lst.data.layouts import LAYOUTS
from lst.data.layouts.listing import Found, Listing
from lst.data.layouts.plain_manifest import has_named_manifest
from lst.data.manifest import EXAMPLES, ManifestProblem, ManifestRow
from lst.data.remote_corpus import likeness_of
from lst.errors import UserError
from lst.storage import Location

MIN_SPEAKERS_TO_HOLD_OUT = 5


def load_corpus(place: Location, layout: str = AUTO_LAYOUT) -> tuple[list[ManifestRow], list[ManifestProblem], str]:
    """Reads a corpus: a manifest file, or a folder in one of the layouts above.

    A folder with ``manifest.{jsonl,tsv,csv}`` is taken for that; any other for the first of ``LAYOUTS`` that it has.
    Hidden files (``.name``) belong to no corpus. Headers of audio files are not read: see ``check_rows``.

    Args:
        place: the folder or file, or its URL.
        layout: a name of ``LAYOUTS``, or ``auto``.

    Returns:
        The rows, the problems of those utterances that gave none, and the layout's name. For ``apply_on_error``,
        utterances are ``len(rows) + num_bad_rows(problems)``.

    Raises:
        UserError: the path is absent, its layout is unknown or ambiguous, or it holds no utterance.
    """
    if layout not in LAYOUT_NAMES:
        raise UserError(f"layout={layout}: allowed are {', '.join(LAYOUT_NAMES)}")
    path = storage.locate(place)
    if not isinstance(path, Path):
        with likeness_of(path) as likeness:
            rows, problems, layout = load_corpus(likeness.path, layout)
            return [likeness.row(row) for row in rows], [likeness.problem(problem) for problem in problems], layout
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"corpus {path} does not exist. Name a folder of audio and transcripts, or a manifest file.")
    listing = Listing(path)
    if layout == AUTO_LAYOUT:
        layout = find_layout(listing)
    rows, problems = _load(listing, layout)
    if not rows and not problems:
        raise UserError(f"corpus {path} ({layout} layout) holds no utterance: its transcripts are empty.")
    return rows, problems, layout


def _load(listing: Listing, layout: str) -> Found:
    return LAYOUTS[layout].load(listing)


def find_layout(listing: Listing) -> str:
    """The name of a listing's layout; ``UserError`` with what was looked for and found where it has none."""
    if has_named_manifest(listing):
        return "manifest"
    for layout in LAYOUTS.values():
        if layout.matches(listing):
            return layout.name
    files = listing.files
    shown = [str(file.relative_to(listing.root)) for file in files[:5]]
    found = ", ".join(shown) + (f" … ({len(files):,} files)" if len(files) > len(shown) else "")
    looked_for = "; ".join(layout.looked_for for layout in reversed(list(LAYOUTS.values())))
    raise UserError(
        f"corpus {listing.root} has no layout that is known here.\n"
        f"Looked for: {looked_for}.\nFound: {found or 'no file at all'}\n"
        f"Write a manifest.tsv, tab separated with a header, paths from its own folder. For example:\n"
        f"{EXAMPLES['.tsv']}"
    )


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
