"""Praat TextGrids, written and read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from lst import storage
from lst.data.alignment.formats.intervals import (
    CHARACTER_TIERS,
    PART_TIERS,
    WORD_TIERS,
    Interval,
    decode_text,
    file_problem,
    named_tier,
    tier_key,
    with_characters,
)
from lst.data.utterance import TimedWord, Utterance
from lst.errors import ProblemsError, UserError
from lst.storage import Folder

T = TypeVar("T")
# Praat ends lines with a space (\x20) after a value.
_HEADER = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0\x20
xmax = {end_s:.6f}\x20
tiers? <exists>\x20
size = {size}\x20
item []:\x20
"""
_TIER = """    item [{number}]:
        class = "IntervalTier"\x20
        name = "{name}"\x20
        xmin = 0\x20
        xmax = {end_s:.6f}\x20
        intervals: size = {size}\x20
"""
_INTERVAL = """        intervals [{index}]:
            xmin = {start_s:.6f}\x20
            xmax = {end_s:.6f}\x20
            text = "{text}"\x20
"""
# Start and end in seconds, and a text.
Span = tuple[float, float, str]


def textgrid_of(utterance: Utterance, frame_rate_hz: float) -> str:
    """An utterance as a Praat TextGrid in long text form: a tier of words and, if known, one of characters.

    Args:
        utterance: an aligned utterance.
        frame_rate_hz: its frames a second.
    """
    end_s = utterance.num_frames / frame_rate_hz
    words = [
        (
            segment.start_frame / frame_rate_hz,
            segment.end_frame / frame_rate_hz,
            utterance.words[segment.word].text if segment.word >= 0 else "",
        )
        for segment in utterance.segments()
        # Praat has no spans of length 0, which words have that were not found in the audio.
        if segment.end_frame > segment.start_frame
    ]
    characters = _characters(utterance, frame_rate_hz)
    tiers = [("words", words), *([("characters", characters)] if characters else [])]
    return _HEADER.format(end_s=end_s, size=len(tiers)) + "".join(
        _TIER.format(number=number, name=name, end_s=end_s, size=len(spans))
        + "".join(
            _INTERVAL.format(index=index, start_s=start, end_s=end, text=text.replace('"', '""'))
            for index, (start, end, text) in enumerate(spans, 1)
        )
        for number, (name, spans) in enumerate(tiers, 1)
    )


def _characters(utterance: Utterance, frame_rate_hz: float) -> list[Span]:
    """Spans of characters and of the silences between words; none if any word's characters are unknown.

    Characters that end in the same frame share a span, because Praat has no spans of length 0.
    """
    if not utterance.words or not all(word.character_ends for word in utterance.words):
        return []
    found: list[tuple[int, int, str]] = []
    for segment in utterance.segments():
        start, pending = segment.start_frame, ""
        if segment.word >= 0:
            word = utterance.words[segment.word]
            ends = zip(word.text.replace(" ", ""), word.character_ends, strict=True)
            for end, group in groupby(ends, key=lambda pair: word.start_frame + pair[1]):
                pending += "".join(char for char, _ in group)
                if end > start:
                    found.append((start, end, pending))
                    start, pending = end, ""
        if start < segment.end_frame:
            found.append((start, segment.end_frame, pending))
    return [(start / frame_rate_hz, end / frame_rate_hz, text) for start, end, text in found]


def write_textgrids(folder: Folder, utterances: Iterable[Utterance], frame_rate_hz: float) -> int:
    """Writes ``ID.TextGrid`` for every aligned utterance into a folder; returns how many they are.

    Raises:
        UserError: an id is a path that leads out of the folder.
    """
    count = 0
    for utterance in utterances:
        if not utterance.words:
            continue
        if storage.leads_out(utterance.id):
            raise UserError(f"the id {utterance.id!r} leads out of the folder {folder}")
        storage.write_text(folder / f"{utterance.id}.TextGrid", textgrid_of(utterance, frame_rate_hz))
        count += 1
    return count


# Texts with their quotes doubled, flags, comments, and numbers or labels.
_TEXTGRID_TOKEN = re.compile(r'"(?:[^"]|"")*"|<[A-Za-z]+>|![^\n]*|[^\s"]+')


@dataclass(frozen=True)
class Tier:
    """A tier of a TextGrid. In a tier of points, start and end are the same."""

    name: str
    is_intervals: bool
    intervals: list[Interval]


