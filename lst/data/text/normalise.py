"""Written English as it is read aloud: numbers, dates, prices, units, abbreviations, marks and addresses spelt out.

Rules follow one another: each replaces what it knows, so a later one never sees it. Words that are read as they stand,
their case and the punctuation of sentences stay as written.

>>> normalise("[header] How to bake [step] Heat to 350°F for 1 1/2 hrs. & add 2-3 tbsp. of oil.")
'How to bake. Heat to three hundred fifty degrees Fahrenheit for one and a half hours and add two to three tablespoons \
of oil.'
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from lst.data.text.digit_groups import without_group_spaces
from lst.data.text.readings import (
    CURRENCY_SIGNS,
    MONEY,
    MONTHS,
    cardinal,
    clock,
    decimal,
    digits_aloud,
    fraction,
    large_price,
    money,
    ordinal,
    plural,
    price,
    year,
)

# Raised when a reading changes, so that what was spoken by the earlier one is told apart.
NORMALISER = "built-in 2"

# Singular and plural of units, by their abbreviations; they are read as units behind a number only.
_UNITS = {
    "oz": ("ounce", "ounces"),
    "lb lbs": ("pound", "pounds"),
    "g": ("gram", "grams"),
    "kg kgs": ("kilogram", "kilograms"),
    "mg": ("milligram", "milligrams"),
    "l": ("liter", "liters"),
    "ml": ("milliliter", "milliliters"),
    "dl": ("deciliter", "deciliters"),
    "cl": ("centiliter", "centiliters"),
    "mm": ("millimeter", "millimeters"),
    "cm": ("centimeter", "centimeters"),
    "m": ("meter", "meters"),
    "km": ("kilometer", "kilometers"),
    "in": ("inch", "inches"),
    "ft": ("foot", "feet"),
    "yd yds": ("yard", "yards"),
    "mi": ("mile", "miles"),
    "mph": ("mile an hour", "miles an hour"),
    "kph km/h kmh": ("kilometer an hour", "kilometers an hour"),
    "tsp tsps": ("teaspoon", "teaspoons"),
    "tbsp tbsps tbs": ("tablespoon", "tablespoons"),
    "pt pts": ("pint", "pints"),
    "qt qts": ("quart", "quarts"),
    "gal": ("gallon", "gallons"),
    "hr hrs h": ("hour", "hours"),
    "min mins": ("minute", "minutes"),
    "sec secs": ("second", "seconds"),
    "ms": ("millisecond", "milliseconds"),
    "yr yrs": ("year", "years"),
    "hz": ("hertz", "hertz"),
    "khz": ("kilohertz", "kilohertz"),
    "mhz": ("megahertz", "megahertz"),
    "ghz": ("gigahertz", "gigahertz"),
    "kb": ("kilobyte", "kilobytes"),
    "mb": ("megabyte", "megabytes"),
    "gb": ("gigabyte", "gigabytes"),
    "w": ("watt", "watts"),
    "v": ("volt", "volts"),
    "°c ºc": ("degree Celsius", "degrees Celsius"),
    "°f ºf": ("degree Fahrenheit", "degrees Fahrenheit"),
    "° º": ("degree", "degrees"),
    "%": ("percent", "percent"),
    "¢": ("cent", "cents"),
}
UNIT_NAMES = {short: names for shorts, names in _UNITS.items() for short in shorts.split()}
# "in" is a word as well: a unit only where a point or a bracket follows.
_UNIT = "|".join(sorted((re.escape(short) for short in UNIT_NAMES if short != "in"), key=len, reverse=True))

ABBREVIATIONS = {
    "mr": "mister",
    "mrs": "missus",
    "ms": "miz",
    "dr": "doctor",
    "prof": "professor",
    "st": "saint",
    "jr": "junior",
    "sr": "senior",
    "vs": "versus",
    "etc": "et cetera",
    "e.g": "for example",
    "i.e": "that is",
    "approx": "approximately",
    "dept": "department",
    "govt": "government",
    "ave": "avenue",
    "blvd": "boulevard",
    "tbsp": "tablespoon",
    "tsp": "teaspoon",
    "a.m": "A M",
    "p.m": "P M",
    "u.s": "U S",
    "u.s.a": "U S A",
    "u.k": "U K",
}
_WITH_POINT = "|".join(map(re.escape, sorted(ABBREVIATIONS, key=len, reverse=True)))
# Those that are also written without a point.
_BARE = {"vs", "etc", "mr", "mrs", "dr", "tbsp", "tsp"}
_SIGNS = {
    "&": " and ",
    "+": " plus ",
    "=": " equals ",
    "@": " at ",
    "×": " times ",
    "÷": " divided by ",
    "±": " plus or minus ",
    "°": " degrees ",
    "º": " degrees ",
    "%": " percent ",
    "$": " dollars ",
    "£": " pounds ",
    "€": " euros ",
    "§": " section ",
    "<": " less than ",
    ">": " greater than ",
}
_QUOTES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "“": '"', "”": '"', "–": "-", "−": "-", "⁄": "/"})
_NUM = r"\d+(?:\.\d+)?"
# The characters ¼ ½ ¾ and ⅐ to ⅞, as they are written with a slash.
FRACTIONS = {
    char: unicodedata.normalize("NFKD", char).replace("⁄", "/")
    for char in map(chr, (0xBC, 0xBD, 0xBE, *range(0x2150, 0x215F)))
}
_ADDRESS = (
    r"(?:https?://|www\.)[^\s\")\]]*[\w/]|\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|\b[\w-]+\.(?:com|org|net|edu|gov|co\.uk)\b(?:/[\w./-]*\w)?"
)
# What stands before a year: other numbers of four digits are read as numbers.
_BEFORE_YEAR = "in|since|by|until|from|of|year|after|before|during|circa"
_PARTS = "half|halves|thirds?|quarters?|fifths?|sixths?|eighths?|sixteenths?"
_MONTH = "|".join(f"{name}|{name[:3]}" for name in MONTHS)
Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def _unit_name(short: str, is_one: bool) -> str:
    return UNIT_NAMES[short.lower()][0 if is_one else 1]


def _month(name: str) -> str:
    return next(month for month in MONTHS if month.lower().startswith(name.lower()[:3]))


def _numeric_date(found: re.Match[str]) -> str:
    """``7/4/2014``: month, day, year; anything that is no date is read as a division."""
    month, day, number = (int(found[place]) for place in (1, 2, 3))
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return " slash ".join(cardinal(found[place]) for place in (1, 2, 3))
    spoken = year(found[3]) if len(found[3]) == 4 else year(f"{20 if number < 50 else 19}{found[3]}")
    return f"{MONTHS[month - 1]} {ordinal(str(day))} {spoken}"


def _iso_date(found: re.Match[str]) -> str:
    month, day = int(found[2]), int(found[3])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return " dash ".join(cardinal(found[place]) for place in (1, 2, 3))
    return f"{MONTHS[month - 1]} {ordinal(str(day))} {year(found[1])}"


def _time(found: re.Match[str]) -> str:
    """A time of day; with a.m. or p.m., full hours have no ``o'clock``."""
    if not found[3]:
        return clock(found[1], found[2])
    said = cardinal(str(int(found[1]))) if found[2] == "00" else clock(found[1], found[2])
    return f"{said} {found[3].upper()} M"


