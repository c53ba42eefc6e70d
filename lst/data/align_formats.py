"""Alignments in other tools' files: Praat TextGrid, CTM, MFA's JSON, whisper-timestamped's JSON.

One reader a format. Each takes a file's content and its name for messages, and returns words in order of time, silences
among them as the file has them, or raises ``ProblemsError`` with every problem and its line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lst.data.align_words import TimedWord
from lst.errors import ProblemsError, raise_problems

_WORD_TIERS = ("words", "word", "ort-mau")
_CHARACTER_TIERS = ("characters", "character", "chars", "letters", "graphemes")
# Numbers, texts with their quotes doubled, and flags: all else in a TextGrid is decoration for people.
_TEXTGRID_TOKEN = re.compile(r'"(?:[^"]|"")*"|<[A-Za-z]+>|![^\n]*|[^\s"]+')
_LOWEST_CONFIDENCE = 1e-6
_FILE_REMEDY = "Export the file again, or give the format with data.align.format."


class Interval(NamedTuple):
    """A stretch of a tier and its line in the file."""

    start_s: float
    end_s: float
    text: str
    line: int


@dataclass(frozen=True)
class Tier:
    """A tier of a TextGrid; points have one time twice."""

    name: str
    is_intervals: bool
    intervals: list[Interval]


def decode_text(content: bytes) -> str:
    """UTF-8, or UTF-16 by its mark, which Praat writes where a text is not ASCII; raises ``ValueError`` otherwise."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def log_confidence(confidence: float) -> float:
    """A confidence of 0 to 1 as a score: its logarithm, 0 at best."""
    return round(math.log(min(max(confidence, _LOWEST_CONFIDENCE), 1.0)), 6)


def _problem(name: str, problems: Sequence[str]) -> ProblemsError:
    return ProblemsError(name, problems, _FILE_REMEDY)


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


def _plain_name(name: str) -> str:
    return name.rpartition(" - ")[2].strip().lower()


def _with_characters(words: Sequence[Interval], characters: Sequence[Interval], name: str) -> list[TimedWord]:
    """Words, each with the ends of those letters and digits whose middle lies inside."""
    found = []
    position = 0
    said = [item for item in characters if any(char.isalnum() for char in item.text)]
    for word in words:
        ends: list[float] = []
        while position < len(said) and (said[position].start_s + said[position].end_s) / 2 < word.end_s:
            if (said[position].start_s + said[position].end_s) / 2 >= word.start_s:
                # Characters that end together may share an interval.
                ends += [said[position].end_s] * sum(char.isalnum() for char in said[position].text)
            position += 1
        place = f"{name}, line {word.line}"
        found.append(TimedWord(word.text.strip(), word.start_s, word.end_s, 0.0, tuple(ends), place))
    return found


def read_ctm(content: bytes, name: str) -> dict[str, list[TimedWord]]:
    """Words of each utterance of a CTM file, whose lines are: utterance, channel, start, duration, word[, confidence].

    Comments (``;;``) and empty lines are passed over; a confidence becomes a score by its logarithm.
    """
    try:
        lines = decode_text(content).split("\n")
    except ValueError as error:
        raise _problem(name, [f"neither UTF-8 nor UTF-16: {error}"]) from None
    found: dict[str, list[TimedWord]] = {}
    problems = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            continue
        if len(fields) < 5:
            problems.append(
                f"line {number}: {len(fields)} fields; utterance, channel, start, duration, word are needed"
            )
            continue
        try:
            start, duration = _number(fields[2]), _number(fields[3])
            score = log_confidence(_number(fields[5])) if len(fields) > 5 and fields[5].upper() != "NA" else 0.0
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        word = TimedWord(fields[4], start, start + duration, score, (), f"{name}, line {number}")
        found.setdefault(fields[0], []).append(word)
    raise_problems(name, problems, _FILE_REMEDY)
    # The order of lines is free; that of words is time's.
    return {key: sorted(words, key=lambda word: word.start_s) for key, words in found.items()}


