"""VCTK: ``txt/SPEAKER/SPEAKER_001.txt``, and the audio in ``wav48_silence_trimmed/SPEAKER/`` or ``wav48/SPEAKER/``.

Version 0.92 has each utterance from two microphones (``_mic1.flac``, ``_mic2.flac``). It is one utterance all the same:
the first microphone's recording is used, the second's where there is no other. No splits; the folder is the speaker.
"""

from __future__ import annotations

from pathlib import Path

from lst.data.corpora.layouts.listing import (
    Found,
    Layout,
    Listing,
    audio_by_stem,
    audio_without_transcript,
    transcript_without_audio,
)
from lst.data.corpora.manifest import ManifestProblem, ManifestRow
from lst.data.corpora.records import read_utf8
from lst.errors import UserError
from lst.progress import Progress, say

TEXT_FOLDER = "txt"
AUDIO_FOLDERS = ("wav48_silence_trimmed", "wav48")
MICROPHONES = ("_mic1", "_mic2", "")


def _audio_folder(root: Path) -> Path | None:
    return next((root / name for name in AUDIO_FOLDERS if (root / name).is_dir()), None)


def matches(listing: Listing) -> bool:
    return listing.file is None and (listing.root / TEXT_FOLDER).is_dir() and _audio_folder(listing.root) is not None


def load(listing: Listing) -> Found:
    audio_folder = _audio_folder(listing.root)
    if not matches(listing) or audio_folder is None:
        raise UserError(
            f"corpus {listing.file or listing.root}: VCTK is a folder with {TEXT_FOLDER}/ and "
            f"{' or '.join(AUDIO_FOLDERS)}/."
        )
    texts = [file for file in listing.below(listing.root / TEXT_FOLDER).files if file.suffix.lower() == ".txt"]
    audio_files = listing.below(audio_folder).files
    audio = audio_by_stem(audio_files)
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    used: list[Path] = []
    num_other = 0
    with Progress(len(texts), "reading transcripts", unit="file") as progress:
        for file in texts:
            progress.advance()
            place, speaker = listing.relative(file), file.parent.name
            stem = audio_folder / speaker / file.stem
            recordings = [
                audio[path] for path in (stem.with_name(stem.name + mic) for mic in MICROPHONES) if path in audio
            ]
            used += recordings
            num_other += max(0, len(recordings) - 1)
            if not recordings:
                problems.append(transcript_without_audio(place, file.stem, listing.relative(stem)))
                continue
            try:
                text = " ".join(read_utf8(file).split())
            except UserError as error:
                problems.append(ManifestProblem(place, file.stem, str(error), recordings[0]))
                continue
            rows.append(ManifestRow(file.stem, recordings[0], text, speaker, place=place))
    if num_other:
        say(f"{listing.root}: {num_other:,} recordings by the second microphone are not used, the first one's are")
    remedy = f"no file in {TEXT_FOLDER}/ names it"
    return rows, problems + audio_without_transcript(listing.root, audio_files, used, remedy)


LAYOUT = Layout("vctk", f"VCTK ({TEXT_FOLDER}/ and {' or '.join(AUDIO_FOLDERS)}/)", matches, load)
