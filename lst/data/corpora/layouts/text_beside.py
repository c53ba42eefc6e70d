"""Audio with its transcript beside it, as MFA and LibriTTS have it: ``SPEAKER/u01.wav`` and ``SPEAKER/u01.lab``.

The transcript has the audio's name and one of ``SUFFIXES``; of several, the first counts. The audio's folder is the
speaker (of LibriTTS, the first field of the name), unless all audio lies in one folder. The first folder named train…,
dev… or test… is the split.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from lst.data.corpora.layouts.listing import Found, Layout, Listing, audio_by_stem
from lst.data.corpora.manifest import split_of
from lst.data.corpora.records import read_utf8
from lst.data.corpora.rows import UNKNOWN_SPEAKER, ManifestRow
from lst.errors import UserError
from lst.progress import Progress

SUFFIXES = (".lab", ".normalized.txt", ".txt", ".trans.txt", ".transcript.txt", ".original.txt")
MIN_SHARE = 0.5  # of the audio that must have a transcript beside it, so that stray text files are none
_LIBRITTS = re.compile(r"(\d+)_\d+_\d+_\d+")


def _find(listing: Listing) -> list[Path]:
    """Transcripts beside audio."""
    if listing.file is not None:
        return []
    files = set(listing.files)
    stems = audio_by_stem(files)
    found = [_text_of(stem, files) for stem in sorted(stems)]
    texts = [text for text in found if text is not None]
    return texts if texts and len(texts) >= MIN_SHARE * len(stems) else []


def _text_of(stem: Path, files: set[Path]) -> Path | None:
    candidates = (stem.with_name(stem.name + form) for suffix in SUFFIXES for form in (suffix, suffix.upper()))
    return next((path for path in candidates if path in files), None)


def _stem_of(text: Path) -> Path:
    suffix = next(suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if text.name.lower().endswith(suffix))
    return text.with_name(text.name[: -len(suffix)])


def _read(listing: Listing, texts: list[Path], found: Found) -> None:
    audio = audio_by_stem(listing.files)
    has_speakers = len({text.parent for text in texts}) > 1
    own_split = split_of(listing.root.resolve().name) or ""
    with Progress(len(texts), "reading transcripts", unit="file") as progress:
        for text in texts:
            progress.advance()
            stem, place = _stem_of(text), listing.relative(text)
            try:
                content = " ".join(read_utf8(text).split())
            except UserError as error:
                found.fail(place, str(error), stem.name, audio.get(stem))
                continue
            folders = Path(os.path.relpath(text.parent, listing.root)).parts
            split = next(filter(None, map(split_of, folders)), own_split)
            match = _LIBRITTS.match(stem.name)
            speaker = match[1] if match else text.parent.name if has_speakers else UNKNOWN_SPEAKER
            row = ManifestRow(stem.name, stem, content, speaker, split, place=place)
            found.pair(row, audio, listing.relative(stem))
    found.add_unused(listing.root, listing.files, f"no file of its name with {' '.join(SUFFIXES)} is beside it")


LAYOUT = Layout(
    "text_beside",
    looked_for=f"a transcript beside each audio file (u01.wav and u01{SUFFIXES[0]} or u01.txt)",
    absent=f"too few audio files have a transcript of the same name beside them ({' '.join(SUFFIXES)}).",
    find=_find,
    read=_read,
    lists=(".lab",),
)
