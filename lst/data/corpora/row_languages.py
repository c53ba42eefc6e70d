"""The language of each row: by its own column, else by ``data.language``, else by its folder's name, else English."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from lst.data.corpora.rows import ManifestProblem, ManifestRow
from lst.data.languages import ENGLISH, language_in_path, language_name
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


def named_language(row: ManifestRow) -> str:
    """The language that the folders of a row's audio name, as those of published corpora do; empty without one."""
    return _language_of_folder(os.path.dirname(str(row.path)))


_language_of_folder = lru_cache(maxsize=4096)(language_in_path)


def name_notes(named_rows: Mapping[tuple[str, str], int], language: str | None) -> list[str]:
    """What the names of folders say of the languages of rows, where that is not English or disagrees with them.

    Args:
        named_rows: how many rows there are, by the language that their folder names and their own.
        language: code of ``data.language``.
    """
    notes = []
    for (named, own), count in sorted(named_rows.items()):
        taken = own or ENGLISH
        told = f"{language_name(named)} ({named})"
        if taken != named:
            says = f"data.language={language} is given" if language else f"they are {language_name(taken)}"
            notes.append(
                f"{count:,} utterances lie in a folder whose name says {told}, and {says}: check which is right"
            )
        elif language is None and named != ENGLISH:
            notes.append(
                f"{count:,} utterances are taken to be {told}, as their folder's name says: data.language=CODE says "
                "otherwise"
            )
    return notes


def in_words(row: ManifestRow) -> ManifestRow:
    """A row with its words apart; the language of an English one is empty."""
    if row.language in ("", ENGLISH):
        return replace(row, language="") if row.language else row
    text, ending = spaced(row.text, row.language), row.ending_start_word
    if ending is not None and text != row.text:
        ending = len(spaced(" ".join(row.text.split()[:ending]), row.language).split())
    return replace(row, text=text, ending_start_word=ending)
