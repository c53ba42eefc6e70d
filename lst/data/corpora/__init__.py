"""Reads corpora on disk or behind a URL into rows of one form.

::

    folder or manifest ──layouts──▶ ManifestRow ──check_rows──▶ good rows, problems ──assign_splits──▶ train, valid

``manifest`` reads the project's own list, ``layouts`` those of published corpora and toolkits, ``remote`` mirrors a
corpus behind a URL, ``on_the_fly`` reads and writes LST's lists of words and units.
"""

from lst.data.corpora.load import load_corpus
from lst.data.corpora.manifest import read_manifest, write_manifest
from lst.data.corpora.on_the_fly import UnitRow, check_on_the_fly, on_the_fly_files, write_on_the_fly
from lst.data.corpora.row_checks import apply_on_error, check_rows, num_bad_rows
from lst.data.corpora.rows import UNKNOWN_SPEAKER, ManifestProblem, ManifestRow
from lst.data.corpora.splits import assign_splits

__all__ = [
    "UNKNOWN_SPEAKER",
    "ManifestProblem",
    "ManifestRow",
    "UnitRow",
    "apply_on_error",
    "assign_splits",
    "check_on_the_fly",
    "check_rows",
    "load_corpus",
    "num_bad_rows",
    "on_the_fly_files",
    "read_manifest",
    "write_manifest",
    "write_on_the_fly",
]
