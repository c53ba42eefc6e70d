"""Audio files without any transcript, in folders; read only where transcripts are not needed (``data.transcribe``).

The folder of the audio is the speaker, unless all audio lies in one folder; a folder named train…, dev… or test… is the
split.
"""

from __future__ import annotations

from pathlib import Path

from lst.data.audio import AUDIO_SUFFIXES
from lst.data.corpora.layouts.listing import Found, Layout, Listing, audio_by_stem, split_in_path
from lst.data.corpora.rows import UNKNOWN_SPEAKER, ManifestRow


def _find(listing: Listing) -> list[Path]:
    if listing.needs_text:
        return []
    return sorted(audio_by_stem(listing.top if listing.file is not None else listing.files).values())


def _read(listing: Listing, audio: list[Path], found: Found) -> None:
    has_speakers = len({file.parent for file in audio}) > 1
    for file in audio:
        speaker = file.parent.name if has_speakers else UNKNOWN_SPEAKER
        split = split_in_path(listing.root, file)
        found.rows.append(ManifestRow(file.stem, file, "", speaker, split, place=listing.relative(file)))


LAYOUT = Layout(
    "audio",
    looked_for=f"audio alone (*{', *'.join(AUDIO_SUFFIXES)}) with data.transcribe=none or a recogniser",
    absent=f"no audio alone (*{', *'.join(AUDIO_SUFFIXES)}), or data.transcribe is not set to none or a recogniser.",
    find=_find,
    read=_read,
)
