"""How written text is spoken: numbers and signs spelt out, and pronunciations.

::

    transcript ──spoken_words──▶ words and their spoken tokens ──pronounce_by_rule──▶ phones of unknown tokens
"""

from lst.data.text.spoken import (
    SpokenWord,
    is_by_rule,
    join_unsaid,
    pocketsphinx_dictionary,
    pronounce_by_rule,
    spoken_words,
)

__all__ = [
    "SpokenWord",
    "is_by_rule",
    "join_unsaid",
    "pocketsphinx_dictionary",
    "pronounce_by_rule",
    "spoken_words",
]
