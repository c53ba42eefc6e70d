"""lhotse cut manifests: ``*.jsonl`` or ``*.jsonl.gz``, a MonoCut a line with its recording and supervisions.

Each supervision is a row: its text and speaker, the part ``cut.start + supervision.start`` of the recording, and its
channel. Word alignments (``alignment["word"]``) become the row's timed words. What cannot be had without changing the
audio (MixedCut, a recording with transforms such as Speed, sources that are commands or in memory) is a problem. Paths
start from the manifest's folder, or where nothing is there, from the current one. Several files: see ``split_in_path``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lst.data.corpora.layouts.listing import LHOTSE, Found, Layout, Listing, safe_id, split_in_path
from lst.data.corpora.manifest import UNKNOWN_SPEAKER, ManifestProblem, ManifestRow, is_finite_number
from lst.data.corpora.records import json_records
from lst.data.utterance import TimedWord
from lst.errors import UserError
from lst.progress import Progress
from lst.storage import PlaceError, named_in

WHOLE_SLACK_S = 1e-3  # a cut this close to its recording's length is the whole of it
HARMLESS_TRANSFORMS = ("Resample",)  # audio is brought to one rate here anyway


def matches(listing: Listing) -> bool:
    return bool(listing.json_files(LHOTSE))


def load(listing: Listing) -> Found:
    manifests = [listing.file] if listing.file is not None else listing.json_files(LHOTSE)
    if not manifests:
        raise UserError(f"corpus {listing.root}: no file of JSON lines at its top holds cuts with supervisions.")
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    with Progress(None, "reading cuts", unit="cut") as progress:
        for manifest in manifests:
            split = split_in_path(listing.root, manifest)
            for line, record in json_records(manifest, lower_keys=False):
                progress.advance()
                place = f"{manifest.name} line {line}"
                if isinstance(record, str):
                    problems.append(ManifestProblem(place, "", record))
                    continue
                found, faults = _rows_of_cut(record, place, split, manifest.parent.absolute())
                rows += found
                problems += [ManifestProblem(at, str(record.get("id", ""))[:100], fault) for at, fault in faults]
    return rows, problems


def _rows_of_cut(
    cut: dict[str, Any], place: str, split: str, folder: Path
) -> tuple[list[ManifestRow], list[tuple[str, str]]]:
    """A row for each supervision of a cut, and (place, fault) of those that give none."""
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
        row, found = _row(cut, recording, supervision, start_s, at, split, folder)
        problems += [(at, fault) for fault in found]
        if not found and row is not None:
            rows.append(row)
    return rows, problems


def _row(
    cut: dict[str, Any],
    recording: dict[str, Any],
    supervision: dict[str, Any],
    cut_start_s: float,
    place: str,
    split: str,
    folder: Path,
) -> tuple[ManifestRow | None, list[str]]:
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
    path, channel = _source(cut, recording, supervision, folder, faults)
    words = _words(supervision, offset_s, faults)
    if faults or path is None or not isinstance(text, str):
        return None, faults
    speaker = supervision.get("speaker")
    name = supervision.get("id") or cut.get("id") or Path(path).stem
    whole_s = recording.get("duration")
    is_whole = start_s == 0 and is_finite_number(whole_s) and abs(float(str(whole_s)) - duration_s) <= WHOLE_SLACK_S
    row = ManifestRow(
        id=safe_id(str(name)),
        path=path,
        text=text,
        speaker=(str(speaker).strip() if isinstance(speaker, (str, int)) else "") or UNKNOWN_SPEAKER,
        split=split,
        duration_s=duration_s,
        place=place,
        start_s=start_s,
        channel=channel,
        is_segment=not is_whole,
        words=words,
    )
    return row, faults


def _transform_faults(recording: dict[str, Any]) -> list[str]:
    """Transforms that would have to be applied to the audio."""
    transforms = recording.get("transforms") or []
    if not isinstance(transforms, list):
        return [f"recording: transforms must be a list, not {str(transforms)[:60]}"]
    names = [str(item.get("name", item) if isinstance(item, dict) else item)[:40] for item in transforms]
    changing = [name for name in names if name not in HARMLESS_TRANSFORMS]
    if changing:
        return [f"recording: {', '.join(changing)} would change its audio: export cuts without augmentation"]
    return []


def _number(record: dict[str, Any], name: str, faults: list[str], may_be_negative: bool = False) -> float:
    """A number that must be there; 0 and a fault where it is none."""
    value = record.get(name)
    if is_finite_number(value) and (may_be_negative or float(str(value)) >= 0):
        return float(str(value))
    faults.append(f"{name} must be a number{'' if may_be_negative else ' of at least 0'}, not {str(value)[:60]}")
    return 0.0


def _channel_of(cut: dict[str, Any], supervision: dict[str, Any]) -> Any:
    """The one channel that the supervision, or else the cut, is in."""
    value = supervision.get("channel", cut.get("channel", 0))
    if cut.get("type", "MonoCut") == "MonoCut" and not isinstance(cut.get("channel", 0), list):
        value = cut.get("channel", 0)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _source(
    cut: dict[str, Any], recording: dict[str, Any], supervision: dict[str, Any], folder: Path, faults: list[str]
) -> tuple[Path | str | None, int | None]:
    """The file with the channel, and the channel's place in it."""
    sources = recording.get("sources")
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources) or not sources:
        faults.append("recording: sources must be a list of objects")
        return None, None
    channel = _channel_of(cut, supervision)
    if isinstance(channel, bool) or not isinstance(channel, int):
        faults.append(f"channel must be one whole number, not {str(channel)[:60]}")
        return None, None
    holding = [source for source in sources if channel in _channels(source)]
    if not holding:
        faults.append(f"channel {channel} is in none of the recording's sources")
        return None, None
    source = holding[0]
    name = source.get("source")
    if source.get("type") not in ("file", "url"):
        faults.append(f"recording: source type {str(source.get('type'))[:40]!r}, allowed are file and url")
        return None, None
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        faults.append(f"recording: source must name a file, not {str(name)[:60]!r}")
        return None, None
    channels = _channels(source)
    place = channels.index(channel) if len(channels) > 1 else None
    try:
        path = named_in(folder, name)
    except PlaceError as error:
        faults.append(f"recording: {error}")
        return None, None
    if not isinstance(path, Path):
        return path, place
    return (Path(name).absolute() if not _is_file(path) and _is_file(Path(name)) else path), place


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def _channels(source: dict[str, Any]) -> list[Any]:
    channels = source.get("channels", [0])
    return channels if isinstance(channels, list) else [channels]


def _words(supervision: dict[str, Any], offset_s: float, faults: list[str]) -> tuple[TimedWord, ...]:
    """The word alignment; its times start where the supervision's do, the row's where the utterance does."""
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
        values: list[Any] = [*item, None][:4] if isinstance(item, list) and 3 <= len(item) <= 4 else [None] * 4
        symbol, start_s, duration_s, score = values
        sound = isinstance(symbol, str) and is_finite_number(start_s) and is_finite_number(duration_s)
        if not sound or not (score is None or is_finite_number(score)):
            faults.append(f"alignment: word {number} must be [symbol, start, duration] or with a score")
            continue
        if symbol.strip():  # silences are empty symbols
            first_s = max(0.0, round(start_s - offset_s, 6))
            last_s = round(start_s - offset_s + duration_s, 6)
            words.append(TimedWord(symbol, first_s, last_s, None if score is None else float(score)))
    return tuple(words)


LAYOUT = Layout("lhotse", "lhotse (*.jsonl or *.jsonl.gz of cuts with supervisions)", matches, load)
