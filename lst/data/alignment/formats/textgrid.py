"""Alignments for people and other tools: Praat TextGrids to look at, CTM files to read on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from lst import storage
from lst.data.alignment.formats.intervals import (
    _CHARACTER_TIERS,
    _WORD_TIERS,
    Interval,
    _plain_name,
    _problem,
    _with_characters,
    decode_text,
)
from lst.data.utterance import TimedWord, Utterance
from lst.errors import UserError
from lst.storage import Folder


def textgrid_of(utterance: Utterance, frame_rate_hz: float) -> str:
    """An utterance as a Praat TextGrid in long text form: a tier of words and, where known, one of characters.

    Args:
        utterance: aligned.
        frame_rate_hz: its units a second.
    """
    end_s = utterance.num_frames / frame_rate_hz
    words = [
        (
            segment.start_frame / frame_rate_hz,
            segment.end_frame / frame_rate_hz,
            utterance.words[segment.word].text if segment.word >= 0 else "",
        )
        for segment in utterance.segments()
    ]
    tiers = [("words", words)]
    characters = _characters(utterance, frame_rate_hz)
    if characters:
        tiers.append(("characters", characters))
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0 ",
        f"xmax = {end_s:.6f} ",
        "tiers? <exists> ",
        f"size = {len(tiers)} ",
        "item []: ",
    ]
    for number, (name, intervals) in enumerate(tiers, 1):
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier" ',
            f'        name = "{name}" ',
            "        xmin = 0 ",
            f"        xmax = {end_s:.6f} ",
            f"        intervals: size = {len(intervals)} ",
        ]
        for index, (start, end, text) in enumerate(intervals, 1):
            quoted = text.replace('"', '""')
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {start:.6f} ",
                f"            xmax = {end:.6f} ",
                f'            text = "{quoted}" ',
            ]
    return "\n".join(lines) + "\n"


def _characters(utterance: Utterance, frame_rate_hz: float) -> list[tuple[float, float, str]]:
    """Intervals of characters with silence between words; characters that share a frame share an interval, for Praat
    has none of length 0. Empty where a word's characters are not known."""
    if not utterance.words or not all(word.character_ends for word in utterance.words):
        return []
    found: list[tuple[float, float, str]] = []
    for segment in utterance.segments():
        if segment.word < 0:
            found.append((segment.start_frame / frame_rate_hz, segment.end_frame / frame_rate_hz, ""))
            continue
        word = utterance.words[segment.word]
        start, pending = 0, ""
        ends = zip(word.text.replace(" ", ""), word.character_ends, strict=True)
        for end, group in groupby(ends, key=lambda pair: pair[1]):
            pending += "".join(char for char, _ in group)
            if end > start:
                span = ((word.start_frame + start) / frame_rate_hz, (word.start_frame + end) / frame_rate_hz, pending)
                found.append(span)
                start, pending = end, ""
        if start < word.end_frame - word.start_frame:
            found.append(((word.start_frame + start) / frame_rate_hz, word.end_frame / frame_rate_hz, pending))
    return found


def write_textgrids(folder: Folder, utterances: Iterable[Utterance], frame_rate_hz: float) -> int:
    """Writes ``ID.TextGrid`` of every aligned utterance into a folder; returns how many were written.

    Raises:
        UserError: an id leads out of the folder.
    """
    count = 0
    for utterance in utterances:
        if not utterance.words:
            continue
        if utterance.id.startswith("/") or ".." in utterance.id.split("/"):
            raise UserError(f"the id {utterance.id!r} leads out of the folder {folder}")
        storage.write_text(folder / f"{utterance.id}.TextGrid", textgrid_of(utterance, frame_rate_hz))
        count += 1
    return count


# Numbers, texts with their quotes doubled, and flags: all else in a TextGrid is decoration for people.
_TEXTGRID_TOKEN = re.compile(r'"(?:[^"]|"")*"|<[A-Za-z]+>|![^\n]*|[^\s"]+')


