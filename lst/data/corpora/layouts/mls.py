"""Multilingual LibriSpeech: ``train|dev|test/transcripts.txt`` (ID, tab, text) and ``audio/SPEAKER/BOOK/ID.flac``.

``segments.txt`` (ID, URL, start, end between tabs) states the durations; they are compared with the audio's. The first
field of the id is the speaker, the folder is the split. ``metainfo.txt`` is not needed.
"""

from __future__ import annotations

from pathlib import Path

from lst.data.corpora.layouts.listing import Found, Layout, Listing, audio_by_stem, split_in_name
from lst.data.corpora.manifest import parse_number
from lst.data.corpora.records import decoded_lines
from lst.data.corpora.rows import ManifestRow
from lst.progress import Progress

TRANSCRIPTS, SEGMENTS, AUDIO_FOLDER = "transcripts.txt", "segments.txt", "audio"
SPLIT_FOLDERS = ("train", "dev", "test")


def _find(listing: Listing) -> list[Path]:
    if listing.file is not None:
        return [listing.file] if listing.file.name == TRANSCRIPTS else []
    folders = [listing.root, *(listing.root / name for name in SPLIT_FOLDERS)]
    found = [folder / TRANSCRIPTS for folder in folders]
    return [file for file in found if file.is_file() and (file.parent / AUDIO_FOLDER).is_dir()]


def _read(listing: Listing, transcripts: list[Path], found: Found) -> None:
    with Progress(None, "reading transcripts", unit="row") as progress:
        for transcript in transcripts:
            _read_part(listing, transcript, found, progress)


def _read_part(listing: Listing, transcript: Path, found: Found, progress: Progress) -> None:
    audio_folder = transcript.parent / AUDIO_FOLDER
    split = split_in_name(transcript.parent.resolve().name)
    durations_s = _read_segments(listing, transcript.parent / SEGMENTS, found)
    audio_files = listing.below(audio_folder).files if audio_folder.is_dir() else []
    audio = audio_by_stem(audio_files)
    for line, content, fault in decoded_lines(transcript):
        progress.advance()
        place = f"{listing.relative(transcript)} line {line}"
        utterance_id, tab, text = content.partition("\t")
        name = utterance_id.strip()
        if fault or not tab:
            found.fail(place, fault or "has no tab: allowed is ID, a tab, the text", name[:100])
            continue
        speaker, _, rest = name.partition("_")
        stem = audio_folder / speaker / rest.split("_")[0] / name
        row = ManifestRow(name, stem, text.strip(), speaker, split, durations_s.get(name), place=place)
        found.pair(row, audio, listing.relative(stem))
    if listing.file is None:
        found.add_unused(listing.root, audio_files, f"{listing.relative(transcript)} has no line for it")


def _read_segments(listing: Listing, file: Path, found: Found) -> dict[str, float]:
    """Seconds of each utterance; empty if the file is absent. A line that cannot be read becomes a problem."""
    durations_s: dict[str, float] = {}
    for line, content, fault in decoded_lines(file) if file.is_file() else ():
        faults = [fault] if fault else []
        cells = [cell.strip() for cell in content.split("\t")]
        if not fault and len(cells) != 4:
            faults.append(f"has {len(cells)} cells between tabs, 4 are allowed: ID, URL, start, end")
        if not faults:
            start_s, end_s = (
                parse_number(cell or "?", name, faults) for cell, name in zip(cells[2:], ("start", "end"), strict=True)
            )
            if start_s is not None and end_s is not None:
                if end_s > start_s:
                    durations_s[cells[0]] = end_s - start_s
                else:
                    faults.append(f"the segment ends at {end_s:g} s, and starts at {start_s:g} s")
        for text in faults:
            found.fail(f"{listing.relative(file)} line {line}", text, cells[0][:100])
    return durations_s


LAYOUT = Layout(
    "mls",
    looked_for=f"MLS ({TRANSCRIPTS} beside {AUDIO_FOLDER}/ in train/, dev/, test/)",
    absent=f"MLS has {TRANSCRIPTS} beside {AUDIO_FOLDER}/ in train/, dev/ or test/, and it is not there.",
    find=_find,
    read=_read,
)
