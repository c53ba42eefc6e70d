"""Numbers whose thousands are divided by spaces, plain, thin or unbroken ones: ``1 000 000``.

>>> groups_behind("he had 1 000 000 of 12 kinds")
{7: 2, 9: 1, 13: 0}
>>> without_group_spaces("1 000 000 of them, on May 12 500 people")
'1000000 of them, on May 12 500 people'
"""

from __future__ import annotations

import re

_SPACE = r"[ \u00a0\u2007\u2009\u202f]"
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
# No part of a longer row of digits, such as a telephone number, a date or a range.
_NUMBER = re.compile(
    rf"(?<![\w.,])(?<!\d[\s/:–-])[1-9]\d{{0,2}}(?:{_SPACE}\d{{3}}){{1,4}}(?!\d)(?!{_SPACE}?[/:–-]?\d)(?![.,]\d{{3}}\b)"
)
_AFTER_MONTH = re.compile(rf"\b(?:{_MONTHS}|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.?)\s+$")


def _numbers(text: str) -> list[re.Match[str]]:
    """The numbers in a text; a day behind its month and three digits are two of them."""
    return [
        found
        for found in _NUMBER.finditer(text)
        if len(found[0]) > 6 or _AFTER_MONTH.search(text[max(0, found.start() - 12) : found.start()]) is None
    ]


def groups_behind(text: str) -> dict[int, int]:
    """How many groups of three digits follow each group of such numbers, by the place of its first digit."""
    found: dict[int, int] = {}
    for number in _numbers(text):
        places = [group.start() + number.start() for group in re.finditer(r"\d+", number[0])]
        found |= {place: len(places) - 1 - count for count, place in enumerate(places)}
    return found


def without_group_spaces(text: str) -> str:
    """A text with these spaces left out."""
    for number in reversed(_numbers(text)):
        text = text[: number.start()] + re.sub(r"\s", "", number[0]) + text[number.end() :]
    return text