@dataclass(frozen=True)
class Tier:
    """A tier of a TextGrid; points have one time twice."""

    name: str
    is_intervals: bool
    intervals: list[Interval]


def read_textgrid_tiers(content: bytes, name: str) -> list[Tier]:
    """All tiers of a TextGrid, in its long or its short text form.

    Both forms are the same row of numbers, texts and flags; the long one has labels between them.

    Raises:
        ProblemsError: it is no TextGrid, is cut off, or has a value of the wrong kind.
    """
    try:
        text = decode_text(content)
    except ValueError as error:
        raise _problem(name, [f"neither UTF-8 nor UTF-16: {error}"]) from None
    values = _textgrid_values(text)
    position = 0

    def take(kind: type, what: str) -> Any:
        nonlocal position
        if position == len(values):
            raise _problem(name, [f"line {text.count(chr(10)) + 1}: the file ends where {what} should be"])
        value, line = values[position]
        position += 1
        if not isinstance(value, kind):
            raise _problem(name, [f"line {line}: {what} should be {_KINDS[kind]}, not {value!r}"])
        return value

    def count(what: str) -> int:
        found = take(float, what)
        if not 0 <= found <= len(values) or found != int(found):
            raise _problem(name, [f"line {values[position - 1][1]}: {what} cannot be {found:g}"])
        return int(found)

    header = [value for value, _ in values[:2]]
    if header not in (["ooTextFile", "TextGrid"], ["ooTextFile short", "TextGrid"]):
        raise _problem(name, ["line 1: this is no TextGrid in text form (binary ones are not read)"])
    position = 2
    take(float, "the start of the recording")
    take(float, "the end of the recording")
    if take(_Flag, "<exists>").name != "exists":
        return []
    tiers = []
    for _ in range(count("the number of tiers")):
        kind, tier_name = take(str, "the class of a tier"), take(str, "the name of a tier")
        if kind not in ("IntervalTier", "TextTier"):
            raise _problem(name, [f"line {values[position - 2][1]}: there is no class of tiers {kind!r}"])
        take(float, "the start of a tier")
        take(float, "the end of a tier")
        intervals = []
        for _ in range(count("the number of intervals")):
            start = take(float, "a start")
            line = values[position - 1][1]
            end = take(float, "an end") if kind == "IntervalTier" else start
            intervals.append(Interval(start, end, take(str, "a text"), line))
        tiers.append(Tier(tier_name, kind == "IntervalTier", intervals))
    return tiers


class _Flag(NamedTuple):
    name: str


_KINDS = {float: "a number", str: "a text in quotes", _Flag: "a flag"}


def _textgrid_values(text: str) -> list[tuple[Any, int]]:
    """Numbers, texts and flags in order, each with its line; words without quotes are labels of the long form."""
    values: list[tuple[Any, int]] = []
    line, counted = 1, 0
    for match in _TEXTGRID_TOKEN.finditer(text):
        line += text.count("\n", counted, match.start())
        counted = match.start()
        token = match[0]
        if token[0] == '"':
            values.append((token[1:-1].replace('""', '"'), line))
        elif token[0] == "<":
            values.append((_Flag(token[1:-1]), line))
        elif token[0] in "+-.0123456789":
            try:
                values.append((float(token), line))
            except ValueError:
                continue
    return values


def read_textgrid(content: bytes, name: str) -> list[TimedWord]:
    """Words of a TextGrid: the tier words, word or ORT-MAU (also MFA's "speaker - words"), else its first of intervals.

    A tier of characters (characters, chars, letters, graphemes), if there, gives where they end.
    """
    tiers = [tier for tier in read_textgrid_tiers(content, name) if tier.is_intervals]
    if not tiers:
        raise _problem(name, ["there is no tier of intervals"])
    chosen = [tier for tier in tiers if _plain_name(tier.name) in _WORD_TIERS]
    words = (chosen or tiers)[0]
    characters = [tier for tier in tiers if _plain_name(tier.name) in _CHARACTER_TIERS and tier is not words]
    ends = characters[0].intervals if characters else []
    return _with_characters(words.intervals, ends, name)
