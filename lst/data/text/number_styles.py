"""How German, French and Spanish write and say numbers, dates, prices and times, and their commonest abbreviations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from lst.data.text.number_words import (
    LARGEST,
    french,
    french_ordinal,
    german,
    german_ordinal,
    spanish,
    spanish_before_noun,
    spanish_ordinal,
)


@dataclass(frozen=True)
class NumberStyle:
    """How a language writes and says numbers.

    Attributes:
        cardinal, ordinals: of a whole number; all forms of an ordinal, the usual one first.
        forms: other forms of a whole number, before a noun.
        point, minus, link, to, degree, percents: their names: of the decimal sign, of and, between the ends of a range.
        group, decimal: signs in written numbers.
        months: from January.
        money: by sign, the names of one and of several, and of several hundredths.
        hour: the words behind the hour of a time; several where it depends on the number.
        told: ways to tell a time by the clock: from the hour and the next one, by minutes.
        date: a date from day, month and year, as words.
        marked_ordinal: what is written behind an ordinal's digits, as a regular expression.
        abbreviations: what they stand for, by their letters, without the last point.
        dot: the name of the point in a number.
    """

    cardinal: Callable[[int], str]
    ordinals: Callable[[int], tuple[str, ...]]
    forms: Callable[[int], tuple[str, ...]]
    point: str
    minus: str
    link: str
    to: str
    degree: str
    percents: tuple[str, ...]
    group: str
    decimal: str
    months: tuple[str, ...]
    money: dict[str, tuple[str, str, str]]
    hour: tuple[str, ...]
    told: Mapping[int, tuple[str, ...]]
    date: tuple[str, ...]
    marked_ordinal: str
    abbreviations: dict[str, tuple[str, ...]]
    dot: str

    def amounts(self, value: int) -> Iterator[str]:
        """A whole number in all its forms; from 1100 to 1999, German counts hundreds first."""
        if value >= LARGEST:
            yield self.digits(str(value))
            return
        if self.cardinal is german and 1100 <= value < 2000:
            yield f"{german(value // 100)}hundert{german(value % 100) if value % 100 else ''}"
        yield self.cardinal(value)
        yield from self.forms(value)

    def digits(self, written: str) -> str:
        """Digit by digit."""
        return " ".join(self.cardinal(int(digit)) for digit in written)


def _german_forms(value: int) -> tuple[str, ...]:
    said = german(value)
    forms = tuple(said[:-1] + end for end in ("", "e", "en", "em", "er")) if said.endswith("eins") else ()
    return (*forms, said[3:]) if said.startswith(("eintausend", "einhundert")) else forms


def _french_forms(value: int) -> tuple[str, ...]:
    said = french(value)
    return (f"{said}e",) if said.split()[-1] == "un" else ()


def _spanish_forms(value: int) -> tuple[str, ...]:
    said = spanish(value)
    found = (spanish_before_noun(value), f"{said[:-1]}a") if said.endswith("uno") else ()
    return (*found, said.replace("cientos", "cientas")) if "cientos" in said else found


def _german_ordinals(value: int) -> tuple[str, ...]:
    weak = german_ordinal(value)
    return (weak + "n", weak + "r", weak, weak + "s")


def _french_ordinals(value: int) -> tuple[str, ...]:
    said = french_ordinal(value)
    return (said, "première") if value == 1 else (said, "second", "seconde") if value == 2 else (said,)


def _spanish_ordinals(value: int) -> tuple[str, ...]:
    said = spanish_ordinal(value)
    return (said, f"{said[:-1]}a", said[:-1]) if 1 <= value <= 10 else (said,)


STYLES = {
    "de": NumberStyle(
        german,
        _german_ordinals,
        _german_forms,
        "komma",
        "minus",
        "und",
        "bis",
        "grad",
        ("prozent",),
        ".",
        ",",
        (
            *("januar", "februar", "märz", "april", "mai", "juni", "juli", "august", "september", "oktober"),
            *("november", "dezember"),
        ),
        {"€": ("euro", "euro", "cent"), "$": ("dollar", "dollar", "cent"), "£": ("pfund", "pfund", "pence")},
        ("uhr",),
        {30: ("halb {next}",), 15: ("viertel nach {hour}", "viertel {next}"), 45: ("viertel vor {next}",)},
        ("{ordinal} {month} {year}", "{ordinal} {number} {year}"),
        r"\.",
        {
            "z.b": ("zum beispiel",),
            "d.h": ("das heißt",),
            "u.a": ("unter anderem",),
            "usw": ("und so weiter",),
            "bzw": ("beziehungsweise",),
            "ca": ("circa",),
            "dr": ("doktor",),
            "nr": ("nummer",),
            "st": ("sankt",),
            "str": ("straße",),
            "prof": ("professor",),
            "km": ("kilometer",),
            "kg": ("kilogramm", "kilo"),
            "cm": ("zentimeter",),
            "m": ("meter",),
            "g": ("gramm",),
            "h": ("stunden",),
            "min": ("minuten",),
            "hr": ("herr",),
        },
        "punkt",
    ),
    "fr": NumberStyle(
        french,
        _french_ordinals,
        _french_forms,
        "virgule",
        "moins",
        "et",
        "à",
        "degrés",
        ("pour cent",),
        ".",
        ",",
        (
            *("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre"),
            *("novembre", "décembre"),
        ),
        {
            "€": ("euro", "euros", "centimes"),
            "$": ("dollar", "dollars", "cents"),
            "£": ("livre", "livres", "pence"),
        },
        ("heures", "heure"),
        {
            30: ("{hour} heures et demie", "{hour} heure et demie"),
            15: ("{hour} heures et quart", "{hour} heure et quart"),
        }
        | {45: ("{next} heures moins le quart", "{next} heure moins le quart")},
        ("{day} {month} {year}",),
        r"(?:er|re|ère|e|ème|ième|nd|nde)",
        {
            "m": ("monsieur", "mètres"),
            "mme": ("madame",),
            "mlle": ("mademoiselle",),
            "dr": ("docteur",),
            "n°": ("numéro",),
            "st": ("saint",),
            "ste": ("sainte",),
            "etc": ("et cetera",),
            "km": ("kilomètres",),
            "kg": ("kilos", "kilogrammes"),
            "cm": ("centimètres",),
            "g": ("grammes",),
            "h": ("heures",),
            "min": ("minutes",),
        },
        "point",
    ),
    "es": NumberStyle(
        spanish,
        _spanish_ordinals,
        _spanish_forms,
        "coma",
        "menos",
        "con",
        "a",
        "grados",
        ("por ciento",),
        ".",
        ",",
        (
            *("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre"),
            *("noviembre", "diciembre"),
        ),
        {
            "€": ("euro", "euros", "céntimos"),
            "$": ("dólar", "dólares", "centavos"),
            "£": ("libra", "libras", "peniques"),
        },
        ("horas", "hora"),
        {30: ("{hour} y media",), 15: ("{hour} y cuarto",), 45: ("{next} menos cuarto",)},
        ("{day} de {month} de {year}", "{day} de {month} del {year}"),
        r"(?:\.?[ºª°]|er|ro|ra|do|da|to|ta|mo|ma|vo|va|no|na)",
        {
            "sr": ("señor",),
            "sra": ("señora",),
            "srta": ("señorita",),
            "dr": ("doctor",),
            "dra": ("doctora",),
            "etc": ("etcétera",),
            "núm": ("número",),
            "km": ("kilómetros",),
            "kg": ("kilos", "kilogramos"),
            "cm": ("centímetros",),
            "m": ("metros",),
            "g": ("gramos",),
            "h": ("horas",),
            "min": ("minutos",),
            "ud": ("usted",),
            "uds": ("ustedes",),
            "d": ("don",),
        },
        "punto",
    ),
}
