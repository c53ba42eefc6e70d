"""Alignments in other tools' files: Praat TextGrid, CTM, MFA's JSON, whisper-timestamped's JSON.

One reader a format. Each takes a file's content and its name for messages, and returns words in order of time, silences
among them as the file has them, or raises ``ProblemsError`` with every problem and its line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from lst.data.utterance import TimedWord
from lst.errors import ProblemsError

_WORD_TIERS = ("words", "word", "ort-mau")
_CHARACTER_TIERS = ("characters", "character", "chars", "letters", "graphemes")
_LOWEST_CONFIDENCE = 1e-6
_FILE_REMEDY = "Export the file again, or give the format with data.align.format."


class Interval(NamedTuple):
    """A stretch of a tier and its line in the file."""

    start_s: float
    end_s: float
    text: str
    line: int


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
