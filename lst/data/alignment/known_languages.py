"""Which languages an aligner knows; what to do about the others."""

from __future__ import annotations

from collections.abc import Mapping

from lst.data.config import MULTILINGUAL_BUNDLE, AlignConfig
from lst.data.languages import language_name
from lst.data.text import espeak_problem


def language_problems(config: AlignConfig, languages: Mapping[str, int], num_rows: int) -> list[str]:
    """The languages of a corpus that the aligner does not know, a line each; CTC models and given times know all.

    pocketsphinx has an English model: it says words of other languages by eSpeak NG.

    Args:
        config: names the aligner.
        languages: how many rows with a transcript are of each language; English ones do not count.
        num_rows: of the corpus.
    """
    if not config.is_english:
        return []
    return [
        f"{count:,} of {num_rows:,} transcripts are in {language_name(language)}: {problem}. Use "
        f"data.align.method=ctc data.align.checkpoint={MULTILINGUAL_BUNDLE} or another model of it, or "
        "data.align.method=import"
        for language, count in sorted(languages.items())
        if (problem := espeak_problem(language))
    ]
