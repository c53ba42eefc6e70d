"""How pieces of a transcript in another language are read: German, French and Spanish numbers in many ways.

Digits of all other languages stay as they are: the aligner says them (eSpeak NG) or takes them as any sound (CTC).

>>> from itertools import islice
>>> list(islice(foreign_readings("5,50€", "", "", "de"), 2)), next(foreign_readings("1987", "", "", "fr"))
(['fünf euro fünfzig', 'fünf euro fünfzig cent'], 'mille neuf cent quatre vingt sept')
>>> list(foreign_readings("12", "", "", "ru"))
['12']
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, product

from lst.data.text.number_styles import STYLES, NumberStyle
from lst.data.text.number_words import LARGEST, german, spanish

_EDGES = re.compile(r"^[^\w$£€\-−+]+|[^\w%°€$£ºª]+$")
_DIGITS = re.compile(r"\d+")


def foreign_readings(
    written: str, before: str, after: str, language: str, group: int | None = None, place: int = 0
) -> Iterator[str]:
    """Ways to say a piece of a transcript, the plain one first.

    Args:
        written: the piece.
        before, after: the pieces around it, perhaps empty.
        language: its code.
        group: of a number whose thousands are divided by spaces: how many groups are behind this one.
        place: of the first digit of this group in the piece.
    """
    style = STYLES.get(language)
    bare = _EDGES.sub("", written)
    if style is None or not any(map(str.isdecimal, bare)):
        yield written
        if style is not None:
            yield from _without_digits(style, written, bare, before)
        return
    if group is not None:
        yield from _parts_of_number(style, written, group, place)
    yield from _number_readings(style, written, bare, bool(after))
    if _sign(after) in style.money:
        yield from _number_readings(style, "", f"{bare}{_sign(after)}", True)


def _parts_of_number(style: NumberStyle, written: str, group: int, place: int) -> Iterator[str]:
    """A group of three digits as its part of a number; behind the last one may stand a decimal part or a sign.

    Before it another number may end, as in ``000–15`` of ``12 000–15 000``.
    """
    bare, ahead = _EDGES.sub("", written[place:]), _EDGES.sub("", written[:place])
    digits, part, sign = re.findall(rf"(\d+)(?:{re.escape(style.decimal)}(\d+))?(\D*)", bare)[0]
    said = style.cardinal(int(digits) * 1000**group) if int(digits) else ""
    if any(map(str.isdecimal, ahead)):
        is_zeros = re.fullmatch("0+", ahead)
        first = "" if is_zeros else next(_number_readings(style, "", ahead.lstrip("0"), False), ahead)
        said = f"{first} {style.to if re.search('[–-]$', written[:place]) else ''} {said}"
    if part:
        said = f"{said} {style.point} {style.digits(part)}"
    names = style.money[sign][1:2] if sign in style.money else style.percents if sign == "%" else ()
    yield from (f"{said} {name}" for name in names)
    yield said


def _sign(piece: str) -> str:
    return piece.strip(' .,;:!?()"»«')


def _without_digits(style: NumberStyle, written: str, bare: str, before: str) -> Iterator[str]:
    """Signs of money and percent, which may be silent, and abbreviations."""
    if (sign := _sign(written)) in style.money:
        yield from ("", *style.money[sign][:2])
    elif sign == "%":
        yield from style.percents
    elif written == "&":
        yield style.link
    has_point = "." in written.rstrip(",;:!?)\"'")
    key = bare.lower().rstrip(".")
    if has_point or key in ("n°", "mme", "mlle") or (any(map(str.isdecimal, before)) and len(key) <= 3):
        yield from style.abbreviations.get(key, ())


def _number_readings(style: NumberStyle, written: str, bare: str, goes_on: bool) -> Iterator[str]:
    """Readings of a piece with digits: of the first kind of number that it is."""
    marked = re.fullmatch(rf"(\d+){style.marked_ordinal}", bare, re.IGNORECASE)
    if style.cardinal is german and goes_on and re.fullmatch(r"\W*\d+\.\W*", written):
        # A point behind a number within a sentence marks an ordinal.
        marked = re.search(r"(\d+)", written)
    if style.cardinal is german and (day := re.fullmatch(r"\W*(\d\d?)\.(\d\d?)\.\W*", written)):
        # A day and its month, or a number that ends a sentence.
        yield from _days(style, int(day[1]), int(day[2]), [""])
    if marked and int(marked[1]) < LARGEST:
        yield from style.ordinals(int(marked[1]))
        yield from style.amounts(int(marked[1]))
        return
    for pattern, read in _KINDS:
        expression = pattern.replace("G", re.escape(style.group)).replace("D", re.escape(style.decimal))
        if match := re.fullmatch(expression, bare, re.IGNORECASE):
            yield from read(style, match)
            return
    parts = re.findall(r"\d+|[^\d]+", bare)
    ways: list[Sequence[str]] = [
        [*islice(style.amounts(int(part)), 3), style.digits(part)] if part.isdecimal() else [f" {part} "]
        for part in parts
    ]
    yield from (" ".join(way) for way in islice(product(*ways), 12))


def _whole(style: NumberStyle, found: re.Match[str]) -> Iterator[str]:
    digits = found[0]
    if len(digits) == 1 or digits[0] != "0":
        yield from style.amounts(int(digits))
    if int(digits) <= 31:
        yield from style.ordinals(int(digits))
    if len(digits) > 1:
        yield style.digits(digits)
        pairs = [digits[place : place + 2] for place in range(0, len(digits), 2)]
        if len(digits) % 2 == 0 and len(digits) <= 10:
            yield " ".join(style.digits(pair) if pair[0] == "0" else style.cardinal(int(pair)) for pair in pairs)


def _amount(style: NumberStyle, whole: str, part: str | None) -> list[str]:
    """A number with or without a part behind the decimal sign."""
    value = int(re.sub(r"\D", "", whole))
    if not part:
        return list(style.amounts(value))
    said = style.cardinal(value) if value < LARGEST else style.digits(str(value))
    behind = [style.digits(part)] if part[0] == "0" else [style.digits(part), style.cardinal(int(part))]
    # Fractions are said digit by digit in German, as a number elsewhere.
    return [f"{said} {style.point} {one}" for one in (behind if style.cardinal is german else behind[::-1])]


def _decimal(style: NumberStyle, found: re.Match[str]) -> Iterator[str]:
    minus = f"{style.minus} " if found[1] else ""
    unit = [f" {name}" for name in style.percents] if found[4] == "%" else [""]
    if found[4] in ("°", "°C", "°c"):
        unit = [f" {style.degree}", f" {style.degree} celsius"]
    for said, name in product(_amount(style, found[2], found[3]), unit):
        yield f"{minus}{said}{name}"


def _price(style: NumberStyle, found: re.Match[str]) -> Iterator[str]:
    """``5,50€`` and ``€5,50``: with the name of the money between or behind, and with that of its hundredths."""
    sign, whole, part = found[1] or found[4], found[2], found[3]
    one, several, hundredths = style.money[sign]
    value = int(re.sub(r"\D", "", whole))
    amounts = list(style.amounts(value))
    names = (one, several) if value == 1 else (several,)
    if not part or not int(part):
        yield from (f"{said} {name}" for said in amounts[::-1] for name in names)
        return
    cents = style.cardinal(int(part))
    for said, name in product(amounts[:2], names):
        yield from (f"{said} {name} {cents}", f"{said} {name} {cents} {hundredths}", f"{said} {cents}")
        yield f"{said} {name} {style.link} {cents} {hundredths}"
    yield from (f"{said} {several}" for said in _amount(style, whole, part))


def _time(style: NumberStyle, found: re.Match[str]) -> Iterator[str]:
    hour, minutes = int(found[1]), int(found[2] or 0)
    behind = style.cardinal(minutes)
    for own in _hours(style, hour):
        for name in style.hour:
            yield f"{own} {name} {behind}" if minutes else f"{own} {name}"
        yield f"{own} {behind}" if minutes else own
        if style.cardinal is spanish:
            yield f"{own} y {behind}" if minutes else f"{own} en punto"
    # Told by the clock, 15:15 is a quarter past three.
    past = dict.fromkeys([*_hours(style, hour), *_hours(style, hour % 12 or 12)])
    for own, after, way in product(past, _hours(style, hour % 12 + 1), style.told.get(minutes, ())):
        yield way.format(hour=own, next=after)


def _hours(style: NumberStyle, hour: int) -> list[str]:
    """The number of an hour; 1 as it stands before a noun first."""
    said = [*style.amounts(hour)]
    return said[1:] + said[:1] if hour == 1 else said[:1]


def _date(style: NumberStyle, found: re.Match[str]) -> Iterator[str]:
    """``3.5.2020``, ``3/5/2020`` and ``2020-05-03``: the day, then the month."""
    numbers = [int(one) for one in _DIGITS.findall(found[0])]
    day, month, year = numbers if len(_DIGITS.findall(found[0])[0]) <= 2 else numbers[::-1]
    if not (1 <= day <= 31 and 1 <= month <= 12):
        yield " ".join(style.cardinal(number) for number in numbers)
        return
    yield from _days(style, day, month, style.amounts(year))


def _days(style: NumberStyle, day: int, month: int, years: Iterable[str]) -> Iterator[str]:
    """A day of a month, if there is one, in each of the years."""
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return
    days = style.ordinals(day) if style.cardinal is german or day == 1 else (style.cardinal(day),)
    months = style.ordinals(month)
    for pattern, own, said in product(style.date, (*days, style.cardinal(day)), years):
        # German ordinals agree: am dritten vierten, dritter vierter.
        number = months[1] if style.cardinal is german and own.endswith("r") else months[0]
        yield pattern.format(day=own, ordinal=own, month=style.months[month - 1], number=number, year=said).strip()


def _pointed(style: NumberStyle, found: re.Match[str]) -> Iterator[str]:
    """``3.5``, where a comma is the decimal sign: a decimal all the same, two numbers, a day and its month."""
    whole, part = style.cardinal(int(found[1])), found[2]
    behind = dict.fromkeys([style.digits(part), style.cardinal(int(part)) if part[0] != "0" else style.digits(part)])
    for sign, name in product((style.point, style.dot, ""), style.percents if found[3] else ("",)):
        yield from (f"{whole} {sign} {said} {name}" for said in behind)
    if style.cardinal is german and not found[3]:
        yield from _days(style, int(found[1]), int(part), [""])


def _range(style: NumberStyle, found: re.Match[str]) -> Iterator[str]:
    firsts, lasts = style.amounts(int(found[1])), [*style.amounts(int(found[2]))]
    for first, last in islice(product(firsts, lasts), 4):
        yield from (f"{first} {style.to} {last}", f"{first} {last}")


# G and D stand for the signs of groups and decimals; the signs themselves are put in for each language.
_GROUPED = r"\d+(?:G\d{3})*"
_KINDS: list[tuple[str, Callable[[NumberStyle, re.Match[str]], Iterator[str]]]] = [
    (r"\d+", _whole),
    (r"(\d\d?)[:h](\d\d)?(?::\d\d)?", _time),
    (r"\d\d?([/.-])\d\d?\1(?:\d{4}|\d\d)|\d{4}-\d\d-\d\d", _date),
    (rf"(?=.*[€$£])([€$£])?({_GROUPED})(?:D(\d\d))?([€$£])?", _price),
    (rf"([-−])?({_GROUPED})(?:D(\d+))?(%|°c?)?", _decimal),
    (r"(\d{1,6})\.(\d{1,6})(%)?", _pointed),
    (r"(\d+)[-–](\d+)", _range),
]
