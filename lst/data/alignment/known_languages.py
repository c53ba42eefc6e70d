"""Which languages an aligner knows; what to do about the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lst.data.config import MULTILINGUAL_BUNDLE, AlignConfig
from lst.data.corpora import ManifestRow
from lst.data.languages import language_name
from lst.data.text import espeak_problem


def language_problems(config: AlignConfig, rows: Sequence[ManifestRow]) -> list[str]:
    """The languages of a corpus that the aligner does not know, a line each; CTC models and given times know all.

    pocketsphinx has an English model: it says words of other languages by eSpeak NG.
    """
    if not config.is_english:
        return []
    counts = Counter(row.language for row in rows if row.language and row.text.strip())
    return [
        f"{count:,} of {len(rows):,} transcripts are in {language_name(language)}: {problem}. Use "
        f"data.align.method=ctc data.align.checkpoint={MULTILINGUAL_BUNDLE} or another model of it, or "
        "data.align.method=import"
        for language, count in sorted(counts.items())
        if (problem := espeak_problem(language))
    ]
