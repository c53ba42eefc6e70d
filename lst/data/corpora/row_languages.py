"""The language of each row: by its own column, else by ``data.language``, else English."""

from __future__ import annotations

from dataclasses import replace

from lst.data.corpora.rows import ManifestProblem, ManifestRow
from lst.data.languages import ENGLISH, language_name
from lst.data.text import spaced


def disagreement(row: ManifestRow, language: str | None) -> ManifestProblem | None:
    """The problem of a row whose own language is not that of ``data.language``; None if there is none.

    Args:
        row: as the corpus has it.
        language: code of ``data.language``; None lets each row go by its own.
    """
    if language is None or row.language in ("", language):
        return None
    told = (
        f"its language is {row.language} ({language_name(row.language)}), and data.language={language}: "
        "correct the row, or leave data.language out, so that each row goes by its own"
    )
    return ManifestProblem(row.place or str(row.path), row.id, told, row.path, "language", row)


def in_words(row: ManifestRow) -> ManifestRow:
    """A row with its words apart; the language of an English one is empty."""
    if row.language in ("", ENGLISH):
        return replace(row, language="") if row.language else row
    text, ending = spaced(row.text, row.language), row.ending_start_word
    if ending is not None and text != row.text:
        ending = len(spaced(" ".join(row.text.split()[:ending]), row.language).split())
    return replace(row, text=text, ending_start_word=ending)
