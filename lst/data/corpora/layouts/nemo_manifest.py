"""NeMo: JSON lines with audio_filepath, text, duration, and, for a part of a longer file, offset.

Tarred sets are read too: where an object has shard_id N, its audio_filepath is a member of ``audio_N.tar`` beside the
manifest or one folder above it (``-subM`` before the suffix is left out where only the name without it is a member).
Without an offset the file is meant whole, and its duration must agree. Several manifests in a folder are read together,
each a split where its name says so. Ids are made of the file's name, and the start in milliseconds.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from lst.data.audio.places import content_key, tar_directory
from lst.data.corpora.layouts.listing import NEMO, Found, Layout, Listing, safe_id, split_in_path
from lst.data.corpora.manifest import ALIASES, ManifestProblem, ManifestRow, parse_record, record_problems
from lst.data.corpora.records import json_records
from lst.errors import UserError
from lst.progress import Progress

_SUB = re.compile(r"-sub\d+(?=\.[^.]*$|$)")


def matches(listing: Listing) -> bool:
    return bool(listing.json_files(NEMO))


def load(listing: Listing) -> Found:
    manifests = [listing.file] if listing.file is not None else listing.json_files(NEMO)
    if not manifests:
        raise UserError(f"corpus {listing.root}: no file of JSON lines at its top has audio_filepath, as NeMo's have.")
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    without_id: set[int] = set()
    with Progress(None, "reading manifests", unit="row") as progress:
        for manifest in manifests:
            split = split_in_path(listing.root, manifest) if listing.file is None else ""
            for line, record in json_records(manifest):
                progress.advance()
                place = f"{manifest.name} line {line}"
                if isinstance(record, str):
                    problems.append(ManifestProblem(place, "", record))
                    continue
                row, faults = _row(record, place, manifest)
                problems += record_problems(row, faults)
                if not faults:
                    if not set(ALIASES["id"]) & set(record):
                        without_id.add(len(rows))
                    rows.append(row if row.split else replace(row, split=split))
    return _settle_ids(listing, rows, without_id), problems


def _row(record: dict[str, Any], place: str, manifest: Path) -> tuple[ManifestRow, list[str]]:
    folder = manifest.parent.absolute()
    shard_id = record.get("shard_id")
    row, faults = parse_record(record, place, folder)
    if shard_id is None:
        return row, faults
    if faults:
        # Its audio is in a tar; where, nobody has looked up.
        return replace(row, unread=row.unread | {"path"}), faults
    if isinstance(shard_id, bool) or not isinstance(shard_id, int):
        return row, [f"shard_id must be a whole number, not {str(shard_id)[:60]}"]
    member = str(record["audio_filepath"]).strip() if "audio_filepath" in record else Path(row.path).name
    tars = [place / f"audio_{shard_id}.tar" for place in (folder, folder.parent)]
    tar = next((tar for tar in tars if tar.is_file()), tars[0])
    try:
        members = tar_directory(*content_key(tar))
    except UserError as error:
        return row, [str(error)]
    plain = _SUB.sub("", member)
    return replace(row, path=tar, member=plain if member not in members and plain in members else member), []


def _settle_ids(listing: Listing, rows: list[ManifestRow], without_id: set[int]) -> list[ManifestRow]:
    """Ids of the rows that have none: the file's name, and where several files have it, their folders' too."""

    def made(row: ManifestRow, name: str) -> str:
        start = f"-{round(1000 * row.start_s):07d}" if row.is_segment else ""
        return safe_id(os.path.splitext(name)[0]).strip("_") + start

    names = {index: made(rows[index], Path(rows[index].member or rows[index].path).name) for index in without_id}
    counts = Counter(names.values())
    settled = []
    for index, row in enumerate(rows):
        if index in names:
            name = names[index]
            if counts[name] > 1:
                whole = row.member or os.path.relpath(str(row.path), listing.root.absolute())
                name = made(row, whole)
            row = replace(row, id=name)
        settled.append(row)
    return settled


LAYOUT = Layout("nemo", "NeMo (JSON lines with audio_filepath, offset, duration, text)", matches, load)
