"""NeMo: JSON lines with audio_filepath, text, duration, and, for a part of a longer file, offset.

Tarred sets are read too: if an object has shard_id N, its audio_filepath is a member of ``audio_N.tar`` beside the
manifest or one folder above it. If the tar has the name only without its ``-subM``, that member is read. Without an
offset the row is the whole file, and its duration must agree. All manifests in a folder are read together; the name of
each may give a split.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from lst.data.audio.places import content_key
from lst.data.audio.tars import tar_directory
from lst.data.corpora.layouts.listing import NEMO, Found, Layout, Listing, split_in_path
from lst.data.corpora.manifest import parse_record, record_problems
from lst.data.corpora.records import Record
from lst.data.corpora.rows import ManifestRow
from lst.errors import UserError
from lst.progress import Progress

# It becomes part of a file's name.
MAX_SHARD_ID = 999_999_999
_SUB = re.compile(r"-sub\d+(?=\.[^.]*$|$)")


def _read(listing: Listing, manifests: list[Path], found: Found) -> None:
    with Progress(None, "reading manifests", unit="row") as progress:
        for manifest in manifests:
            split = split_in_path(listing.root, manifest) if listing.file is None else ""
            for place, record in found.records(listing, manifest, progress):
                row, faults = _row(record, place, manifest)
                found.problems += record_problems(row, faults)
                if not faults:
                    found.rows.append(row if row.split else replace(row, split=split))


def _row(record: Record, place: str, manifest: Path) -> tuple[ManifestRow, list[str]]:
    folder = manifest.parent.absolute()
    shard_id = record.get("shard_id")
    row, faults = parse_record(record, place, folder)
    if shard_id is None:
        return row, faults
    if faults:
        # The tar that holds the audio has not been looked up.
        return replace(row, unread=row.unread | {"path"}), faults
    if isinstance(shard_id, bool) or not isinstance(shard_id, int) or not 0 <= shard_id <= MAX_SHARD_ID:
        return row, [f"shard_id must be a whole number from 0 to {MAX_SHARD_ID}, not {str(shard_id)[:60]}"]
    member = str(record["audio_filepath"]).strip() if "audio_filepath" in record else Path(row.path).name
    tars = [place / f"audio_{shard_id}.tar" for place in (folder, folder.parent)]
    tar = next((tar for tar in tars if tar.is_file()), tars[0])
    try:
        members = tar_directory(*content_key(tar))
    except UserError as error:
        return row, [str(error)]
    plain = _SUB.sub("", member)
    return replace(row, path=tar, member=plain if member not in members and plain in members else member), []


LAYOUT = Layout(
    NEMO,
    looked_for="NeMo (JSON lines with audio_filepath, offset, duration, text)",
    absent="no file of JSON lines at its top has audio_filepath, as NeMo's have.",
    find=lambda listing: listing.json_files(NEMO),
    read=_read,
    reads_any_file=True,
)
