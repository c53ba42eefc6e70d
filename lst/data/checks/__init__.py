"""Every problem of a corpus, or of prepared data, at once: what ``lst check`` lists."""

from lst.data.checks.corpus import check_corpus, check_units
from lst.data.checks.prepared import check_prepared
from lst.data.checks.report import CheckReport
from lst.data.checks.shared import SharedContent

__all__ = ["CheckReport", "SharedContent", "check_corpus", "check_prepared", "check_units"]