def read_mfa_json(content: bytes, name: str) -> list[TimedWord]:
    """Words of the Montreal Forced Aligner's JSON: ``tiers``, of which ``words`` has entries [start, end, label]."""
    record = _json_object(content, name)
    tiers = record.get("tiers")
    if not isinstance(tiers, dict):
        raise _problem(name, ["there is no object of tiers"])
    named = {_plain_name(key): tier for key, tier in reversed(tiers.items())}
    chosen = [named[key] for key in _WORD_TIERS if key in named]
    if not chosen:
        raise _problem(name, [f"there is no tier of words; tiers are {', '.join(tiers)}"])
    words = _mfa_intervals(chosen[0], "words", name)
    characters = [named[key] for key in _CHARACTER_TIERS if key in named]
    return _with_characters(words, _mfa_intervals(characters[0], "characters", name) if characters else [], name)


def _mfa_intervals(tier: Any, what: str, name: str) -> list[Interval]:
    entries = tier.get("entries") if isinstance(tier, dict) else None
    if not isinstance(entries, list):
        raise _problem(name, [f"the tier of {what} has no list of entries"])
    problems = []
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            start, end, label = entry
            found.append(Interval(_number(start), _number(end), str(label), number))
        except (TypeError, ValueError) as error:
            problems.append(f"{what}, entry {number}: {error}")
    raise_problems(name, problems, _FILE_REMEDY)
    return found


def read_whisper_json(content: bytes, name: str) -> list[TimedWord]:
    """Words of ``segments[].words[]``: whisper-timestamped's (text, confidence), openai-whisper's and faster-whisper's
    (word, probability), WhisperX's (word, score, and characters of the segment)."""
    record = _json_object(content, name)
    segments = record.get("segments")
    if not isinstance(segments, list):
        raise _problem(name, ["there is no list of segments"])
    problems: list[str] = []
    found: list[TimedWord] = []
    for number, segment in enumerate(segments, 1):
        words = segment.get("words") if isinstance(segment, dict) else None
        if not isinstance(words, list):
            problems.append(f"segment {number}: there is no list of words (ask the recogniser for word time stamps)")
            continue
        intervals, scores = [], []
        for index, word in enumerate(words, 1):
            try:
                text = word.get("text", word.get("word"))
                if not isinstance(text, str):
                    raise ValueError("it has neither text nor word")
                confidence = next((word[key] for key in ("confidence", "probability", "score") if key in word), None)
                scores.append(0.0 if confidence is None else log_confidence(_number(confidence)))
                intervals.append(Interval(_number(word.get("start")), _number(word.get("end")), text, index))
            except (AttributeError, TypeError, ValueError) as error:
                problems.append(f"segment {number}, word {index}: {error}")
        if len(intervals) == len(scores):
            place = f"{name}, segment {number}"
            timed = _with_characters(intervals, _whisper_characters(segment), place)
            found += [
                TimedWord(word.text, word.start_s, word.end_s, score, word.character_ends_s, word.place)
                for word, score in zip(timed, scores, strict=True)
            ]
    raise_problems(name, problems, _FILE_REMEDY)
    return found


def _whisper_characters(segment: dict[str, Any]) -> list[Interval]:
    """WhisperX's characters; those that it could not place have no times and are left out."""
    chars = segment.get("chars")
    found = []
    for char in chars if isinstance(chars, list) else []:
        try:
            found.append(Interval(_number(char["start"]), _number(char["end"]), str(char["char"]), 0))
        except (KeyError, TypeError, ValueError):
            continue
    return found


def _json_object(content: bytes, name: str) -> dict[str, Any]:
    try:
        record = json.loads(decode_text(content))
    except (ValueError, RecursionError) as error:
        raise _problem(name, [f"not JSON: {error}"]) from None
    if not isinstance(record, dict):
        raise _problem(name, ["not a JSON object"])
    return record


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is not a number")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is not a finite number")
    return found


READERS: dict[str, Callable[[bytes, str], list[TimedWord]]] = {
    "textgrid": read_textgrid,
    "mfa_json": read_mfa_json,
    "whisper_json": read_whisper_json,
}
SUFFIXES = {"textgrid": (".textgrid",), "mfa_json": (".json",), "whisper_json": (".json",), "ctm": (".ctm",)}
