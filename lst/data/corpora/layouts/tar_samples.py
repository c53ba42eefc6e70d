"""Webdataset: tars of samples, KEY.flac (wav, mp3, ogg, opus) with KEY.txt or KEY.json beside it, one after the other.

A key is a member's name up to the first dot after its last slash. The text comes from KEY.txt (or KEY.trans.txt,
KEY.transcript.txt, KEY.normalized.txt, KEY.lab, …), or from ``text`` in
KEY.json, which may also give ``speaker``, ``split``, ``duration`` and the other columns of a manifest. Other members
(KEY.cls, …) are ignored. The name of the tar or of its folders gives the split. Audio is read at its place in the tar,
so tars must not be compressed.
"""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from lst.data.audio import AUDIO_SUFFIXES, open_location
from lst.data.audio.tars import TAR_ERRORS, member_fault, members, open_tar
from lst.data.corpora.layouts.listing import Found, Layout, Listing, split_in_path
from lst.data.corpora.manifest import ALIASES, parse_record
from lst.data.corpora.records import parse_json_object
from lst.data.corpora.rows import ManifestRow
from lst.errors import UserError
from lst.progress import Progress

# Members with a transcript, by their suffixes: the first that is there counts.
PLAIN_TEXTS = ("txt", "trans.txt", "transcript.txt", "transcript", "normalized.txt", "lab", "text", "original.txt")
TEXTS = (*PLAIN_TEXTS, "json")
MAX_TEXT_BYTES = 16 << 20  # of a member that is read as text
PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
END_BYTES = 1024  # two blocks of zeros end a tar


@dataclass
class _Sample:
    """The members with one key: names of audio, contents of texts by their suffix."""

    key: str
    audio: list[str] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def _find(listing: Listing) -> list[Path]:
    files = [listing.file] if listing.file is not None else listing.files
    return [file for file in files if file.suffix.lower() == ".tar"]


def _read(listing: Listing, tars: list[Path], found: Found) -> None:
    with Progress(len(tars), "reading tars", unit="tar") as progress:
        for tar in tars:
            _read_tar(tar.absolute(), listing.relative(tar), split_in_path(listing.root, tar), found)
            progress.advance()
    _add_packed(listing, found)


def _add_packed(listing: Listing, found: Found) -> None:
    """Adds a problem for each compressed tar beside those that are read."""
    for file in listing.files if listing.file is None else ():
        if file.name.lower().endswith(PACKED_SUFFIXES):
            message = "is a compressed tar, whose samples would be left out. Unpack it (gunzip FILE), or move it away"
            found.fail(listing.relative(file), message, path=file, kind="passed over")


def _read_tar(tar: Path, name: str, split: str, found: Found) -> None:
    keys: set[str] = set()
    try:
        with open_location(tar) as file:
            for sample in _samples(tar, file):
                place = f"{name}, key {sample.key!r}"
                row, faults = _row(sample, tar, place)
                if sample.key in keys:
                    faults = [*faults, "its members stand in two places of the tar, or the key is there twice"]
                keys.add(sample.key)
                for fault in faults:
                    found.fail(place, fault, row.id, tar)
                if not faults:
                    found.rows.append(row if row.split else replace(row, split=split))
            file.seek(max(0, file.seek(0, 2) - END_BYTES))
            if file.read().strip(b"\0"):
                found.fail(name, "has no end mark: it may be cut short, so that samples are missing", path=tar)
    except UserError as error:
        found.fail(name, str(error), path=tar)
    except TAR_ERRORS as error:
        after = f" after key {sorted(keys)[-1]!r}" if keys else ""
        found.fail(name, f"is damaged or cut short{after}: {error}", path=tar)


def _samples(tar: Path, file: BinaryIO) -> Iterator[_Sample]:
    """The samples of a tar: texts are read, audio is only named."""
    with open_tar(tar, file) as archive:
        shown = (member for member in members(archive, file) if not Path(member.name).name.startswith("."))
        for key, together in itertools.groupby(shown, lambda member: _key_and_kind(member.name)[0]):
            sample = _Sample(key)
            for member in together:
                _add_member(sample, member, file)
            yield sample


def _add_member(sample: _Sample, member: tarfile.TarInfo, file: BinaryIO) -> None:
    """Adds a member to its sample: the content of a text, the name of audio, or why it cannot be used."""
    kind = _key_and_kind(member.name)[1]
    is_audio, is_text = f".{kind.rpartition('.')[2]}" in AUDIO_SUFFIXES, kind in TEXTS
    if is_audio:
        sample.audio.append(member.name)
    if (fault := member_fault(member)) and (is_audio or is_text):
        sample.faults.append(f"{kind} {fault}")
    elif is_text and kind in sample.texts:
        sample.faults.append(f"{kind} is there twice")
    elif is_text and member.size > MAX_TEXT_BYTES:
        sample.faults.append(f"{kind} has {member.size:,} bytes, at most {MAX_TEXT_BYTES:,} are read")
    elif is_text:
        file.seek(member.offset_data)
        sample.texts[kind] = file.read(member.size)


def _key_and_kind(name: str) -> tuple[str, str]:
    """A member's name without its suffixes, and these in lower case, without the first dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return f"{folder}{slash}{stem}", kind.lower()


def _row(sample: _Sample, tar: Path, place: str) -> tuple[ManifestRow, list[str]]:
    """A sample as a row, and what is wrong with it."""
    faults = list(sample.faults)
    texts: dict[str, str] = {}
    for kind, content in sample.texts.items():
        try:
            texts[kind] = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            faults.append(f"{kind} is not UTF-8: its byte {error.start + 1} is 0x{content[error.start]:02x}")
    record = parse_json_object(texts["json"]) if "json" in texts else {}
    if isinstance(record, str):
        faults.append(f"json: {record}")
        record = {}
    record = {name: value for name, value in record.items() if name not in (*ALIASES["path"], *ALIASES["member"])}
    record["path"] = str(tar)
    if kind := next((kind for kind in PLAIN_TEXTS if kind in texts), ""):
        record = {name: value for name, value in record.items() if name not in ALIASES["text"]}
        record["text"] = " ".join(texts[kind].split())
    if len(sample.audio) != 1:
        found = f"several audio members: {', '.join(sample.audio)[:100]}" if sample.audio else "no audio"
        faults.append(f"has {found}; one with one of {' '.join(AUDIO_SUFFIXES)} is needed")
    try:
        sample.key.encode()
    except UnicodeEncodeError:
        faults.append("the key is not UTF-8")
    row, found_faults = parse_record(record, place, tar.parent)
    name = row.id if row.has_own_id else sample.key
    return replace(row, id=name, member=sample.audio[0] if sample.audio else ""), faults + found_faults


LAYOUT = Layout(
    "webdataset",
    looked_for="webdataset (*.tar with KEY.flac and KEY.txt or KEY.json)",
    absent="there is no *.tar of audio and text.",
    find=_find,
    read=_read,
)
