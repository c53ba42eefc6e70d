"""Webdataset: tars of samples, KEY.flac (wav, mp3, ogg, opus) with KEY.txt or KEY.json beside it, one after the other.

A key is a member's name up to the first dot after its last slash. The text is that of KEY.txt, or the ``text`` of
KEY.json, which may give ``speaker``, ``split``, ``duration`` and whatever else a manifest's columns are, too. Other
members (KEY.cls, …) are left alone. A split is told by the tar's name or its folders. The audio is read where it lies
in the tar, so tars must not be compressed.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from lst.data.audio import AUDIO_SUFFIXES, open_location
from lst.data.audio.places import open_tar
from lst.data.corpora.layouts.listing import Found, Layout, Listing, safe_id, split_in_path
from lst.data.corpora.manifest import ALIASES, ManifestProblem, ManifestRow, parse_record
from lst.data.corpora.records import parse_json_object
from lst.errors import UserError
from lst.progress import Progress

MAX_TEXT_BYTES = 16 << 20  # of a member that is read as text
END_BYTES = 1024  # two blocks of zeros end a tar


@dataclass
class _Sample:
    """The members of one key; ``texts`` by their suffix."""

    key: str
    audio: list[str] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def _tars(listing: Listing) -> list[Path]:
    files = [listing.file] if listing.file is not None else listing.files
    return [file for file in files if file.suffix.lower() == ".tar"]


def matches(listing: Listing) -> bool:
    return bool(_tars(listing))


def load(listing: Listing) -> Found:
    tars = _tars(listing)
    if not tars:
        raise UserError(f"corpus {listing.file or listing.root}: there is no *.tar of audio and text.")
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    with Progress(len(tars), "reading tars", unit="tar") as progress:
        for tar in tars:
            split = split_in_path(listing.root, tar)
            _read_tar(tar.absolute(), listing.relative(tar), split, rows, problems)
            progress.advance()
    return rows, problems


def _read_tar(tar: Path, name: str, split: str, rows: list[ManifestRow], problems: list[ManifestProblem]) -> None:
    seen: set[str] = set()
    try:
        with open_location(tar) as file:
            for sample in _samples(tar, file):
                place = f"{name}, key {sample.key!r}"
                row, faults = _row(sample, tar, place)
                if sample.key in seen:
                    faults = [*faults, "its members stand in two places of the tar, or the key is there twice"]
                seen.add(sample.key)
                problems += [ManifestProblem(place, row.id, fault, tar) for fault in faults]
                if not faults:
                    rows.append(row if row.split else replace(row, split=split))
            file.seek(max(0, file.seek(0, 2) - END_BYTES))
            if file.read().strip(b"\0"):
                message = "has no end mark: it may be cut short, so that samples are missing"
                problems.append(ManifestProblem(name, "", message, tar))
    except UserError as error:
        problems.append(ManifestProblem(name, "", str(error), tar))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        after = f" after key {sorted(seen)[-1]!r}" if seen else ""
        message = f"is damaged or cut short{after}: {error}"
        problems.append(ManifestProblem(name, "", message, tar))


def _samples(tar: Path, file: BinaryIO) -> Iterator[_Sample]:
    """The samples of a tar; audio is passed over, texts are read."""
    sample: _Sample | None = None
    with open_tar(tar, file) as archive:
        for member in archive:
            if not member.isreg() or Path(member.name).name.startswith("."):
                continue
            folder, slash, base = member.name.rpartition("/")
            stem, _, kind = base.partition(".")
            key = f"{folder}{slash}{stem}"
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = _Sample(key)
            suffix = f".{kind.lower().rpartition('.')[2]}"
            if suffix in AUDIO_SUFFIXES:
                sample.audio.append(member.name)
            elif kind.lower() in ("txt", "json"):
                if member.size > MAX_TEXT_BYTES:
                    sample.faults.append(f"{kind} has {member.size:,} bytes, at most {MAX_TEXT_BYTES:,} are read")
                    continue
                content = archive.extractfile(member)
                sample.texts[kind.lower()] = content.read() if content else b""
    if sample is not None:
        yield sample


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
    if "txt" in texts:
        record = {name: value for name, value in record.items() if name not in ALIASES["text"]}
        record["text"] = " ".join(texts["txt"].split())
    if len(sample.audio) != 1:
        found = f"several audio members: {', '.join(sample.audio)[:100]}" if sample.audio else "no audio"
        faults.append(f"has {found}; one with one of {' '.join(AUDIO_SUFFIXES)} is needed")
    try:
        sample.key.encode()
    except UnicodeEncodeError:
        faults.append("the key is not UTF-8")
    own_id = any(record.get(name) not in (None, "") for name in ALIASES["id"])
    row, found_faults = parse_record(record, place, tar.parent)
    name = row.id if own_id else safe_id(sample.key)
    return replace(row, id=name, member=sample.audio[0] if sample.audio else ""), faults + found_faults


LAYOUT = Layout("webdataset", "webdataset (*.tar with KEY.flac and KEY.txt or KEY.json)", matches, load)
