"""How numbers are read aloud in English: whole numbers, ordinals, years, decimals, fractions, prices, times.

>>> cardinal("1200000"), ordinal("21"), year("1905"), decimal("2.40")
('one million two hundred thousand', 'twenty first', 'nineteen oh five', 'two point four zero')
>>> fraction("3", "4"), price("$", "5", "50"), clock("7", "05")
('three quarters', 'five dollars and fifty cents', 'seven oh five')
"""

from __future__ import annotations

import re

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_LARGE = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
# One and several of a currency, and of its hundredth part.
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
}
CURRENCY_SIGNS = "".join(_CURRENCIES)
# The letters of large amounts begin so: $3m, $1.5bn.
SIZES = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion"}
# An amount of money, with the letters of its size or not.
MONEY = re.compile(rf"([{re.escape(CURRENCY_SIGNS)}])\s?(\d+(?:\.\d+)?)(?:(k|[mt]n?|bn?)\b)?", re.IGNORECASE)


def spell_number(digits: str) -> str:
    """Says a whole number in English words; from a million on, digit by digit.

    >>> spell_number("1066")
    'one thousand sixty six'
    """
    value = int(digits)
    if value >= 1_000_000 or (digits[0] == "0" and len(digits) > 1):
        return " ".join(_ONES[int(digit)] for digit in digits)
    if value < 20:
        return _ONES[value]
    if value < 100:
        return _TENS[value // 10] + (f" {_ONES[value % 10]}" if value % 10 else "")
    size, name = (100, "hundred") if value < 1000 else (1000, "thousand")
    rest = f" {spell_number(str(value % size))}" if value % size else ""
    return f"{spell_number(str(value // size))} {name}{rest}"


def digits_aloud(digits: str) -> str:
    """Digit by digit."""
    return " ".join(spell_number(digit) for digit in digits)


def cardinal(digits: str) -> str:
    """A whole number; one with a leading zero, or beyond trillions, is read digit by digit."""
    value = int(digits)
    if (len(digits) > 1 and digits[0] == "0") or value >= 10**15:
        return digits_aloud(digits)
    words = []
    for size, name in _LARGE:
        if value >= size:
            words += [spell_number(str(value // size)), name]
            value %= size
    return " ".join([*words, *([spell_number(str(value))] if value or not words else [])])


def ordinal(digits: str) -> str:
    """The ordinal of a whole number."""
    return ordinal_of(cardinal(digits))


def ordinal_of(words: str) -> str:
    """The ordinal of a whole number in words."""
    start, _, last = words.rpartition(" ")
    regular = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return f"{start} {_ORDINALS.get(last, regular)}".strip()


def year(digits: str) -> str:
    """A year of four digits: in two pairs, but 2000 to 2009 and full thousands as numbers."""
    first, second = digits[:2], digits[2:]
    if second == "00":
        return cardinal(digits) if digits[1] == "0" else f"{cardinal(first)} hundred"
    if digits[1:3] == "00":
        return cardinal(digits)
    return f"{cardinal(first)} {f'oh {cardinal(second[1])}' if second[0] == '0' else cardinal(second)}"


def decimal(written: str) -> str:
    """A number with a point: digits behind it one by one."""
    whole, _, part = written.partition(".")
    return f"{cardinal(whole or '0')} point {digits_aloud(part)}" if part else cardinal(whole)


def fraction(above: str, below: str) -> str:
    """A fraction; one with a denominator beyond 100 is read as ``over``."""
    if int(below) in (0, 1) or int(below) > 100:
        return f"{cardinal(above)} over {cardinal(below)}"
    one, several = {2: ("half", "halves"), 4: ("quarter", "quarters")}.get(
        int(below), (ordinal(below), f"{ordinal(below)}s")
    )
    return f"{cardinal(above)} {one if int(above) == 1 else several}"


def price(sign: str, whole: str, cents: str = "") -> str:
    """An amount of money: currency sign, whole units, and two digits of hundredths or none."""
    one, several, cent, all_cents = _CURRENCIES[sign]
    amount = f"{decimal(whole)} {one if whole == '1' else several}"
    if not cents or int(cents) == 0:
        return amount
    parts = f"{cardinal(str(int(cents)))} {cent if int(cents) == 1 else all_cents}"
    return parts if int(whole) == 0 else f"{amount} and {parts}"


def money_name(sign: str) -> str:
    """The name of more than one of a currency: ``dollars``."""
    return _CURRENCIES[sign][1]


def large_price(sign: str, amount: str, size: str) -> str:
    """An amount of millions and the like: ``$2.5 million``."""
    return f"{decimal(amount)} {size} {money_name(sign)}"


def money(found: re.Match[str]) -> str:
    """An amount that ``MONEY`` found: ``$5.50``, ``$3.5`` and ``$1.5bn``."""
    sign, amount, size = found[1], found[2], found[3]
    if size:
        return large_price(sign, amount, SIZES[size[0].lower()])
    whole, _, part = amount.partition(".")
    return price(sign, whole, part) if len(part) in (0, 2) else f"{decimal(amount)} {money_name(sign)}"


def clock(hours: str, minutes: str) -> str:
    """A time of day, hours and minutes."""
    hour = cardinal(str(int(hours)))
    if minutes == "00":
        return f"{hour} o'clock" if 1 <= int(hours) <= 12 else f"{hour} hundred hours"
    return f"{hour} {f'oh {cardinal(minutes[1])}' if minutes[0] == '0' else cardinal(minutes)}"


def plural(word: str) -> str:
    """The plural of a number's last word: ``nineteen eighties``."""
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}{'es' if word.endswith('x') else 's'}"
