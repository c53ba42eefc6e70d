"""Source, licence and consent of an utterance, from the columns of its corpus."""

from __future__ import annotations

import json
from typing import Any

from lst.data.corpora.records import Record
from lst.data.utterance import Provenance

# Names of each column, in lower case; if a row has several of them, the first one that says something counts. The
# column of the corpus is written in prepared data alone: a corpus calls its source so.
COLUMNS: dict[str, tuple[str, ...]] = {
    "corpus": ("of_corpus",),
    "source": ("source", "corpus", "dataset", "data_source"),
    "licence": ("licence", "license", "licence_url", "license_url", "licenceurl", "licenseurl", "rights"),
    "consent": ("consent", "consent_given", "speaker_consent", "consent_id"),
}
ALL_COLUMNS = frozenset(alias for aliases in COLUMNS.values() for alias in aliases)
# How pandas, JSON, R and databases write a cell that has no value.
NULLS = frozenset(
    (
        *("nan", "NaN", "NAN", "-nan", "-NaN", "null", "NULL", "Null", "None", "<NA>", "<na>", "NA", "N/A", "n/a"),
        *("NaT", "none", "NONE", "<null>", "<NULL>", "<nan>", "<NaN>", "<None>", "(null)", "(NULL)", "[null]"),
        *("undefined", "#N/A", "#N/A N/A", "#NA", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "nil", "\\N"),
    )
)


def provenance_of(*records: Record) -> Provenance:
    """What records say of an utterance; of several, such as a segment and its file, the first that says it.

    >>> provenance_of({"text": "hello"}, {"license": "CC-BY-4.0", "consent": True, "source": "NaN"})
    Provenance(corpus='', source='', licence='CC-BY-4.0', consent='true')
    """
    found = (
        next(
            (told for record in records for alias in aliases if alias in record and (told := _told(record[alias]))), ""
        )
        for aliases in COLUMNS.values()
    )
    return Provenance(*found)


def columns_of(provenance: Provenance) -> dict[str, str]:
    """Inverse of ``provenance_of``: what is stated, by the first name of its column."""
    return {COLUMNS[name][0]: value for name, value in provenance.stated.items()}


def _told(value: Any) -> str:
    """A cell as one line of text; empty for all ways to write that there is no value."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return "" if text in NULLS else text
