"""How written text is said: words as they are spoken, and their pronunciations."""

from lst.data.text.spoken import is_by_rule, pocketsphinx_dictionary, pronounce_by_rule, spoken_words

__all__ = ["is_by_rule", "pocketsphinx_dictionary", "pronounce_by_rule", "spoken_words"]
