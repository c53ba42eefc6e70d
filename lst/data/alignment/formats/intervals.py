"""What the readers of alignment files share: text decoding, numbers, names of tiers, ends of characters.

Each reader takes a file's content and its name for messages. It returns words in order of time, with the file's
silences among them, or raises ``ProblemsError`` with every problem and its line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

from lst.data.utterance import TimedWord
from lst.errors import ProblemsError

WORD_TIERS = ("words", "word", "ort-mau")
CHARACTER_TIERS = ("characters", "character", "chars", "letters", "graphemes")
# Of parts of words.
PART_TIERS = (*CHARACTER_TIERS, "phones", "phone", "phonemes", "phoneme", "segments", "mau", "syllables", "syllable")
FILE_REMEDY = "Export the file again, or give the format with data.align.format."
_LOWEST_CONFIDENCE = 1e-6
T = TypeVar("T")
R = TypeVar("R")


class Interval(NamedTuple):
    """An interval of a tier, and its line in the file."""

    start_s: float
    end_s: float
    text: str
    line: int


def decode_text(content: bytes, name: str) -> str:
    """Decodes UTF-8, or UTF-16 with a byte order mark, which Praat writes for non-ASCII text.

    Raises:
        ProblemsError: the file ``name`` is neither.
    """
    try:
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return content.decode("utf-16")
        return content.decode("utf-8-sig")
    except ValueError as error:
        raise file_problem(name, f"neither UTF-8 nor UTF-16: {error}") from None


def log_confidence(confidence: float) -> float:
    """A confidence of 0 to 1 as a score: its logarithm, 0 at best.

    >>> log_confidence(1.0), log_confidence(0.5)
    (0.0, -0.693147)
    """
    return round(math.log(min(max(confidence, _LOWEST_CONFIDENCE), 1.0)), 6)


def file_problem(name: str, problem: str) -> ProblemsError:
    """The error that one problem makes the file ``name`` unreadable."""
    return ProblemsError(name, [problem], FILE_REMEDY)


def parse_each(items: Iterable[T], parse: Callable[[T, int], R], what: str, problems: list[str]) -> list[R]:
    """Parses items, which are numbered from 1; an item that cannot be parsed adds a line to ``problems``.

    >>> problems = []
    >>> parse_each(["2", "x"], lambda item, number: finite_number(item), "line", problems), problems
    ([2.0], ["line 2: 'x' is not a number"])
    """
    found = []
    for number, item in enumerate(items, 1):
        try:
            found.append(parse(item, number))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            problems.append(f"{what} {number}: {error}")
    return found


def tier_key(name: str) -> str:
    """A tier's name in lower case and without the speaker's name that MFA puts in front.

    >>> tier_key("Anna - Words")
    'words'
    """
    return name.rpartition(" - ")[2].strip().lower()


def named_tier(names: Sequence[str], wanted: str, file_name: str) -> int:
    """Index of the tier with a name that the user gives: exactly, else whatever its case and speaker.

    Raises:
        ProblemsError: none has it; it lists the tiers.
    """
    for spelling in (str, tier_key):
        found = [index for index, name in enumerate(names) if spelling(name) == spelling(wanted)]
        if found:
            return found[0]
    shown = ", ".join(map(repr, names))
    raise file_problem(file_name, f"there is no tier {wanted!r} (data.align.tier); its tiers of intervals are {shown}")


def with_characters(words: Sequence[Interval], characters: Sequence[Interval], name: str) -> list[TimedWord]:
    """Words, each with the ends of the letters and digits whose middle lies within it."""
    found = []
    position = 0
    said = [item for item in characters if any(map(str.isalnum, item.text))]
    for word in words:
        ends: list[float] = []
        while position < len(said) and (middle_s := (said[position].start_s + said[position].end_s) / 2) < word.end_s:
            if middle_s >= word.start_s:
                # Characters that end together may share an interval.
                ends += [said[position].end_s] * sum(map(str.isalnum, said[position].text))
            position += 1
        place = f"{name}, line {word.line}"
        found.append(TimedWord(word.text.strip(), word.start_s, word.end_s, 0.0, tuple(ends), place))
    return found


def place_untimed(words: Sequence[TimedWord]) -> list[TimedWord]:
    """Gives words whose times are NaN equal parts of the stretch between their neighbours.

    After the last timed word there is no stretch that the file knows: such words have its end as start and end.

    >>> words = [TimedWord("in", 0, 1), TimedWord("2014", math.nan, math.nan), TimedWord("a", 3, 4)]
    >>> [(word.text, word.start_s, word.end_s) for word in place_untimed(words)]
    [('in', 0, 1), ('2014', 1, 3.0), ('a', 3, 4)]
    """
    placed: list[TimedWord] = []
    for is_untimed, group in groupby(words, lambda word: math.isnan(word.start_s)):
        own = list(group)
        if not is_untimed:
            placed += own
            continue
        start_s = placed[-1].end_s if placed else 0.0
        later = words[len(placed) + len(own) :]
        step_s = max(0.0, (later[0].start_s if later else start_s) - start_s) / len(own)
        for number, word in enumerate(own):
            first_s = start_s + step_s * number if number else start_s
            placed.append(word._replace(start_s=first_s, end_s=start_s + step_s * (number + 1)))
    return placed


def finite_number(value: object) -> float:
    """A number, also one written as text; raises ``ValueError`` for anything else and for infinities."""
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise ValueError(f"{value!r} is not a number")
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is not a finite number")
    return found
