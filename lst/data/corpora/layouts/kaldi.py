"""Kaldi data folders: ``wav.scp`` and ``text``, with ``segments``, ``utt2spk`` or ``spk2utt`` and
``reco2file_and_channel``.

::

    wav.scp     RECORDING PATH          text        UTTERANCE WORDS …
    segments    UTTERANCE RECORDING START END      utt2spk     UTTERANCE SPEAKER

The corpus is such a folder, or one with several of them at any depth (``data/train``, ``data/dev``): the folder's name
gives the split. Paths start from the folder of ``wav.scp``, or from one above it, up to the corpus, or from the current
folder. Commands (``sph2pipe … |``) are not run: such a line is a problem. An end of −1 is the end of the recording.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lst.data.audio import as_on_disk
from lst.data.corpora.layouts.listing import Found, Layout, Listing, split_in_path
from lst.data.corpora.manifest import parse_number
from lst.data.corpora.records import decoded_lines
from lst.data.corpora.rows import UNKNOWN_SPEAKER, ManifestRow
from lst.progress import Progress
from lst.storage import PlaceError, named_in

AUDIO, TEXT, SEGMENTS = "wav.scp", "text", "segments"
SPEAKERS, UTTERANCES, CHANNELS = "utt2spk", "spk2utt", "reco2file_and_channel"
CHANNEL_NAMES = {"A": 0, "B": 1}


class _Segment(NamedTuple):
    recording: str
    start_s: float
    end_s: float | None


def _find(listing: Listing) -> list[Path]:
    """The ``wav.scp`` of each data folder."""
    if listing.file is not None:
        return [listing.file] if listing.file.name == AUDIO else []
    files = set(listing.files)
    return sorted(file for file in files if file.name == AUDIO and file.with_name(TEXT) in files)


def _read(listing: Listing, lists: list[Path], found: Found) -> None:
    with Progress(None, "reading data folders", unit="row") as progress:
        for wav_scp in lists:
            _read_folder(listing, wav_scp.parent, found, progress)


def _read_folder(listing: Listing, folder: Path, found: Found, progress: Progress) -> None:
    recordings = dict(_pairs(listing, folder / AUDIO, found))
    speakers = {
        name: speaker for speaker, names in _pairs(listing, folder / UTTERANCES, found) for name in names.split()
    } | dict(_pairs(listing, folder / SPEAKERS, found))
    channels = {name: cells.split()[-1] for name, cells in _pairs(listing, folder / CHANNELS, found)}
    segments = _segments(listing, folder / SEGMENTS, found)
    split = split_in_path(listing.root, folder / TEXT)
    for line, content, fault in decoded_lines(folder / TEXT):
        progress.advance()
        place = f"{listing.relative(folder / TEXT)} line {line}"
        if fault:
            found.fail(place, fault)
            continue
        name, *words = content.split()
        segment = segments.get(name) if segments else _Segment(name, 0.0, None)
        if segment is None or segment.recording not in recordings:
            lack = (
                f"{SEGMENTS} has no line for it"
                if segment is None
                else f"{AUDIO} has no recording {segment.recording!r}"
            )
            found.fail(place, f"transcript without audio: {lack}", name, kind="missing audio")
            continue
        try:
            path = _audio_path(recordings[segment.recording], folder, listing.root)
        except ValueError as error:
            found.fail(place, str(error), name)
            continue
        channel = channels.get(segment.recording, "")
        row = ManifestRow(
            name,
            path,
            " ".join(words),
            speakers.get(name, UNKNOWN_SPEAKER),
            split,
            None if segment.end_s is None else segment.end_s - segment.start_s,
            place=place,
            start_s=segment.start_s,
            channel=int(channel) if channel.isdecimal() else CHANNEL_NAMES.get(channel.upper()),
            is_segment=bool(segments),
        )
        found.rows.append(row)


def _pairs(listing: Listing, file: Path, found: Found) -> Iterator[tuple[str, str]]:
    """The first word and the rest of each line; none if the file is absent."""
    for line, content, fault in decoded_lines(file) if file.is_file() else ():
        cells = content.split(None, 1)
        if fault or len(cells) != 2:
            found.fail(f"{listing.relative(file)} line {line}", fault or "has one cell, two are needed", *cells[:1])
        else:
            yield cells[0], cells[1].strip()


def _segments(listing: Listing, file: Path, found: Found) -> dict[str, _Segment]:
    segments: dict[str, _Segment] = {}
    for name, rest in _pairs(listing, file, found):
        cells, faults = rest.split(), list[str]()
        if len(cells) != 3:
            faults.append(f"has {len(cells) + 1} cells, 4 are needed: utterance, recording, start, end")
        else:
            start_s = parse_number(cells[1], "start", faults)
            end_s = None if cells[2] in ("-1", "-1.0") else parse_number(cells[2], "end", faults)
            if start_s is not None and end_s is not None and end_s <= start_s:
                faults.append(f"the segment ends at {end_s:g} s, and starts at {start_s:g} s")
            segments[name] = _Segment(cells[0], start_s or 0.0, end_s)
        for fault in faults:
            found.fail(listing.relative(file), fault, name)
    return segments


def _audio_path(value: str, folder: Path, root: Path) -> Path | str:
    """The audio that a line of ``wav.scp`` names; ``ValueError`` says why it cannot be read."""
    if value.endswith("|"):
        raise ValueError(
            f"{AUDIO} has a command, and commands are not run: {value[:100]!r}. Write the audio into files first"
        )
    if value == "-" or ".ark:" in value:
        raise ValueError(f"{AUDIO} names {value[:100]!r}, which is no audio file. Write the audio into files first")
    try:
        place = named_in(folder.absolute(), value)
    except PlaceError as error:
        raise ValueError(str(error)) from None
    if isinstance(place, str) or os.path.isabs(value):
        return as_on_disk(place)
    above = [folder.absolute(), *folder.absolute().parents]
    tried = [parent / value for parent in above[: 1 + len(Path(os.path.relpath(folder, root)).parts)]]
    return next((path for one in (*tried, Path(value).absolute()) if os.path.isfile(path := as_on_disk(one))), place)


LAYOUT = Layout(
    "kaldi",
    looked_for=f"Kaldi ({AUDIO} and {TEXT}, with {SEGMENTS} and {SPEAKERS})",
    absent=f"a Kaldi data folder has {AUDIO} beside {TEXT}.",
    find=_find,
    read=_read,
    lists=(AUDIO, TEXT, SEGMENTS, SPEAKERS, UTTERANCES, CHANNELS),
)
