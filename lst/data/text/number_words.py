"""Whole numbers and ordinals as words of German, French and Spanish.

>>> german(21), german(1_001_000), french(71), french(80), spanish(22), spanish(500_001)
('einundzwanzig', 'eine million eintausend', 'soixante et onze', 'quatre vingts', 'veintidós', 'quinientos mil uno')
>>> german_ordinal(3), french_ordinal(21), spanish_ordinal(3)
('dritte', 'vingt et unième', 'tercero')
"""

from __future__ import annotations

_GERMAN = (
    *("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"),
    *("dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn"),
)
_GERMAN_TENS = ("", "", "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig")
_FRENCH = (
    *("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze"),
    *("treize", "quatorze", "quinze", "seize", "dix sept", "dix huit", "dix neuf"),
)
_FRENCH_TENS = ("", "", "vingt", "trente", "quarante", "cinquante", "soixante", "soixante", "quatre vingt")
_SPANISH = (
    *("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez", "once", "doce"),
    *("trece", "catorce", "quince", "dieciséis", "diecisiete", "dieciocho", "diecinueve", "veinte", "veintiuno"),
    *("veintidós", "veintitrés", "veinticuatro", "veinticinco", "veintiséis", "veintisiete", "veintiocho"),
    "veintinueve",
)
_SPANISH_TENS = ("", "", "", "treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa")
_SPANISH_HUNDREDS = (
    *("", "ciento", "doscientos", "trescientos", "cuatrocientos", "quinientos", "seiscientos", "setecientos"),
    *("ochocientos", "novecientos"),
)
_SPANISH_ORDINALS = (
    *("", "primero", "segundo", "tercero", "cuarto", "quinto", "sexto", "séptimo", "octavo", "noveno", "décimo"),
)
# Larger numbers are said digit by digit.
LARGEST = 10**15


def german(value: int) -> str:
    """A whole number below ``LARGEST``, in German: one word below a million."""
    if value < 20:
        return _GERMAN[value]
    for size, one, several in (
        (10**12, "eine billion", "billionen"),
        (10**9, "eine milliarde", "milliarden"),
        (10**6, "eine million", "millionen"),
    ):
        if value >= size:
            count, rest = divmod(value, size)
            said = one if count == 1 else f"{german(count)} {several}"
            return f"{said} {german(rest)}" if rest else said
    for size, name in ((1000, "tausend"), (100, "hundert")):
        if value >= size:
            count, rest = divmod(value, size)
            return _before_noun(german(count)) + name + (german(rest) if rest else "")
    tens, unit = divmod(value, 10)
    return f"{_before_noun(_GERMAN[unit])}und{_GERMAN_TENS[tens]}" if unit else _GERMAN_TENS[tens]


def _before_noun(number: str) -> str:
    """``eins`` loses its s."""
    return number[:-1] if number.endswith("eins") else number


def german_ordinal(value: int) -> str:
    """The ordinal of a whole number, in its weak form (``der dritte``)."""
    said, rest = german(value), value % 100
    for number, irregular in ((1, "erste"), (3, "dritte"), (7, "siebte"), (8, "achte")):
        if rest == number:
            return said[: -len(_GERMAN[number])] + irregular
    return said + ("te" if 0 < rest < 20 else "ste")


def french(value: int) -> str:
    """A whole number below ``LARGEST``, in French, with spaces in place of hyphens."""
    if value < 20:
        return _FRENCH[value]
    for size, name in ((10**12, "billion"), (10**9, "milliard"), (10**6, "million")):
        if value >= size:
            count, rest = divmod(value, size)
            said = f"{french(count)} {name}{'s' * (count > 1)}"
            return f"{said} {french(rest)}" if rest else said
    if value >= 1000:
        count, rest = divmod(value, 1000)
        # Before mille, cents and vingts have no s.
        said = "mille" if count == 1 else f"{_singular(french(count))} mille"
        return f"{said} {french(rest)}" if rest else said
    if value >= 100:
        count, rest = divmod(value, 100)
        said = "cent" if count == 1 else f"{_FRENCH[count]} cent{'s' * (not rest)}"
        return f"{said} {french(rest)}" if rest else said
    tens, one = divmod(value, 10)
    if tens in (7, 9):
        tens, one = tens - 1, one + 10
    if one == 0:
        return "quatre vingts" if tens == 8 else _FRENCH_TENS[tens]
    return f"{_FRENCH_TENS[tens]}{' et' * (one in (1, 11) and tens < 8)} {_FRENCH[one]}"


def _singular(number: str) -> str:
    return number[:-1] if number.endswith(("cents", "vingts")) else number


def french_ordinal(value: int) -> str:
    """The ordinal of a whole number; ``premier`` for 1."""
    said = _singular(french(value))
    if value == 1:
        return "premier"
    stem = {"q": said + "u", "f": said[:-1] + "v", "e": said[:-1]}.get(said[-1], said)
    return f"{stem}ième"


def spanish(value: int) -> str:
    """A whole number below ``LARGEST``, in Spanish."""
    if value < 30:
        return _SPANISH[value]
    for size, single, several in ((10**12, "un billón", "billones"), (10**6, "un millón", "millones")):
        if value >= size:
            count, rest = divmod(value, size)
            said = single if count == 1 else f"{spanish_before_noun(count)} {several}"
            return f"{said} {spanish(rest)}" if rest else said
    if value >= 1000:
        count, rest = divmod(value, 1000)
        said = "mil" if count == 1 else f"{spanish_before_noun(count)} mil"
        return f"{said} {spanish(rest)}" if rest else said
    if value >= 100:
        if value == 100:
            return "cien"
        count, rest = divmod(value, 100)
        return f"{_SPANISH_HUNDREDS[count]} {spanish(rest)}" if rest else _SPANISH_HUNDREDS[count]
    tens, one = divmod(value, 10)
    return f"{_SPANISH_TENS[tens]} y {_SPANISH[one]}" if one else _SPANISH_TENS[tens]


def spanish_before_noun(value: int) -> str:
    """A whole number before a masculine noun: ``veintiún mil``."""
    said = spanish(value)
    return f"{said[:-9]}veintiún" if said.endswith("veintiuno") else said[:-1] if said.endswith("uno") else said


def spanish_ordinal(value: int) -> str:
    """The ordinal of a whole number up to 10; larger ones are said as whole numbers."""
    return _SPANISH_ORDINALS[value] if 1 <= value <= 10 else spanish(value)