def _address(found: re.Match[str]) -> str:
    """A web or mail address: its names, with dots and slashes said."""
    bare = re.sub(r"^https?://", "", found[0]).rstrip("/")
    bare = re.sub(r"^www\.", "w w w.", bare)
    for sign, spoken in ((".", " dot "), ("/", " slash "), ("@", " at "), ("-", " dash "), ("_", " underscore ")):
        bare = bare.replace(sign, spoken)
    return re.sub(r"\d+", lambda number: f" {digits_aloud(number[0])} ", re.sub(r"[^\w\s]", " ", bare))


def _measure(found: re.Match[str]) -> str:
    """``5 oz``, and ``5-oz``, which describes what follows and is singular."""
    is_one = found[1] == "1" or found[2] == "-"
    return f"{decimal(found[1])} {_unit_name(found[3], is_one)}"


def _part_of_unit(found: re.Match[str]) -> str:
    """A unit behind a fraction that is words by now: ``a half cup``, but ``one and a half cups``."""
    is_one = found[1].endswith("half") and not found.string[: found.start()].endswith("and a ")
    return f"{found[1]} {_unit_name(found[2], is_one)}"


def _mixed(found: re.Match[str]) -> str:
    """``1 1/2``; one half and one quarter are read with an ``a``."""
    part = fraction(found[2], found[3])
    return f"{cardinal(found[1])} and {re.sub('^one ', 'a ', part)}"


def _decade(found: re.Match[str]) -> str:
    digits = found[1]
    words = year(digits) if len(digits) == 4 else cardinal(digits)
    start, _, last = words.rpartition(" ")
    return f"{start} {plural(last)}".strip()


