"""LibriSpeech: ``train-clean-100/103/1240/`` with 103-1240.trans.txt ("ID TEXT" a line) and 103-1240-0000.flac, …

The first field of the id is the speaker. The first folder named train…, dev… or test… is the split.
"""

from __future__ import annotations

import re
from pathlib import Path

from lst.data.corpora.layouts.listing import Found, Layout, Listing, audio_by_stem
from lst.data.corpora.manifest import split_of
from lst.data.corpora.records import text_lines
from lst.data.corpora.rows import ManifestRow

TRANSCRIPT_SUFFIX = ".trans.txt"
# The corpus's own folder gives the split only if it has one of LibriSpeech's names, unlike "test-recordings".
_PART = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")


def _find(listing: Listing) -> list[Path]:
    files = listing.files if listing.file is None else []
    return [file for file in files if file.name.endswith(TRANSCRIPT_SUFFIX)]


def _read(listing: Listing, transcripts: list[Path], found: Found) -> None:
    audio = audio_by_stem(listing.files)
    own_name = listing.root.resolve().name
    for transcript in transcripts:
        parts = [own_name] if _PART.fullmatch(own_name) else []
        parts += transcript.relative_to(listing.root).parts[:-1]
        split = next(filter(None, map(split_of, parts)), "")
        for line, content in text_lines(transcript):
            utterance_id, _, text = content.strip().partition(" ")
            place = f"{listing.relative(transcript)} line {line}"
            stem, speaker = transcript.parent / utterance_id, utterance_id.split("-")[0]
            row = ManifestRow(utterance_id, stem, text.strip(), speaker, split, place=place)
            found.pair(row, audio, utterance_id)
    found.add_unused(listing.root, listing.files, f"no *{TRANSCRIPT_SUFFIX} beside it names it")


LAYOUT = Layout(
    "librispeech",
    looked_for=f"LibriSpeech (*{TRANSCRIPT_SUFFIX} in any folder, audio beside)",
    absent=f"LibriSpeech is a folder with *{TRANSCRIPT_SUFFIX}.",
    find=_find,
    read=_read,
)
