"""LibriSpeech: ``train-clean-100/103/1240/`` with 103-1240.trans.txt ("ID TEXT" a line) and 103-1240-0000.flac, …

The id's first field is the speaker, the first folder named train…, dev… or test… the split.
"""

from __future__ import annotations

import re

from lst.data.corpora.layouts.listing import (
    Found,
    Layout,
    Listing,
    audio_by_stem,
    audio_without_transcript,
    transcript_without_audio,
)
from lst.data.corpora.manifest import ManifestProblem, ManifestRow, split_of
from lst.data.corpora.records import text_lines
from lst.errors import UserError

TRANSCRIPT_SUFFIX = ".trans.txt"
# A corpus's own folder gives the split only when LibriSpeech named it: "test-recordings" is a name like any other.
_PART = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")


def matches(listing: Listing) -> bool:
    return listing.file is None and any(file.name.endswith(TRANSCRIPT_SUFFIX) for file in listing.files)


def load(listing: Listing) -> Found:
    transcripts = [file for file in listing.files if file.name.endswith(TRANSCRIPT_SUFFIX)]
    if not transcripts or listing.file is not None:
        raise UserError(f"corpus {listing.file or listing.root}: LibriSpeech is a folder with *{TRANSCRIPT_SUFFIX}.")
    audio = audio_by_stem(listing.files)
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    own_name = listing.root.resolve().name
    for transcript in transcripts:
        parts = [own_name] if _PART.fullmatch(own_name) else []
        parts += transcript.relative_to(listing.root).parts[:-1]
        split = next(filter(None, map(split_of, parts)), "")
        for line, content in text_lines(transcript):
            utterance_id, _, text = content.strip().partition(" ")
            place = f"{listing.relative(transcript)} line {line}"
            path = audio.get(transcript.parent / utterance_id)
            if path is None:
                problems.append(transcript_without_audio(place, utterance_id, utterance_id))
            else:
                speaker = utterance_id.split("-")[0]
                rows.append(ManifestRow(utterance_id, path, text.strip(), speaker, split, place=place))
    remedy = f"no *{TRANSCRIPT_SUFFIX} beside it names it"
    return rows, problems + audio_without_transcript(listing.root, listing.files, [row.path for row in rows], remedy)


LAYOUT = Layout("librispeech", f"LibriSpeech (*{TRANSCRIPT_SUFFIX} in any folder, audio beside)", matches, load)
