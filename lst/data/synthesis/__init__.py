"""Synthesised speech: stories, voices, and the times of words that the voices give.

::

    generate_stories ──▶ text ──synthesize_many──▶ cached FLAC files ──engine_times──▶ word times
"""

from lst.data.synthesis.stories import generate_questions, generate_stories, split_sentences
from lst.data.synthesis.voices import choose_engine, default_cache_dir, pseudo_speakers, synthesize_many

__all__ = [
    "choose_engine",
    "default_cache_dir",
    "generate_questions",
    "generate_stories",
    "pseudo_speakers",
    "split_sentences",
    "synthesize_many",
]