def read_textgrid_tiers(content: bytes, name: str) -> list[Tier]:
    """All tiers of a TextGrid, in its long or its short text form.

    Both forms have the same numbers, texts and flags in the same order; the long form has labels between them.

    Raises:
        ProblemsError: it is no TextGrid, is cut off, or has a value of the wrong kind.
    """
    values = _Values(decode_text(content, name), name)
    header = [value for value, _ in values.values[:2]]
    if header not in (["ooTextFile", "TextGrid"], ["ooTextFile short", "TextGrid"]):
        raise file_problem(name, "line 1: this is no TextGrid in text form (binary ones are not read)")
    values.position = 2
    values.take(float, "the start of the recording")
    values.take(float, "the end of the recording")
    if values.take(_Flag, "<exists>") != "exists":
        return []
    return [_read_tier(values) for _ in range(values.count("the number of tiers"))]


def _read_tier(values: _Values) -> Tier:
    kind = values.take(str, "the class of a tier")
    kind_line = values.line
    tier_name = values.take(str, "the name of a tier")
    if kind not in ("IntervalTier", "TextTier"):
        raise values.problem(kind_line, f"there is no class of tiers {kind!r}")
    values.take(float, "the start of a tier")
    values.take(float, "the end of a tier")
    intervals = []
    for _ in range(values.count("the number of intervals")):
        start = values.take(float, "a start")
        line = values.line
        end = values.take(float, "an end") if kind == "IntervalTier" else start
        intervals.append(Interval(start, end, values.take(str, "a text"), line))
    return Tier(tier_name, kind == "IntervalTier", intervals)


class _Flag(str):
    """A text in angle brackets."""


_KINDS = {float: "a number", str: "a text in quotes", _Flag: "a flag"}


class _Values:
    """Reads the values of a TextGrid one after the other, and names the line of a wrong one.

    Attributes:
        values: numbers, texts and flags, each with its line.
        position: index of the next value.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name, self.num_lines, self.position = name, text.count("\n") + 1, 0
        self.values: list[tuple[float | str | _Flag, int]] = []
        line, counted = 1, 0
        for match in _TEXTGRID_TOKEN.finditer(text):
            line, counted = line + text.count("\n", counted, match.start()), match.start()
            if (value := _value_of(match[0])) is not None:
                self.values.append((value, line))

    @property
    def line(self) -> int:
        """The line of the last value that was read."""
        return self.values[self.position - 1][1]

    def problem(self, line: int, problem: str) -> ProblemsError:
        """The error for one line."""
        return file_problem(self.name, f"line {line}: {problem}")

    def take(self, kind: type[T], what: str) -> T:
        """The next value, which must be of ``kind``; ``what`` names it in errors."""
        if self.position == len(self.values):
            raise self.problem(self.num_lines, f"the file ends where {what} should be")
        value, line = self.values[self.position]
        self.position += 1
        if type(value) is not kind:
            raise self.problem(line, f"{what} should be {_KINDS[kind]}, not {value!r}")
        return value

    def count(self, what: str) -> int:
        """The next value as the number of things that follow."""
        found = self.take(float, what)
        if not 0 <= found <= len(self.values) or found != int(found):
            raise self.problem(self.line, f"{what} cannot be {found:g}")
        return int(found)


def _value_of(token: str) -> float | str | _Flag | None:
    """A number, a text in quotes or a flag; None for the labels of the long form."""
    if token[0] == '"':
        return token[1:-1].replace('""', '"')
    if token[0] == "<":
        return _Flag(token[1:-1])
    try:
        return float(token) if token[0] in "+-.0123456789" else None
    except ValueError:
        return None


def read_textgrid(content: bytes, name: str, tier: str = "") -> list[TimedWord]:
    """Words of a TextGrid, from ``tier``; by default from words, word or ORT-MAU (also MFA's "speaker - words").

    Without such a tier, the first tier of intervals is read. A tier of characters (characters, chars, letters,
    graphemes) gives their ends.
    """
    tiers = [tier for tier in read_textgrid_tiers(content, name) if tier.is_intervals]
    if not tiers:
        raise file_problem(name, "there is no tier of intervals")
    if tier:
        words = tiers[named_tier([found.name for found in tiers], tier, name)]
    else:
        words = next((found for found in tiers if tier_key(found.name) in WORD_TIERS), tiers[0])
        if all(tier_key(found.name) in PART_TIERS for found in tiers):
            shown = ", ".join(repr(found.name) for found in tiers)
            raise file_problem(name, f"there is no tier of words; its tiers of intervals are {shown}")
        if len(tiers) > 1 and tier_key(words.name) not in WORD_TIERS:
            # A guess: messages about its words say which others there are.
            others = ", ".join(repr(found.name) for found in tiers[1:])
            name = f"{name}, tier {words.name!r} (others, for data.align.tier: {others})"
    characters = [found for found in tiers if tier_key(found.name) in CHARACTER_TIERS and found is not words]
    return with_characters(words.intervals, characters[0].intervals if characters else [], name)
