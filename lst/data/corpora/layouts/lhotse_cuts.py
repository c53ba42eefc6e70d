"""lhotse cut manifests: ``*.jsonl`` or ``*.jsonl.gz``, a MonoCut a line with its recording and supervisions.

Each supervision is a row: its text, its speaker, its channel, and the part ``cut.start + supervision.start`` of the
recording. Word alignments (``alignment["word"]``) become the row's timed words. lhotse keeps them in the recording's
time, also in cuts that were trimmed. Cuts whose audio would have to be computed are problems: MixedCut, recordings with
transforms such as Speed, sources that are commands or in memory. Paths start from the manifest's folder; if nothing is
there, from the current folder. ``split_in_path`` gives the split.

Without cuts, ``recordings*.jsonl`` and ``supervisions*.jsonl`` are joined by the id of the recording. In lhotse's shar
(``cuts.000000.jsonl.gz`` beside ``recording.000000.tar``) audio is the tar's member of the cut's id. Shar cuts the
audio and leaves word times in the time of the recording before: they are not used.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from lst.data.audio import AUDIO_SUFFIXES, as_on_disk
from lst.data.audio.places import content_key
from lst.data.audio.tars import tar_directory
from lst.data.corpora.layouts.listing import (
    LHOTSE,
    LHOTSE_RECORDINGS,
    LHOTSE_SUPERVISIONS,
    Found,
    Layout,
    Listing,
    split_in_path,
)
from lst.data.corpora.manifest import is_finite_number, parse_language, timed_cells
from lst.data.corpora.provenance import provenance_of
from lst.data.corpora.records import Record
from lst.data.corpora.rows import UNKNOWN_SPEAKER, ManifestProblem, ManifestRow
from lst.data.utterance import TOLERANCE_S, TimedWord
from lst.errors import UserError
from lst.progress import Progress
from lst.storage import PlaceError, named_in

_SHAR_MANIFEST = re.compile(r"^cuts(.*)\.jsonl(\.gz)?$")
WHOLE_SLACK_S = 1e-3  # a cut whose length differs by less from its recording's is the whole recording
HARMLESS_TRANSFORMS = ("Resample",)  # all audio is resampled to one rate here


def _find(listing: Listing) -> list[Path]:
    """Manifests of cuts; without any, those of recordings and of supervisions, if there are both."""
    if cuts := listing.json_files(LHOTSE):
        return cuts
    recordings, supervisions = listing.json_files(LHOTSE_RECORDINGS), listing.json_files(LHOTSE_SUPERVISIONS)
    return [*recordings, *supervisions] if recordings and supervisions else []


def _read(listing: Listing, manifests: list[Path], found: Found) -> None:
    with Progress(None, "reading cuts", unit="cut") as progress:
        # By split and id, as the parts of a corpus may use the same ids.
        recordings: dict[tuple[str, str], tuple[Record, Path]] = {}
        for manifest in manifests:
            split = split_in_path(listing.root, manifest)
            kind = listing.json_kind(manifest)
            for place, record in found.records(listing, manifest, progress, lower_keys=False):
                if kind == LHOTSE_RECORDINGS:
                    recordings[split, str(record.get("id"))] = recordings["", str(record.get("id"))] = (
                        record,
                        manifest,
                    )
                    continue
                source = manifest
                if kind == LHOTSE_SUPERVISIONS:
                    name = str(record.get("recording_id"))
                    recording, source = recordings.get((split, name)) or recordings.get(("", name)) or ({}, manifest)
                    if not recording:
                        found.fail(
                            place, f"no manifest has its recording {name[:100]!r}", str(record.get("id", ""))[:100]
                        )
                        continue
                    record = _cut_of(recording, record)
                rows, faults = _rows_of_cut(record, place, split, source.absolute())
                found.rows += rows
                found.problems += [ManifestProblem(at, str(record.get("id", ""))[:100], fault) for at, fault in faults]


def _cut_of(recording: Record, supervision: Record) -> Record:
    """The cut of a whole recording with one supervision."""
    return {
        "id": supervision.get("id"),
        "start": 0.0,
        "duration": recording.get("duration"),
        "channel": supervision.get("channel", 0),
        "recording": recording,
        "supervisions": [supervision],
    }


def _rows_of_cut(
    cut: Record, place: str, split: str, manifest: Path
) -> tuple[list[ManifestRow], list[tuple[str, str]]]:
    """A row for each supervision of a cut, and (place, fault) of the supervisions that give none."""
    kind = cut.get("type", "MonoCut")
    if kind not in ("MonoCut", "MultiCut"):
        return [], [(place, f"is a {str(kind)[:40]}, allowed are MonoCut and MultiCut: export cuts without mixing")]
    recording, supervisions = cut.get("recording"), cut.get("supervisions")
    if not isinstance(recording, dict):
        return [], [(place, "has no recording (an object)")]
    if not isinstance(supervisions, list) or not supervisions:
        return [], [(place, "has no supervision, so no transcript")]
    faults = _transform_faults(recording)
    start_s = _number(cut, "start", faults)
    _number(cut, "duration", faults)
    if faults:
        return [], [(place, fault) for fault in faults]
    rows: list[ManifestRow] = []
    problems: list[tuple[str, str]] = []
    for number, supervision in enumerate(supervisions):
        at = place if len(supervisions) == 1 else f"{place}, supervision {number}"
        if not isinstance(supervision, dict):
            problems.append((at, "the supervision is not an object"))
            continue
        row, found = _row(cut, recording, supervision, start_s, at, split, manifest)
        problems += [(at, fault) for fault in found]
        rows += [row] if row is not None else []
    return rows, problems


def _row(
    cut: Record, recording: Record, supervision: Record, cut_start_s: float, place: str, split: str, manifest: Path
) -> tuple[ManifestRow | None, list[str]]:
    """A supervision as a row, or every fault of it."""
    faults: list[str] = []
    text = supervision.get("text")
    if not isinstance(text, str):
        faults.append("has no transcript" if text is None else f"text must be a text, not {str(text)[:60]}")
    offset_s = _number(supervision, "start", faults, may_be_negative=True)
    duration_s = _number(supervision, "duration", faults)
    start_s = cut_start_s + offset_s
    if -WHOLE_SLACK_S < start_s < 0:
        start_s = 0.0
    if start_s < 0:
        faults.append(f"starts {-start_s:g} s before its recording")
    path: Path | str = ""
    channel, member = None, ""
    try:
        if _is_shar(recording):
            path, member = _shar_member(cut, manifest)
        else:
            path, channel = _source(cut, recording, supervision, manifest.parent)
    except ValueError as error:
        faults.append(str(error))
    words = () if _is_shar(recording) else _words(supervision, cut_start_s + offset_s, faults)
    language = parse_language(str(supervision.get("language") or ""), faults)
    if faults:
        return None, faults
    speaker = supervision.get("speaker")
    name = supervision.get("id") or cut.get("id") or Path(path).stem
    whole_s = recording.get("duration")
    is_whole = start_s == 0 and is_finite_number(whole_s) and abs(float(str(whole_s)) - duration_s) <= WHOLE_SLACK_S
    row = ManifestRow(
        id=str(name),
        path=path,
        text=str(text),
        speaker=(str(speaker).strip() if isinstance(speaker, (str, int)) else "") or UNKNOWN_SPEAKER,
        split=split,
        duration_s=duration_s,
        place=place,
        start_s=start_s,
        channel=channel,
        member=member,
        is_segment=not is_whole,
        words=words,
        provenance=provenance_of(*map(_custom, (supervision, cut, recording))),
        language=language,
    )
    return row, []


def _custom(record: Record) -> Record:
    """Fields that users add to lhotse's objects, in lower case."""
    custom = record.get("custom")
    return {str(name).lower(): value for name, value in custom.items()} if isinstance(custom, dict) else {}


