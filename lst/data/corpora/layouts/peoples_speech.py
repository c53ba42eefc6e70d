"""People's Speech: JSON lines, one object a source document, its utterances in lists of equal length.

::

    {"identifier": "…", "training_data": {"duration_ms": [15000, …], "label": ["text", …], "name": ["a/0.flac", …]}}

Two more forms are read: lists of objects (``"training_data": [{"duration_ms": …, "label": …, "name": …}, …]``) and one
flat object an utterance (``id`` or ``name``, ``text`` or ``label``, ``duration_ms``), as on the Hugging Face hub. The
audio of ``train/clean.json`` lies in ``train/clean/`` or ``train/``, as files or in tars. The folder names the split.
Speakers are not known: the document is used instead, so that held-out utterances come from other documents.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from lst.data.audio.places import as_on_disk, content_key
from lst.data.audio.tars import tar_directory
from lst.data.corpora.layouts.listing import (
    PEOPLES_SPEECH,
    Found,
    Layout,
    Listing,
    split_in_path,
)
from lst.data.corpora.manifest import JSON_SUFFIXES
from lst.data.corpora.provenance import provenance_of
from lst.data.corpora.records import Record
from lst.data.corpora.rows import UNKNOWN_SPEAKER, ManifestRow
from lst.errors import UserError
from lst.progress import Progress

LISTS = ("name", "label", "duration_ms")
PARTS = ("train", "validation", "test")


def _find(listing: Listing) -> list[Path]:
    parts = [
        listing.below(listing.root / part) for part in PARTS if listing.file is None and (listing.root / part).is_dir()
    ]
    return [file for part in (listing, *parts) for file in part.json_files(PEOPLES_SPEECH)]


def _read(listing: Listing, manifests: list[Path], found: Found) -> None:
    with Progress(None, "reading manifests", unit="document") as progress:
        for manifest in manifests:
            audio = _AudioFinder(manifest, found)
            split = split_in_path(listing.root, manifest)
            for place, record in found.records(listing, manifest, progress):
                for number, item in enumerate(_utterances(record)):
                    item_place = f"{place}, item {number}"
                    try:
                        found.rows.append(_row(item, record, item_place, split, audio))
                    except ValueError as error:
                        found.fail(item_place, str(error))


def _utterances(record: Record) -> Iterator[Record | str]:
    """The utterances of a line as objects; a text says what is wrong with one."""
    data = record.get("training_data", record)
    if isinstance(data, list):
        yield from (item if isinstance(item, dict) else "is not an object in the list training_data" for item in data)
    elif not isinstance(data, dict):
        yield "training_data must be an object of lists or a list of objects"
    elif not any(isinstance(data.get(name), list) for name in LISTS):
        yield data
    else:
        lists = [data.get(name) for name in LISTS]
        if not all(isinstance(values, list) for values in lists):
            yield f"training_data needs the lists {', '.join(LISTS)}"
        elif len({len(values) for values in lists if isinstance(values, list)}) != 1:
            lengths = ", ".join(f"{name} {len(data[name])}" for name in LISTS)
            yield f"the lists of training_data differ in length: {lengths}"
        else:
            for values in zip(*(data[name] for name in LISTS), strict=True):
                yield dict(zip(LISTS, values, strict=True))


def _row(item: Record | str, record: Record, place: str, split: str, audio: _AudioFinder) -> ManifestRow:
    """An utterance as a row; ``ValueError`` says what is wrong with it."""
    if isinstance(item, str):
        raise ValueError(item)
    held = item.get("audio")
    name = item.get("name") or item.get("audio_path") or (held.get("path") if isinstance(held, dict) else held)
    name = name or item.get("id")
    text = item.get("label", item.get("text"))
    duration_ms = item.get("duration_ms")
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise ValueError(f"name must be the audio file's, not {str(name)[:60]!r}")
    if not isinstance(text, str):
        raise ValueError(f"label must be the transcript, not {str(text)[:60]!r}")
    is_number = isinstance(duration_ms, (int, float)) and not isinstance(duration_ms, bool)
    if duration_ms is not None and not (is_number and 0 <= duration_ms < math.inf):
        raise ValueError(f"duration_ms must be a number of at least 0, not {str(duration_ms)[:60]}")
    duration_s = None if duration_ms is None else min(duration_ms, 10**15) / 1000
    path, member = audio.find(name.strip())
    document = record.get("identifier") or record.get("audio_document_id")
    speaker = (str(document).strip() if isinstance(document, (str, int)) else "") or UNKNOWN_SPEAKER
    stem = name.strip().removesuffix(Path(name).suffix)
    provenance = provenance_of(item, record)
    return ManifestRow(stem, path, text, speaker, split, duration_s, place=place, member=member, provenance=provenance)


class _AudioFinder:
    """Finds the audio that a manifest names: as a file, or in one of the tars beside the manifest."""

    def __init__(self, manifest: Path, found: Found) -> None:
        parent = manifest.parent.absolute()
        stem = manifest.name
        for suffix in sorted(JSON_SUFFIXES, key=len, reverse=True):
            stem = stem.removesuffix(suffix)
        self.folders = [parent / stem, parent]
        self.members: dict[str, tuple[Path, str]] = {}
        folder = next((folder for folder in self.folders if folder.is_dir() and any(folder.glob("*.tar"))), None)
        for tar in sorted(folder.glob("*.tar")) if folder else []:
            try:
                self.members.update({_plain(name): (tar, name) for name in tar_directory(*content_key(tar))})
            except UserError as error:
                found.fail(str(tar), str(error), path=tar)

    def find(self, name: str) -> tuple[Path, str]:
        """The audio file and "", or the tar and the member; the file where it was expected if it is nowhere."""
        if _plain(name) in self.members:
            return self.members[_plain(name)]
        paths = [Path(as_on_disk(folder / name.removeprefix("./"))) for folder in self.folders]
        return next((path for path in paths if os.path.isfile(path)), paths[0]), ""


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.removeprefix("./"))


LAYOUT = Layout(
    PEOPLES_SPEECH,
    looked_for="People's Speech (JSON lines with training_data)",
    absent="no file of JSON lines has training_data, as People's Speech has.",
    find=_find,
    read=_read,
    reads_any_file=True,
)
