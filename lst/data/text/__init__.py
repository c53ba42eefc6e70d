"""How written text is spoken: numbers and signs spelt out, and pronunciations.

::

    written text ──normalise──▶ text as it is read aloud
    transcript ──spoken_words──▶ words and their spoken tokens ──pronounce──▶ phones
    transcript ──word_readings──▶ pieces, each with all ways to say it
"""

from lst.data.text.alternatives import BRACKETS, PieceReadings, resolve_entities, word_readings
from lst.data.text.normalise import NORMALISER, normalise
from lst.data.text.normalisers import ReadAloud, normaliser
from lst.data.text.pronounce import pronounce, pronouncing_dictionary
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
    "SpokenWord",
    "is_by_rule",
    "join_unsaid",
    "normalise",
    "normaliser",
    "pronounce",
    "pronounce_by_rule",
    "pronouncing_dictionary",
    "resolve_entities",
    "spoken_words",
    "word_readings",
]
