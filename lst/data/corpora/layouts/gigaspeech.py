"""GigaSpeech and WenetSpeech: one JSON object whose ``audios`` each have a path and segments with times and text.

::

    {"audios": [{"aid": "POD1", "path": "audio/POD1.opus", "speaker": "N/A", "subsets": ["{XL}"],
                 "segments": [{"sid": "POD1_S0", "begin_time": 1.5, "end_time": 4.0, "text_tn": "A TEXT <PERIOD>"}]}]}

GigaSpeech names the text ``text_tn`` and the speaker with the segment, WenetSpeech ``text`` and gives a ``confidence``.
A subset named dev or test gives the split. ``language``, of a segment, an audio or in front of the audios, names the
language; a file called WenetSpeech is Chinese. The file is read audio by audio, whatever its size.
"""

from __future__ import annotations

import re
from pathlib import Path

from lst.data.audio import as_on_disk
from lst.data.corpora.layouts.listing import Found, Layout, Listing
from lst.data.corpora.manifest import is_finite_number, parse_language, split_of
from lst.data.corpora.provenance import provenance_of
from lst.data.corpora.records import Record, array_records, has_array, text_before_array
from lst.data.corpora.rows import UNKNOWN_SPEAKER, ManifestRow
from lst.progress import Progress
from lst.storage import PlaceError, named_in

ARRAY = "audios"
_LANGUAGE = re.compile(r'"language"\s*:\s*"([^"]*)"')
TEXTS = ("text_tn", "text")


def _find(listing: Listing) -> list[Path]:
    files = [file for file in listing.top if file.name.lower().endswith((".json", ".json.gz"))]
    return [file for file in files if has_array(file, ARRAY)]


def _read(listing: Listing, manifests: list[Path], found: Found) -> None:
    with Progress(None, "reading segments", unit="audio") as progress:
        for manifest in manifests:
            language = _language_of_file(manifest)
            for number, audio in array_records(manifest, ARRAY):
                progress.advance()
                place = f"{listing.relative(manifest)} audio {number}"
                if isinstance(audio, str):
                    found.fail(place, audio)
                    continue
                _read_audio(audio, manifest.parent.absolute(), place, found, language)


def _language_of_file(manifest: Path) -> str:
    """The language that is written in front of the audios, or that the file's name tells; empty without one."""
    if (match := _LANGUAGE.search(text_before_array(manifest, ARRAY))) is not None:
        return match[1]
    return "zh" if manifest.name.lower().startswith("wenetspeech") else ""


def _read_audio(audio: Record, folder: Path, place: str, found: Found, language: str) -> None:
    name, segments = audio.get("path"), audio.get("segments")
    if not isinstance(name, str) or not name.strip() or "\0" in name or not isinstance(segments, list):
        found.fail(place, "must have a path (text) and segments (a list)", str(audio.get("aid", ""))[:100])
        return
    try:
        path = as_on_disk(named_in(folder, name))
    except PlaceError as error:
        found.fail(place, str(error), str(audio.get("aid", ""))[:100])
        return
    for number, segment in enumerate(segments, 1):
        at = f"{place}, segment {number}"
        if not isinstance(segment, dict):
            found.fail(at, "is not an object")
            continue
        own_id = str(segment.get("sid") or f"{audio.get('aid') or path}-{number}")
        times = [segment.get("begin_time"), segment.get("end_time")]
        text = next((segment[key] for key in TEXTS if isinstance(segment.get(key), str)), None)
        faults = [] if text is not None else [f"has no text ({' or '.join(TEXTS)})"]
        begin_s, end_s = (float(str(time)) if is_finite_number(time) else -1.0 for time in times)
        if not 0 <= begin_s < end_s:
            faults.append(f"begin_time and end_time must be numbers, the end after the start, not {str(times)[:60]}")
        code = parse_language(str(segment.get("language") or audio.get("language") or language), faults)
        for fault in faults:
            found.fail(at, fault, own_id[:100])
        if not faults:
            row = ManifestRow(
                own_id,
                path,
                str(text),
                _speaker(segment, audio),
                _split(segment, audio),
                end_s - begin_s,
                place=at,
                start_s=begin_s,
                is_segment=True,
                provenance=provenance_of(segment, audio),
                language=code,
            )
            found.rows.append(row)


def _speaker(segment: Record, audio: Record) -> str:
    names = (str(item.get("speaker") or "").strip() for item in (segment, audio))
    return next((name for name in names if name and name.upper() != "N/A"), UNKNOWN_SPEAKER)


def _split(segment: Record, audio: Record) -> str:
    """``valid`` for the subsets dev and test, ``train`` for any other, empty without subsets."""
    subsets = segment.get("subsets") or audio.get("subsets")
    if not isinstance(subsets, list) or not subsets:
        return ""
    splits = {split_of(str(name).strip("{} ").partition("_")[0]) for name in subsets}
    return "valid" if "valid" in splits else "train"


LAYOUT = Layout(
    "gigaspeech",
    looked_for=f"GigaSpeech or WenetSpeech (one JSON object with {ARRAY})",
    absent=f"no *.json at its top has {ARRAY}, as GigaSpeech and WenetSpeech have.",
    find=_find,
    read=_read,
)
