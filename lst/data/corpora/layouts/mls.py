"""Multilingual LibriSpeech: ``train|dev|test/transcripts.txt`` (ID, tab, text) and ``audio/SPEAKER/BOOK/ID.flac``.

Of ``segments.txt`` (ID, URL, start, end between tabs) the difference is the stated duration, which is compared with the
audio. The id's first field is the speaker, the folder the split. Nothing in ``metainfo.txt`` is needed.
"""

from __future__ import annotations

from pathlib import Path

from lst.data.corpora.layouts.listing import (
    Found,
    Layout,
    Listing,
    audio_by_stem,
    audio_without_transcript,
    split_in_name,
    transcript_without_audio,
)
from lst.data.corpora.manifest import ManifestProblem, ManifestRow, parse_number
from lst.data.corpora.records import decoded_lines
from lst.errors import UserError
from lst.progress import Progress

TRANSCRIPTS, SEGMENTS, AUDIO_FOLDER = "transcripts.txt", "segments.txt", "audio"
SPLIT_FOLDERS = ("train", "dev", "test")


def _transcripts(listing: Listing) -> list[Path]:
    if listing.file is not None:
        return [listing.file] if listing.file.name == TRANSCRIPTS else []
    folders = [listing.root, *(listing.root / name for name in SPLIT_FOLDERS)]
    found = [folder / TRANSCRIPTS for folder in folders]
    return [file for file in found if file.is_file() and (file.parent / AUDIO_FOLDER).is_dir()]


def matches(listing: Listing) -> bool:
    return bool(_transcripts(listing))


def load(listing: Listing) -> Found:
    transcripts = _transcripts(listing)
    if not transcripts:
        raise UserError(
            f"corpus {listing.file or listing.root}: MLS has {TRANSCRIPTS} beside {AUDIO_FOLDER}/ in train/, dev/ or "
            "test/, and it is not there."
        )
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    with Progress(None, "reading transcripts", unit="row") as progress:
        for transcript in transcripts:
            _read_part(listing, transcript, rows, problems, progress)
    return rows, problems


def _read_part(
    listing: Listing,
    transcript: Path,
    rows: list[ManifestRow],
    problems: list[ManifestProblem],
    progress: Progress,
) -> None:
    folder = transcript.parent
    split = split_in_name(folder.resolve().name)
    durations_s = _read_segments(listing, folder / SEGMENTS, problems)
    audio_files = listing.below(folder / AUDIO_FOLDER).files if (folder / AUDIO_FOLDER).is_dir() else []
    audio = audio_by_stem(audio_files)
    used: list[Path] = []
    for line, content, fault in decoded_lines(transcript):
        progress.advance()
        place = f"{listing.relative(transcript)} line {line}"
        utterance_id, tab, text = content.partition("\t")
        utterance_id = utterance_id.strip()
        if fault or not tab:
            message = fault or "has no tab: allowed is ID, a tab, the text"
            problems.append(ManifestProblem(place, utterance_id[:100], message))
            continue
        speaker, _, rest = utterance_id.partition("_")
        stem = folder / AUDIO_FOLDER / speaker / rest.split("_")[0] / utterance_id
        if stem not in audio:
            problems.append(transcript_without_audio(place, utterance_id, listing.relative(stem)))
            continue
        used.append(audio[stem])
        rows.append(
            ManifestRow(
                utterance_id, audio[stem], text.strip(), speaker, split, durations_s.get(utterance_id), place=place
            )
        )
    if listing.file is None:
        remedy = f"{listing.relative(transcript)} has no line for it"
        problems += audio_without_transcript(listing.root, audio_files, used, remedy)


def _read_segments(listing: Listing, file: Path, problems: list[ManifestProblem]) -> dict[str, float]:
    """Seconds of each utterance; a line that cannot be read is a problem."""
    durations_s: dict[str, float] = {}
    if not file.is_file():
        return durations_s
    for line, content, fault in decoded_lines(file):
        faults = [fault] if fault else []
        cells = content.split("\t")
        if not fault and len(cells) != 4:
            faults.append(f"has {len(cells)} cells between tabs, 4 are allowed: ID, URL, start, end")
        if not faults:
            start_s = parse_number(cells[2].strip() or "?", "start", faults)
            end_s = parse_number(cells[3].strip() or "?", "end", faults)
            if start_s is not None and end_s is not None:
                if end_s <= start_s:
                    faults.append(f"the segment ends at {end_s:g} s, and starts at {start_s:g} s")
                else:
                    durations_s[cells[0].strip()] = end_s - start_s
        place = f"{listing.relative(file)} line {line}"
        problems += [ManifestProblem(place, cells[0].strip()[:100], text) for text in faults]
    return durations_s


LAYOUT = Layout("mls", f"MLS ({TRANSCRIPTS} beside {AUDIO_FOLDER}/ in train/, dev/, test/)", matches, load)