def _is_shar(recording: Record) -> bool:
    sources = recording.get("sources")
    return isinstance(sources, list) and any(isinstance(one, dict) and one.get("type") == "shar" for one in sources)


def _shar_member(cut: Record, manifest: Path) -> tuple[Path, str]:
    """The tar beside a manifest of shar and its member with a cut's audio; ``ValueError`` says what is missing."""
    tar = manifest.with_name(_SHAR_MANIFEST.sub(r"recording\1.tar", manifest.name))
    try:
        names = tar_directory(*content_key(tar))
    except UserError as error:
        raise ValueError(f"recording: its shar's tar cannot be read: {error}") from None
    name = str(cut.get("id"))
    member = next((made for suffix in AUDIO_SUFFIXES if (made := f"{name}{suffix}") in names), None)
    if member is None:
        raise ValueError(f"recording: {tar.name} has no audio {name[:100]!r} ({' '.join(AUDIO_SUFFIXES)})")
    return tar, member


def _transform_faults(recording: Record) -> list[str]:
    """Transforms that would have to be applied to the audio."""
    transforms = recording.get("transforms") or []
    if not isinstance(transforms, list):
        return [f"recording: transforms must be a list, not {str(transforms)[:60]}"]
    names = [str(item.get("name", item) if isinstance(item, dict) else item)[:40] for item in transforms]
    changing = [name for name in names if name not in HARMLESS_TRANSFORMS]
    if changing:
        return [f"recording: {', '.join(changing)} would change its audio: export cuts without augmentation"]
    return []


