"""Transcripts with several readings a word: the audio chooses which one was said.

::

    "Dr. Lee [laughs] paid $5.50"  ──word_readings──▶  Dr.: doctor | drive …   Lee: lee   [laughs]: — | laughs   …

The first reading of a piece is the plain one (``spoken_words``); labels in brackets are unsaid first. Further readings
are those of numbers, years, prices, times, telephone numbers, units and abbreviations.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, product

from lst.data.text.digit_groups import groups_behind
from lst.data.text.foreign import foreign_readings
from lst.data.text.normalise import ABBREVIATIONS, FRACTIONS, UNIT_NAMES, normalise
from lst.data.text.readings import (
    CURRENCY_SIGNS,
    MONTHS,
    SIZES,
    cardinal,
    clock,
    decimal,
    digits_aloud,
    fraction,
    money_name,
    ordinal,
    price,
    year,
)
from lst.data.text.scripts import letter_tokens
from lst.data.text.spoken import GROUP_NAMES, in_words, plain_pieces, spoken_tokens

# Pairs of brackets whose content is a label.
BRACKETS = ("<>", "[]", "()", "{}")
# More readings than this are not tried.
MAX_READINGS = 24
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[a-zA-Z]\w{1,30});")
_EDGES = re.compile(r"^[^\w$£€¥+\-−.'’&@%°]+|[^\w%°'’&+]+$")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)")
# What single letters I, V and X are numbered by, beside names of kings.
_NUMBERED = ("act", "book", "chapter", "class", "level", "part", "phase", "scene", "section", "type", "volume", "war")
_ROMAN = re.compile(r"(?=[IVX])(X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"": 0, "I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9}
_OTHER_ABBREVIATIONS = {
    "dr": ("doctor", "drive"),
    "st": ("saint", "street"),
    "ms": ("miz", "m s"),
    "no": ("number", "no"),
    "nos": ("numbers",),
    "mt": ("mount",),
    "ft": ("fort", "feet", "foot"),
    "rd": ("road",),
    "capt": ("captain",),
    "col": ("colonel",),
    "gen": ("general",),
    "lt": ("lieutenant",),
    "sgt": ("sergeant",),
    "rev": ("reverend",),
    "hon": ("honorable",),
    "messrs": ("messers",),
    "esq": ("esquire",),
    "co": ("company",),
    "inc": ("incorporated", "ink"),
    "ltd": ("limited",),
    "corp": ("corporation",),
    "vol": ("volume",),
    "p": ("page",),
    "pp": ("pages",),
    "ch": ("chapter",),
    "fig": ("figure",),
    "vs": ("versus",),
    "am": ("a m",),
    "pm": ("p m",),
    "ok": ("okay",),
}


@dataclass(frozen=True)
class PieceReadings:
    """A piece of a transcript between white space, and the ways to read it.

    Attributes:
        text: as written, HTML entities resolved.
        readings: each as tokens for the dictionary; the empty one is silence. None at all if the piece cannot be said.
        plain: the part that is no label; empty if that has no letter and no digit.
    """

    text: str
    readings: tuple[tuple[str, ...], ...]
    plain: str


def resolve_entities(text: str) -> str:
    """Replaces HTML entities by their characters.

    >>> resolve_entities("Tom &amp; Anna, AT&T")
    'Tom & Anna, AT&T'
    """
    return _ENTITY.sub(lambda found: html.unescape(found[0]), text)


def word_readings(text: str, brackets: Sequence[str] = BRACKETS, language: str = "") -> list[PieceReadings]:
    """The readings of each piece of a transcript.

    Args:
        text: the transcript.
        brackets: pairs of brackets around labels, which are first taken as unsaid.
        language: of the transcript; empty for English. See ``foreign_readings`` for others.

    >>> [(piece.text, piece.readings) for piece in word_readings("No [noise] &lt;unk&gt; 12")]
    [('No', (('no',),)), ('[noise]', ((), ('noise',))), ('<unk>', ((), ('unk',))), ('12', (('twelve',), ('twelfth',), \
('the', 'twelfth'), ('one', 'two')))]
    """
    text = resolve_entities(text)
    labels = _label_places(text, brackets)
    is_mixed_case = any(char.islower() for char in text)
    found: list[PieceReadings] = []
    before = sign = ""
    matches, behind = list(re.finditer(r"\S+", text)), groups_behind(text)
    for number, (match, (written, said)) in enumerate(zip(matches, plain_pieces(text), strict=True)):
        place = next((place for place in reversed(range(*match.span())) if place in behind), -1)
        group = behind.get(place)
        outside = "".join(text[place] for place in range(*match.span()) if place not in labels)
        is_label = outside != written
        plain = "" if is_label and not any(map(str.isalnum, outside)) else outside
        after = matches[number + 1][0] if number + 1 < len(matches) else ""
        ways = (
            foreign_readings(written, before, after, language, group, place - match.start())
            if language
            else _readings(written, before, is_mixed_case)
        )
        sign = next((char for char in written if char in CURRENCY_SIGNS), "" if group is None else sign)
        if group is not None and not language:
            digits, ahead = re.findall(r"\d+", text[place:])[0], in_words(text, match.start(), place, behind)
            in_number = (f"{ahead.rstrip(CURRENCY_SIGNS)} {way}" for way in _group_readings(digits, group, sign))
            ways = chain(in_number, ways)
        if not language and said != written:
            ways = chain([said], ways)
        found.append(PieceReadings(written, _as_tokens([*([plain] if is_label else []), *ways], language), plain))
        before = written
    return found


def _label_places(text: str, brackets: Sequence[str]) -> set[int]:
    """Positions of the characters of labels, their brackets included."""
    places: set[int] = set()
    for pair in brackets:
        first, last = pair[0], pair[1]
        # A sign with a space behind it ("a < b") opens no label.
        pattern = rf"{re.escape(first)}(?=\S)[^{re.escape(first + last)}]{{1,80}}{re.escape(last)}"
        for match in re.finditer(pattern, text):
            places.update(range(*match.span()))
    return places


def _as_tokens(readings: Sequence[str], language: str) -> tuple[tuple[str, ...], ...]:
    found: dict[tuple[str, ...], None] = {}
    for reading in readings:
        try:
            found.setdefault(tuple(letter_tokens(reading, language) if language else spoken_tokens(reading)))
        except ValueError:
            continue
    return tuple(islice(found, MAX_READINGS))


def _readings(written: str, before: str, is_mixed_case: bool) -> Iterator[str]:
    """Ways to say a piece, the plain one first; ``before`` is the piece in front of it."""
    for char in set(written) & set(FRACTIONS):
        written = re.sub(rf"(?<=\d){char}", f" {FRACTIONS[char]}", written).replace(char, FRACTIONS[char])
    yield written
    bare = _EDGES.sub("", _GROUPED.sub(lambda found: found[0].replace(",", ""), written))
    if re.search(r"\d", bare):
        yield normalise(written)
        yield from _number_readings(bare)
    elif not any(map(str.isalnum, written)):
        if re.search(r"[&+=@%$£]", written):
            yield ""
    else:
        yield from _abbreviation_readings(written, bare, before, is_mixed_case)
        if before[:1] and before[0] in CURRENCY_SIGNS and bare.lower() in ("hundred", "thousand", "million", "billion"):
            yield f"{bare} {price(before[0], '2').split()[-1]}"


def _abbreviation_readings(written: str, bare: str, before: str, is_mixed_case: bool) -> Iterator[str]:
    """Readings of a piece without digits: abbreviations, units behind a number, Roman numbers, letters one by one."""
    key = bare.lower().rstrip(".")
    has_point = written.rstrip(",;:!?)\"'").endswith(".")
    is_abbreviated = has_point or key in ("vs", "mr", "mrs", "dr", "etc", "pm", "am", "ok")
    if is_abbreviated:
        yield from _OTHER_ABBREVIATIONS.get(key, ())
        if key in ABBREVIATIONS:
            yield ABBREVIATIONS[key]
    if re.search(r"\d[^\w]*$", before) and key in UNIT_NAMES:
        for name in UNIT_NAMES[key]:
            yield name
            yield re.sub(r" (Celsius|Fahrenheit)$", "", name.replace(" an ", " per "))
    is_numbered = bare in ("I", "V", "X") and before.lower() in _NUMBERED
    is_king = bare in ("V", "X") and before[:1].isupper()
    roman = _ROMAN.fullmatch(bare)
    if roman and is_mixed_case and (len(bare) > 1 or is_numbered or is_king):
        value = str(10 * len(roman[1]) + _ROMAN_VALUES[roman[2]])
        yield from (f"the {ordinal(value)}", ordinal(value), cardinal(value))
    if is_mixed_case and re.fullmatch(r"[A-Z]{2,5}s?", bare):
        yield " ".join(bare)
    if "&" in bare or "@" in bare:
        yield normalise(written)


def _number_readings(bare: str) -> Iterator[str]:
    """Readings of a piece with digits: the first kind of number that it is, as it is said in many ways."""
    for pattern, read in _KINDS:
        if match := re.fullmatch(pattern, bare, re.IGNORECASE):
            yield from read(match)
            return
    # Anything else: digit groups one by one, each in each of its ways ("B-52", "A4", "2001-02").
    parts = re.findall(r"\d+|[^\d]+", bare)
    ways = [[*islice(_amounts(part), 5), *_digits(part)] if part.isdecimal() else [part] for part in parts]
    yield from (" ".join(way) for way in islice(product(*ways), MAX_READINGS))


def _group_readings(digits: str, group: int, sign: str) -> Iterator[str]:
    """Ways to say three digits with so many such groups behind them: ``two hundred and five thousand``.

    Behind the last group stands the name of the money, where the number has its sign.
    """
    value = int(digits)
    words = cardinal(str(value)) if value else ""
    ways = [f"{said} {GROUP_NAMES[group]}" for said in _with_and(words)] if value else [""]
    if value == 1 and group:
        ways.append(f"a {GROUP_NAMES[group]}")
    if 0 < value < 100 and not group:
        ways.append(f"and {words}")
    if sign and not group:
        yield from (f"{way} {money_name(sign)}" for way in ways)
    yield from ways


def _with_and(words: str) -> Iterator[str]:
    """``one hundred five``, ``one hundred and five``, ``a hundred and five``."""
    yield words
    joined = re.sub(r"\b(hundred|thousand) (?=\w+(?: \w+)?$)(?!hundred|thousand)", r"\1 and ", words)
    yield joined
    if words.startswith("one "):
        yield f"a {joined[4:]}"
        yield f"a {words[4:]}"


def _digits(digits: str) -> Iterator[str]:
    """Digit by digit, with both names of 0."""
    yield digits_aloud(digits)
    if "0" in digits:
        yield digits_aloud(digits).replace("zero", "oh")


def _amounts(digits: str) -> Iterator[str]:
    """A whole number: as a number, a year, in hundreds, in pairs."""
    yield from _with_and(cardinal(digits))
    if len(digits) == 4 and digits[0] != "0":
        first, second = cardinal(digits[:2]), digits[2:]
        yield year(digits)
        if second == "00":
            yield f"{first} hundred"
        elif second[0] == "0":
            yield from (f"{first} oh {cardinal(second[1])}", f"{first} hundred and {cardinal(second[1])}")
        else:
            yield from (f"{first} {cardinal(second)}", f"{first} hundred and {cardinal(second)}")
    elif len(digits) == 3 and digits[0] != "0" and digits[1:] != "00":
        rest = f"oh {cardinal(digits[2])}" if digits[1] == "0" else cardinal(digits[1:])
        yield f"{cardinal(digits[0])} {rest}"


def _whole(digits: str) -> Iterator[str]:
    """A number that stands alone: an amount, an ordinal (a day, a king), or digit by digit."""
    yield from _amounts(digits)
    if int(digits) <= 31:
        yield from (ordinal(str(int(digits))), f"the {ordinal(str(int(digits)))}")
    if len(digits) > 1:
        yield from _digits(digits)


def _ordinals(found: re.Match[str]) -> Iterator[str]:
    yield from (ordinal(found[1]), f"the {ordinal(found[1])}")
    yield from _with_and(ordinal(found[1]))


def _times(found: re.Match[str]) -> Iterator[str]:
    """``5:30 pm``: as a clock shows it, and as people tell it."""
    hour, minutes = str(int(found[1])), found[2]
    half = f" {' '.join(found[3].lower().replace('.', ''))}" if found[3] else ""
    next_hour = cardinal(str(int(hour) % 12 + 1))
    yield f"{clock(hour, minutes)}{half}"
    if minutes == "00":
        yield from (f"{cardinal(hour)}{half}", f"{cardinal(hour)} o'clock{half}")
    told = {"15": "quarter past", "30": "half past", "45": "quarter to", "10": "ten past", "05": "five past"}
    if minutes in told:
        name = next_hour if minutes == "45" else cardinal(hour)
        yield from (f"{told[minutes]} {name}{half}", f"a {told[minutes]} {name}{half}")
    if minutes[0] == "0" and minutes != "00":
        yield f"{cardinal(hour)} {cardinal(minutes[1])}{half}"
    yield f"{cardinal(hour)} to {cardinal(str(int(minutes)))}"


def _prices(found: re.Match[str]) -> Iterator[str]:
    """``$5.50``: with and without the names of the money."""
    sign, whole, cents = found[1], found[2], (found[3] or "")
    name = price(sign, whole).rpartition(" ")[2]
    for number in _amounts(whole):
        if not cents or not int(cents):
            yield from (f"{number} {name}", number)
            continue
        part = cardinal(str(int(cents)))
        small = price(sign, "0", cents).rpartition(" ")[2]
        yield from (f"{number} {name} and {part} {small}", f"{number} {name} {part} {small}", f"{number} {name} {part}")
        yield from (f"{number} {part}", f"{number} {name} and {part}", f"{decimal(f'{whole}.{cents}')} {name}")


def _large_prices(found: re.Match[str]) -> Iterator[str]:
    """``$2.5``, before ``million``, which then names the money, or alone; ``£3m``."""
    size = f" {SIZES[found[3][0].lower()]}" if found[3] else ""
    for said in [decimal(found[2])] if "." in found[2] else _amounts(found[2]):
        yield from (f"{said}{size}", f"{said}{size} {money_name(found[1])}")


def _thousands(found: re.Match[str]) -> Iterator[str]:
    yield from (f"{decimal(found[1])} thousand", f"{decimal(found[1])} k")


def _fractions(found: re.Match[str]) -> Iterator[str]:
    """``1/2``, also behind a whole number; a month and a day; two numbers (``24/7``)."""
    whole, above, below = found[1], found[2], found[3]
    part = fraction(above, below)
    parts = [part, re.sub("^one ", "a ", part), *(["half", "half a"] if part == "one half" else [])]
    if whole:
        yield from (f"{number} and {part}" for number in _amounts(whole) for part in parts[::-1])
    else:
        yield from (*parts, *(f"and {part}" for part in parts))
        yield from (f"{cardinal(above)} over {cardinal(below)}", f"{cardinal(above)} {cardinal(below)}")
        if len(above) <= 2 and len(below) <= 2:
            yield from _days(above, below)


def _days(month: str, day: str) -> Iterator[str]:
    """A day of a year, if there is one."""
    if 1 <= int(month) <= 12 and 1 <= int(day) <= 31:
        name, number = MONTHS[int(month) - 1], str(int(day))
        yield from (f"{name} {ordinal(number)}", f"{name} {cardinal(number)}", f"{name} the {ordinal(number)}")
        yield from (f"the {ordinal(number)} of {name}", f"{ordinal(number)} {name}")


def _dates(found: re.Match[str]) -> Iterator[str]:
    """``7/4/2014``, ``4.7.2014`` and ``2014-07-04``: month and day in both orders, and the numbers alone."""
    numbers = re.findall(r"\d+", found[0])
    first, second, last = numbers if len(numbers[0]) <= 2 else [*numbers[1:], numbers[0]]
    years = [year(last)] if len(last) == 4 else [f"oh {cardinal(last[1])}" if last[0] == "0" else cardinal(last)]
    if len(last) == 4 and last[0] == "2":
        years.append(cardinal(last))
    days = dict.fromkeys([*_days(first, second), *_days(second, first)])
    pairs = [f"{cardinal(str(int(first)))} {cardinal(str(int(second)))}"]
    yield from (f"{day} {said}" for said in years for day in (*days, *pairs))


def _decimals(found: re.Match[str]) -> Iterator[str]:
    sign, whole, part, unit = found[1], found[2], found[3], found[4]
    units = ("",) if not unit else (" percent", " per cent")
    for minus, suffix in product(("minus ", "negative ", "") if sign else ("",), units):
        for said in _digits(part):
            yield f"{minus}{cardinal(whole or '0')} point {said}{suffix}"
            yield f"{minus}point {said}{suffix}"
        if whole and part[0] != "0":
            yield f"{minus}{cardinal(whole)} point {cardinal(part)}{suffix}"
            yield f"{minus}{cardinal(whole)} {cardinal(part)}{suffix}"


def _signed(found: re.Match[str]) -> Iterator[str]:
    scale = {"c": " celsius", "f": " fahrenheit"}.get((found[3] or "")[1:].lower(), "")
    units = ("",) if not found[3] else (" percent", " per cent") if found[3] == "%" else (" degrees", " degree", "")
    units = (*(f"{unit}{scale}" for unit in units), *units) if scale else units
    signs = ("minus ", "negative ", "") if found[1] else ("",)
    yield from (f"{sign}{number}{unit}" for number in _amounts(found[2]) for unit in units for sign in signs)


def _telephone(found: re.Match[str]) -> Iterator[str]:
    groups = re.findall(r"\d+", found[0])
    yield from _digits("".join(groups))
    yield " ".join(cardinal(group) if group.endswith("00") else digits_aloud(group) for group in groups)
    yield " ".join(_in_pairs(group) if len(group) == 4 else digits_aloud(group) for group in groups)


def _in_pairs(digits: str) -> str:
    pairs = (digits[place : place + 2] for place in range(0, len(digits), 2))
    return " ".join(f"oh {cardinal(pair[1])}" if pair[0] == "0" else cardinal(pair) for pair in pairs)


def _range(found: re.Match[str]) -> Iterator[str]:
    firsts, lasts = [*_amounts(found[1])], [*_amounts(found[2])]
    # Two years are both said as years.
    for first, last in islice(dict.fromkeys([*zip(firsts, lasts, strict=False), *product(firsts, lasts)]), 12):
        yield from (f"{first} to {last}", f"{first} {last}")


def _decade(found: re.Match[str]) -> Iterator[str]:
    for number in _amounts(found[1]):
        yield f"{number[:-1]}ies" if number.endswith("y") else f"{number}s"


_KINDS: list[tuple[str, Callable[[re.Match[str]], Iterator[str]]]] = [
    (r"\d+", lambda found: _whole(found[0])),
    (r"(?:(\d+)[ -])?(\d{1,3})/(\d{1,3})", _fractions),
    (r"\d\d?([/.-])\d\d?\1(?:\d{4}|\d\d)|\d{4}([/.-])\d\d?\2\d\d?", _dates),
    (r"(\d+)(?:st|nd|rd|th)", _ordinals),
    (r"['’]?(\d+)['’]?s", _decade),
    (r"(\d\d?):(\d\d)(?::\d\d)?([ap]\.?m\.?)?", _times),
    (rf"([{re.escape(CURRENCY_SIGNS)}])(\d+)(?:\.(\d\d))?", _prices),
    (rf"([{re.escape(CURRENCY_SIGNS)}])(\d+(?:\.\d+)?)(k|[mt]n?|bn?)?", _large_prices),
    (r"(\d+(?:\.\d+)?)k", _thousands),
    (r"([-−+])?(\d*)\.(\d+)(%)?", _decimals),
    (r"([-−])?(\d+)(%|[°º][cf]?)?", _signed),
    (r"\+?(?:\d{1,3}[-.])?\d{3}[-.]\d{3,4}(?:[-.]\d{3,4})?", _telephone),
    (r"(\d+)[-–](\d+)", _range),
]
