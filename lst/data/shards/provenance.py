"""What the utterances of shards state of licence and consent, added up by source."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lst.data.shards.formats import SPEECH_SPLIT, Index, IndexEntry, Stated
from lst.data.utterance import Utterance

# Of licences, or consents, that differ from row to row, such as a form's number, a shard states this alone.
VARIOUS, MOST_DIFFERENT = "various", 16
MAX_STATED_CHARS, MOST_SHOWN = 120, 10
# What utterances are of that name no source, and texts.
NO_SOURCE = "unnamed"
_NON_COMMERCIAL = re.compile(
    r"(^|[^a-z])nc([^a-z]|$)|non-?\s?commercial|(research|academic)[\s-]*(use)?[\s-]*only", re.I
)
_REFUSED = ("false", "no", "none", "0", "withdrawn", "denied", "refused")


def stated_counts(utterances: Sequence[Utterance]) -> list[Stated]:
    """Hours of a shard by licence and consent; none where no utterance states anything."""
    stated = [utterance.provenance for utterance in utterances]
    if not any(stated_of.licence or stated_of.consent for stated_of in stated):
        return []
    licences, consents = (_grouped([getattr(one, name) for one in stated]) for name in ("licence", "consent"))
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for utterance, licence, consent in zip(utterances, licences, consents, strict=True):
        found[licence, consent].append(utterance.duration_s)
    rows = [
        Stated(licence=licence, consent=consent, num_utterances=len(own), duration_s=round(sum(own), 3))
        for (licence, consent), own in found.items()
    ]
    return sorted(rows, key=lambda row: (-row["duration_s"], row["licence"], row["consent"]))


def _grouped(values: list[str]) -> list[str]:
    shown = [value[:MAX_STATED_CHARS] for value in values]
    return shown if len({*shown}) <= MOST_DIFFERENT else [VARIOUS if value else "" for value in shown]


class SourceHours(NamedTuple):
    """Spoken utterances of one source with one licence and one consent, empty where not stated, and their hours."""

    source: str
    licence: str
    consent: str
    num_utterances: int
    hours: float


def source_of(entry: IndexEntry) -> str:
    """The source of a shard's utterances; ``unnamed`` where they name none."""
    return entry.get("source") or NO_SOURCE


def source_names(index: Index) -> list[str]:
    """The sources of the utterances and texts of prepared data, in order; one alone where they name none."""
    return sorted({source_of(entry) for entries in index["splits"].values() for entry in entries}) or [NO_SOURCE]


def hours_by_source(index: Index) -> list[SourceHours]:
    """The speech of training and held-out splits by source, licence and consent, the longest first."""
    totals: dict[tuple[str, str, str], tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for entry in (entry for split in ("train", "valid", SPEECH_SPLIT) for entry in index["splits"].get(split, [])):
        whole = Stated(licence="", consent="", num_utterances=entry["num_utterances"], duration_s=entry["duration_s"])
        for row in entry.get("provenance", [whole]):
            key = (source_of(entry), row["licence"], row["consent"])
            count, seconds = totals[key]
            totals[key] = count + row["num_utterances"], seconds + row["duration_s"]
    rows = [SourceHours(*key, count, round(seconds / 3600, 4)) for key, (count, seconds) in totals.items() if count]
    return sorted(rows, key=lambda row: (-row.hours, row))


def has_provenance(index: Index) -> bool:
    """Whether anything is stated of source, licence or consent."""
    return any("source" in entry or "provenance" in entry for entries in index["splits"].values() for entry in entries)


def hours_by(rows: Iterable[SourceHours], name: str) -> dict[str, float]:
    """Hours by ``source``, ``licence`` or ``consent``, the most first; an empty one is not stated."""
    totals: dict[str, float] = defaultdict(float)
    for row in rows:
        totals[getattr(row, name)] += row.hours
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def hours_text(by_value: Mapping[str, float]) -> str:
    """Hours by value on one line, those of the first values.

    >>> hours_text({"CC-BY-4.0": 2.5, "": 0.25})
    'CC-BY-4.0 (2.50 h), not stated (0.25 h)'
    """
    shown = [f"{value or 'not stated'} ({_hours(hours)})" for value, hours in by_value.items()]
    more = [f"{len(shown) - MOST_SHOWN:,} more"] if len(shown) > MOST_SHOWN else []
    return ", ".join([*shown[:MOST_SHOWN], *more])


def source_lines(rows: Sequence[SourceHours]) -> dict[str, str]:
    """A line for each source: its hours, by licence and by consent."""
    return {
        f"source {name}": f"{_hours(hours)}; licence: {hours_text(hours_by(own, 'licence'))}; "
        f"consent: {hours_text(hours_by(own, 'consent'))}"
        for name, hours in hours_by(rows, "source").items()
        for own in [[row for row in rows if row.source == name]]
    }


def licence_warnings(rows: Sequence[SourceHours]) -> list[str]:
    """What a person should know before a model of the data is published; a sentence each."""
    by_licence = hours_by(rows, "licence")
    total, found = sum(by_licence.values()), []
    if unstated := by_licence.pop("", 0.0):
        found.append(f"{_hours(unstated)} of {_hours(total)} state no licence.")
    limited = {licence: hours for licence, hours in by_licence.items() if is_non_commercial(licence)}
    if limited:
        named = ", ".join(f"{licence}: {_hours(hours)}" for licence, hours in limited.items())
        mixed = " mixed with others" if len(limited) < len(by_licence) or unstated else ""
        found.append(f"Licences that forbid commercial use{mixed}: {named}.")
    if refused := sum(row.hours for row in rows if row.consent.lower() in _REFUSED):
        found.append(f"{_hours(refused)} are of speakers whose consent is stated as refused.")
    return found


def is_non_commercial(licence: str) -> bool:
    """Whether a licence forbids commercial use, by its name.

    >>> [is_non_commercial(name) for name in ("CC-BY-NC-4.0", "cc-by-4.0", "for research use only")]
    [True, False, True]
    """
    return _NON_COMMERCIAL.search(licence) is not None


def _hours(hours: float) -> str:
    return f"{hours:,.2f} h"