def _abbreviation(found: re.Match[str]) -> str:
    spoken = ABBREVIATIONS[found[1].lower()]
    return spoken.capitalize() if found[1][0].isupper() and len(found[1]) > 1 and "." not in found[1] else spoken


_RULES: list[Rule] = [
    (re.compile(r"\s*\[(?:title|header|step|substeps)\]\s*", re.I), lambda _: ". "),
    (re.compile(r"[\[\]{}|*_~^\\]"), lambda _: " "),
    (re.compile(_ADDRESS, re.I), _address),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), lambda _: ""),
    # Brackets are silent, and a pause.
    (re.compile(r"\s*\(\s*"), lambda _: ", "),
    (re.compile(r"\s*\)(?=\s*[.,;:!?]|\s*$)"), lambda _: ""),
    (re.compile(r"\s*\)\s*"), lambda _: ", "),
    (re.compile(rf"(\d)?([{''.join(FRACTIONS)}])"), lambda m: f"{m[1] or ''} {FRACTIONS[m[2]]}".strip()),
    (re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b"), _iso_date),
    (re.compile(r"\b(\d\d?)/(\d\d?)/(\d{4}|\d\d)\b"), _numeric_date),
    (
        re.compile(rf"\b({_MONTH})\b\.?\s+(\d\d?)(?:st|nd|rd|th)?\b(?:,?\s+(\d{{4}})\b)?(?!:)", re.I),
        lambda m: f"{_month(m[1])} {ordinal(m[2])}{f', {year(m[3])}' if m[3] else ''}",
    ),
    (
        re.compile(rf"\b(?:the\s+)?(\d\d?)(?:st|nd|rd|th)?\s+(?:of\s+)?({_MONTH})\b\.?(?:,?\s+(\d{{4}})\b)?", re.I),
        lambda m: f"the {ordinal(m[1])} of {_month(m[2])}{f', {year(m[3])}' if m[3] else ''}",
    ),
    (re.compile(rf"\b({'|'.join(MONTHS)}),?\s+(\d{{4}})\b", re.I), lambda m: f"{m[1]} {year(m[2])}"),
    (
        re.compile(
            rf"([{re.escape(CURRENCY_SIGNS)}])\s?({_NUM})\s+(hundred|thousand|million|billion|trillion)\b", re.I
        ),
        lambda m: large_price(m[1], m[2], m[3]),
    ),
    (
        re.compile(rf"([{re.escape(CURRENCY_SIGNS)}])\s?(\d+)\s?-\s?[{re.escape(CURRENCY_SIGNS)}]?(\d+)\b"),
        lambda m: f"{cardinal(m[2])} to {price(m[1], m[3])}",
    ),
    (MONEY, money),
    # A time of day, then a ratio or a score.
    (
        re.compile(r"\b([01]?\d|2[0-4]):([0-5]\d)(?::[0-5]\d)?(?:\s*([ap])\.?\s?m\b\.?)?", re.I),
        _time,
    ),
    (re.compile(r"\b(\d\d?)\s*([ap])\.?\s?m\b\.?", re.I), lambda m: f"{cardinal(m[1])} {m[2].upper()} M"),
    (re.compile(r"\b(\d+):(\d+)\b"), lambda m: f"{cardinal(m[1])} to {cardinal(m[2])}"),
    # Feet and inches, then inches alone.
    (
        re.compile(r"\b(\d)'\s?(\d\d?)(?:\"|''|\b(?!'))"),
        lambda m: f"{cardinal(m[1])} foot {cardinal(m[2])}",
    ),
    # Telephone numbers.
    (
        re.compile(r"\b(?:\d{1,3}-)?\d{3}-\d{3,4}(?:-\d{3,4})?\b"),
        lambda m: ", ".join(digits_aloud(part) for part in m[0].split("-")),
    ),
    (re.compile(r"\b1-([89]\d\d)-(?=[a-z])", re.I), lambda m: f"one, {cardinal(m[1])}, "),
    (re.compile(r"\b24/7\b"), lambda _: "twenty four seven"),
    # Fractions: with a whole number, then alone, then behind a range.
    (re.compile(r"\b(\d+)(?:\s+|-)(?:and\s+)?(\d{1,2})/(\d{1,3})\b"), _mixed),
    (re.compile(r"\b(\d+)/(\d+)\b(?!/)"), lambda m: fraction(m[1], m[2])),
    # Years and decades.
    (re.compile(r"(?<!\w)'(\d0)s\b"), _decade),
    (re.compile(r"\b((?:1[1-9]|20)\d0|[2-9]0)'?s\b"), _decade),
    (
        re.compile(rf"\b({_BEFORE_YEAR})\s+((?:1[1-9]|20)\d\d)\b(?![-.%°]\w|\s*(?:%|\w+s\b))", re.I),
        lambda m: f"{m[1]} {year(m[2])}",
    ),
    # Ordinals.
    (re.compile(r"\b(\d+)(?:st|nd|rd|th)\b", re.I), lambda m: ordinal(m[1])),
    # Ranges with a unit keep it behind the second number.
    (re.compile(rf"\b({_NUM})\s?-\s?(?={_NUM}(?!\d*-\d))"), lambda m: f"{decimal(m[1])} to "),
    # Units: behind a number, or behind a fraction that is words by now.
    (
        re.compile(rf"(?<![\w.])({_NUM})([\s-]?)({_UNIT})(?:\b\.?(?=\s+[a-z(,]|\s*[,;:!?])|(?!\w))", re.I),
        _measure,
    ),
    (re.compile(rf"(?<![\w.])({_NUM})([\s-]?)(in)(?:\.|(?=\s*[,;)]|\s*$))", re.I), _measure),
    (re.compile(rf"\b({_PARTS})[\s-]({_UNIT})\b\.?(?=\s|[,;:!?]|$)", re.I), _part_of_unit),
    (
        re.compile(rf"(?<![\w.])({_NUM})\s?\"(?=[\s,.;]|$)"),
        lambda m: f"{decimal(m[1])} {'inch' if m[1] == '1' else 'inches'}",
    ),
    (re.compile(r"#\s?(\d+)"), lambda m: f"number {cardinal(m[1])}"),
    (re.compile(r"\bno\.\s?(\d+)", re.I), lambda m: f"number {cardinal(m[1])}"),
    (re.compile(r"(?<![\w.])-(\d)"), lambda m: f"minus {m[1]}"),
    (re.compile(rf"(?<!\w)({_WITH_POINT})\.(?!\w)", re.I), _abbreviation),
    (re.compile(rf"\b({'|'.join(sorted(_BARE))})\b(?!\.\w)", re.I), _abbreviation),
    (re.compile(r"\band/or\b", re.I), lambda _: "and or"),
    (re.compile(r"\bw/o\b", re.I), lambda _: "without"),
    (re.compile(r"\bw/\s?(?=\w)", re.I), lambda _: "with "),
    # Versions, then decimals, whole numbers, and numbers within words (mp3).
    (re.compile(r"\b(\d+(?:\.\d+){2,})\b"), lambda m: " point ".join(cardinal(part) for part in m[1].split("."))),
    (re.compile(r"(?<![\d.])\.(\d+)"), lambda m: f" point {digits_aloud(m[1])}"),
    (re.compile(r"\d+\.\d+"), lambda m: f" {decimal(m[0])} "),
    (re.compile(r"\d+"), lambda m: f" {cardinal(m[0])} "),
    (re.compile(f"[{re.escape(''.join(_SIGNS))}]"), lambda m: _SIGNS[m[0]]),
    (re.compile(r"(?<=\w)\s?/\s?(?=\w)"), lambda _: " or "),
    (re.compile(r"[#/®™©•·]"), lambda _: " "),
]
_TIDY: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"\s+"), " "),
    (re.compile(r"\s+([.,;:!?])"), r"\1"),
    (re.compile(r"(?<=\w)\s+-(?=[A-Za-z])"), "-"),
    # What is left of brackets and marks beside other punctuation.
    (re.compile(r"[,;:](?:\s*[,;:])+"), ","),
    (re.compile(r",\s*([.!?])"), r"\1"),
    (re.compile(r"([.!?]),"), r"\1"),
    (re.compile(r"([!?])\s*\.(?=\s|$)"), r"\1"),
    (re.compile(r"(?:\.\s*){2,}(?=\S|$)"), ". "),
    (re.compile(r"^[\s.,;:!?-]+"), ""),
    (re.compile(r"\s+$"), ""),
]


def normalise(text: str) -> str:
    """The text as it is read aloud: no digit is left, and of signs only the punctuation of sentences.

    Letters of other scripts stay, so that a check finds them.
    """
    said = without_group_spaces(text.translate(_QUOTES))
    for pattern, reading in _RULES:
        said = pattern.sub(reading, said)
    for pattern, replacement in _TIDY:
        said = pattern.sub(replacement, said)
    return said