def _number(record: Record, name: str, faults: list[str], may_be_negative: bool = False) -> float:
    """A required number of a record; 0 and a fault if it is missing or wrong."""
    value = record.get(name)
    if is_finite_number(value) and (may_be_negative or float(str(value)) >= 0):
        return float(str(value))
    faults.append(f"{name} must be a number{'' if may_be_negative else ' of at least 0'}, not {str(value)[:60]}")
    return 0.0


def _channel_of(cut: Record, supervision: Record) -> Any:
    """The channel of the supervision, or else of the cut."""
    value = supervision.get("channel", cut.get("channel", 0))
    if cut.get("type", "MonoCut") == "MonoCut" and not isinstance(cut.get("channel", 0), list):
        value = cut.get("channel", 0)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _source(cut: Record, recording: Record, supervision: Record, folder: Path) -> tuple[Path | str, int | None]:
    """The file that holds the channel, and the channel's index in it; ``ValueError`` says what is wrong."""
    sources = recording.get("sources")
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources) or not sources:
        raise ValueError("recording: sources must be a list of objects")
    channel = _channel_of(cut, supervision)
    if isinstance(channel, bool) or not isinstance(channel, int):
        raise ValueError(f"channel must be one whole number, not {str(channel)[:60]}")
    source = next((source for source in sources if channel in _channels(source)), None)
    if source is None:
        raise ValueError(f"channel {channel} is in none of the recording's sources")
    name = source.get("source")
    if source.get("type") not in ("file", "url"):
        raise ValueError(f"recording: source type {str(source.get('type'))[:40]!r}, allowed are file and url")
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise ValueError(f"recording: source must name a file, not {str(name)[:60]!r}")
    channels = _channels(source)
    try:
        path = as_on_disk(named_in(folder, name))
    except PlaceError as error:
        raise ValueError(f"recording: {error}") from None
    if isinstance(path, Path) and not os.path.isfile(path) and os.path.isfile(as_on_disk(name)):
        path = as_on_disk(Path(name).absolute())
    return path, channels.index(channel) if len(channels) > 1 else None


def _channels(source: Record) -> list[Any]:
    channels = source.get("channels", [0])
    return channels if isinstance(channels, list) else [channels]


def _words(supervision: Record, start_s: float, faults: list[str]) -> tuple[TimedWord, ...]:
    """The word alignment, with times from the utterance's start, which is at ``start_s`` of the recording."""
    alignment = supervision.get("alignment")
    items = alignment.get("word") if isinstance(alignment, dict) else None
    if items is None:
        return ()
    if not isinstance(items, list):
        faults.append(f"alignment: word must be a list, not {str(items)[:60]}")
        return ()
    words = []
    for number, item in enumerate(items):
        if isinstance(item, dict):
            item = [item.get("symbol"), item.get("start"), item.get("duration"), item.get("score")]
        if (cells := timed_cells(item)) is None:
            faults.append(f"alignment: word {number} must be [symbol, start, duration] or with a score")
        elif cells[0].strip():  # silences are empty symbols
            symbol, word_start_s, duration_s, score = cells
            first_s, last_s = round(word_start_s - start_s, 6), round(word_start_s - start_s + duration_s, 6)
            if first_s < -TOLERANCE_S:
                faults.append(
                    f"alignment: word {number} ({symbol[:30]!r}) starts at {word_start_s:g} s of the recording, before "
                    f"its utterance ({start_s:g} s); lhotse counts the times of words from the recording's start"
                )
            words.append(TimedWord(symbol, max(0.0, first_s), max(0.0, last_s), score))
    return tuple(words)


LAYOUT = Layout(
    LHOTSE,
    looked_for="lhotse (*.jsonl or *.jsonl.gz of cuts with supervisions, or of recordings and of supervisions; shar)",
    absent="no file of JSON lines at its top holds cuts with supervisions, nor are there recordings and supervisions.",
    find=_find,
    read=_read,
    reads_any_file=True,
)
