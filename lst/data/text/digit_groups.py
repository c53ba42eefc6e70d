"""Numbers whose thousands are divided by spaces: ``1 000 000``.

Thin and unbroken spaces always divide thousands. A plain space does so where the first group has one or two
digits (``12 500``), or the last one is 000 (``200 000``): other groups of three are numbers of their own
(``747 400``). It does not do so in a row of digits that is longer, or behind ``+``: a telephone number; nor behind a
word that is counted by numbers, or a list of them (``rooms 3, 12 100``), nor in ``1 800 FLOWERS``. A day behind its
month, and a year, are numbers of their own.

>>> groups_behind("he had 1 000 000 of 12 kinds")
{7: 2, 9: 1, 13: 0}
>>> without_group_spaces("1 000 000 of them, on May 12 500 people")
'1000000 of them, on May 12 500 people'
"""

from __future__ import annotations

import re

from lst.data.text.readings import MONTHS

_THIN = r"[\u00a0\u2007\u2009\u202f]"
_PLAIN = r"[1-9]\d{0,2}(?: \d{3}){1,4}(?!\d)"
_THINLY = rf"(?<!\d{_THIN})[1-9]\d{{0,2}}(?:{_THIN}\d{{3}}){{1,4}}(?!{_THIN}?\d)"
# Before it a year may stand; behind it, a fraction or the other end of a range.
_PLAINLY = (
    rf"(?<!\+)(?<!\+\s)(?<!(?<!\b[12]\d\d)\d\s)(?<!(?<!\b[12]\d\d)\d\)\s)(?<!\d[/:])"
    rf"{_PLAIN}(?:(?= \d\d?/\d)|(?=[–-]{_PLAIN})|(?!\s?[/:–-]?\d))"
)
_NUMBER = re.compile(rf"(?<![\w.,])(?:{_THINLY}|{_PLAINLY})(?![.,]\d{{3}}\b)")
_DAY = re.compile(r"(?:[1-9]|[12]\d|3[01]) (?=[1-9])")
_AFTER_MONTH = re.compile(rf"\b(?:{'|'.join(f'{name}|{name[:3]}' for name in MONTHS)}|Sept)\b\.?\s+$", re.IGNORECASE)
_COUNTED = (
    "apartment|channel|chapter|exit|extension|flight|gate|highway|hymn|lesson|line|number|page|platform|psalm|room|"
    "route|section|suite|track|verse|volume|"
    "kapitel|nummer|seite|zimmer|chambre|chapitre|numéro|psaume|capítulo|habitación|número|página"
)
_AFTER_COUNTED = re.compile(
    rf"(?:\b(?:{_COUNTED})s?|\b(?:nos?|nr|p|pp|tel)\.|#|n°)\s*(?:\d[\d ]*(?:,|,?\s+(?:and|or|to)|[–-])\s*)*$",
    re.IGNORECASE,
)
_TOLL_FREE = re.compile(r"1 [89]\d\d[ -][A-Z]{2}")


def _numbers(text: str) -> list[tuple[int, int]]:
    """Where such numbers begin and end in a text."""
    spans: list[tuple[int, int]] = []
    for found in _NUMBER.finditer(text):
        start, end = found.span()
        if " " in found[0]:
            before = text[max(0, start - 80) : start]
            if (day := _DAY.match(found[0])) and _AFTER_MONTH.search(before):
                start += len(day[0])
            elif _AFTER_COUNTED.search(before) or _TOLL_FREE.match(text, start):
                continue
            is_second = re.search(r"\d[–-]$", before) is not None
            is_number = re.match(r"\d\d? ", text[start:end]) or text[start:end].endswith(" 000")
            if not is_number or (is_second and not (spans and spans[-1][1] == start - 1)):
                continue
        spans.append((start, end))
    return spans


def groups_behind(text: str) -> dict[int, int]:
    """How many groups of three digits follow each group of such numbers, by the place of its first digit."""
    found: dict[int, int] = {}
    for start, end in _numbers(text):
        places = [start + group.start() for group in re.finditer(r"\d+", text[start:end])]
        found |= {place: len(places) - 1 - count for count, place in enumerate(places)}
    return found


def without_group_spaces(text: str) -> str:
    """A text with these spaces left out."""
    for start, end in reversed(_numbers(text)):
        text = text[:start] + re.sub(r"\s", "", text[start:end]) + text[end:]
    return text
