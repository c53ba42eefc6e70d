"""The language of each row: by its own column, else by ``data.language``, else English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lst.data.corpora.manifest import ManifestProblem, ManifestRow
from lst.data.languages import ENGLISH, language_name
from lst.data.text import spaced


def settle_languages(
    rows: Sequence[ManifestRow], language: str | None
) -> tuple[list[ManifestRow], list[ManifestProblem]]:
    """Gives every row its language, and those of scripts without spaces their words.

    Args:
        rows: as the corpus has them.
        language: code of ``data.language``; None lets each row go by its own.

    Returns:
        The rows whose own language does not disagree, and a problem for each of the others.
    """
    settled, problems = [], []
    for row in rows:
        if language is not None and row.language not in ("", language):
            told = (
                f"its language is {row.language} ({language_name(row.language)}), and data.language={language}: "
                "correct the row, or leave data.language out, so that each row goes by its own"
            )
            problems.append(ManifestProblem(row.place or str(row.path), row.id, told, row.path, "language", row))
        else:
            settled.append(in_words(replace(row, language=row.language or language or "")))
    return settled, problems


def in_words(row: ManifestRow) -> ManifestRow:
    """A row with its words apart; the language of an English one is empty."""
    if row.language in ("", ENGLISH):
        return replace(row, language="") if row.language else row
    text, ending = spaced(row.text, row.language), row.ending_start_word
    if ending is not None and text != row.text:
        ending = len(spaced(" ".join(row.text.split()[:ending]), row.language).split())
    return replace(row, text=text, ending_start_word=ending)
