"""What a check has found: problems counted by kind with examples, notes, and statistics, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from lst.errors import one_line


class CheckReport:
    """Collects what a check finds; memory does not grow with the number of problems beyond the examples kept.

    Args:
        subject: what is checked, for people.
        max_examples: examples kept of each kind; 0 keeps all.
    """

    def __init__(self, subject: str, max_examples: int) -> None:
        self.subject, self.max_examples = subject, max_examples
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.notes: list[str] = []
        self.statistics: dict[str, Any] = {}

    def add(self, kind: str, message: str) -> None:
        """Counts one problem."""
        self.counts[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if not self.max_examples or len(kept) < self.max_examples:
            kept.append(message)

    def extend(self, kind: str, messages: Iterable[str], place: str = "") -> None:
        """Counts several problems of one kind, all in one place."""
        for message in messages:
            self.add(kind, f"{place}: {message}" if place else message)

    @property
    def num_problems(self) -> int:
        """Number of all problems, those without examples too."""
        return self.counts.total()

    def to_record(self) -> dict[str, Any]:
        """As JSON: subject, num_problems, problems (kind → count, examples), notes, statistics."""
        return {
            "subject": self.subject,
            "num_problems": self.num_problems,
            "problems": {
                kind: {"count": count, "examples": self.examples[kind]} for kind, count in self.counts.most_common()
            },
            "notes": self.notes,
            "statistics": self.statistics,
        }

    def as_text(self) -> str:
        """For people: statistics first, then the problems, most frequent kind first."""
        lines = [self.subject]
        lines += [f"  {name:<22} {_shown(value)}" for name, value in self.statistics.items()]
        lines += [f"  note: {note}" for note in self.notes]
        if not self.num_problems:
            return "\n".join(map(one_line, [*lines, "no problem found"]))
        plural = "s" if self.num_problems != 1 else ""
        lines.append(f"{self.num_problems:,} problem{plural}:")
        for kind, count in self.counts.most_common():
            lines.append(f"  {kind}: {count:,}")
            lines += [f"    - {example}" for example in self.examples[kind]]
            if count > len(self.examples[kind]):
                lines.append(f"    … and {count - len(self.examples[kind]):,} more (check.examples=0 shows all)")
        return "\n".join(map(one_line, lines))


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
