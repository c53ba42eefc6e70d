"""How written text is spoken: numbers and signs spelt out, and pronunciations.

::

    written text ──normalise──▶ text as it is read aloud
    transcript ──spoken_words──▶ words and their spoken tokens ──pronounce──▶ phones
    transcript ──word_readings──▶ pieces, each with all ways to say it
    word of another language ──romanised──▶ Latin letters;  ──foreign_phones──▶ the nearest English phones

Languages go by the codes of ``lst.data.languages``; the empty one is English.
"""

from lst.data.text.alternatives import BRACKETS, PieceReadings, resolve_entities, word_readings
from lst.data.text.espeak import espeak_problem, foreign_phones
from lst.data.text.normalise import NORMALISER, normalise
from lst.data.text.normalisers import ReadAloud, normaliser
from lst.data.text.pronounce import pronounce, pronouncing_dictionary
from lst.data.text.romanise import RomanPart, romanised, romaniser
from lst.data.text.scripts import folded, letter_tokens, spaced
from lst.data.text.spoken import (
    SpokenWord,
    is_by_rule,
    join_unsaid,
    pronounce_by_rule,
    spoken_words,
)

__all__ = [
    "BRACKETS",
    "NORMALISER",
    "PieceReadings",
    "ReadAloud",
    "RomanPart",
    "SpokenWord",
    "espeak_problem",
    "folded",
    "foreign_phones",
    "is_by_rule",
    "join_unsaid",
    "letter_tokens",
    "normalise",
    "normaliser",
    "pronounce",
    "pronounce_by_rule",
    "pronouncing_dictionary",
    "resolve_entities",
    "romanised",
    "romaniser",
    "spaced",
    "spoken_words",
    "word_readings",
]
