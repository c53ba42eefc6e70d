"""VCTK: ``txt/SPEAKER/SPEAKER_001.txt``, and the audio in ``wav48_silence_trimmed/SPEAKER/`` or ``wav48/SPEAKER/``.

Version 0.92 has each utterance from two microphones (``_mic1.flac``, ``_mic2.flac``). Both give one utterance: the
recording of the first microphone is used, that of the second only if it is alone. No splits; the folder is the speaker.
"""

from __future__ import annotations

from pathlib import Path

from lst.data.corpora.layouts.listing import Found, Layout, Listing, audio_by_stem
from lst.data.corpora.records import read_utf8
from lst.data.corpora.rows import ManifestRow
from lst.errors import UserError
from lst.progress import Progress, say

TEXT_FOLDER = "txt"
AUDIO_FOLDERS = ("wav48_silence_trimmed", "wav48")
MICROPHONES = ("_mic1", "_mic2", "")


def _find(listing: Listing) -> list[Path]:
    """The folder of texts and the one of audio."""
    folders = [listing.root / name for name in (TEXT_FOLDER, *AUDIO_FOLDERS) if (listing.root / name).is_dir()]
    is_whole = listing.file is None and len(folders) > 1 and folders[0].name == TEXT_FOLDER
    return folders[:2] if is_whole else []


def _read(listing: Listing, folders: list[Path], found: Found) -> None:
    text_folder, audio_folder = folders
    texts = [file for file in listing.below(text_folder).files if file.suffix.lower() == ".txt"]
    audio_files = listing.below(audio_folder).files
    audio = audio_by_stem(audio_files)
    other_microphones: list[Path] = []
    with Progress(len(texts), "reading transcripts", unit="file") as progress:
        for file in texts:
            progress.advance()
            stem = audio_folder / file.parent.name / file.stem
            stems = [path for mic in MICROPHONES if (path := stem.with_name(stem.name + mic)) in audio]
            other_microphones += [audio[path] for path in stems[1:]]
            place, path = listing.relative(file), stems[0] if stems else stem
            try:
                text = " ".join(read_utf8(file).split()) if stems else ""
            except UserError as error:
                found.fail(place, str(error), file.stem, audio[path])
                continue
            row = ManifestRow(file.stem, path, text, file.parent.name, place=place)
            found.pair(row, audio, listing.relative(stem))
    if num_other := len(other_microphones):
        say(f"{listing.root.name}: {num_other:,} recordings by the second microphone are not used, the first one's are")
    found.add_unused(listing.root, audio_files, f"no file in {TEXT_FOLDER}/ names it", other_microphones)


_AUDIO = " or ".join(f"{name}/" for name in AUDIO_FOLDERS)
LAYOUT = Layout(
    "vctk",
    looked_for=f"VCTK ({TEXT_FOLDER}/ and {_AUDIO})",
    absent=f"VCTK is a folder with {TEXT_FOLDER}/ and {_AUDIO}.",
    find=_find,
    read=_read,
)
