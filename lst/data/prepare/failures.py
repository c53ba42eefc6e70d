"""Counts utterances that fail while shards are made, and stops as soon as too many will have failed in the end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from lst.data.alignment.causes import (
    CLIPPED,
    CUT,
    LANGUAGE,
    OPPOSITE,
    OTHER,
    OTHER_TEXT,
    SCALE,
    SILENCE,
    cause_of_reason,
)
from lst.data.shards import LeftOut, Receipt
from lst.errors import ProblemsError

# Chance of a wrong stop, were the share of failures just the one allowed. Rows of a corpus resemble their neighbours
# more than chance, hence so small.
WRONG_STOP = 1e-9
# That must be done, and left: fewer that are left are soon made, and then all failures are known.
LEAST_UTTERANCES = 50
_EXAMPLES = 20


class Failures:
    """What has failed so far.

    Args:
        num_utterances: that are to be made in all, with those of earlier runs.
        max_share: of them that may fail.
    """

    def __init__(self, num_utterances: int, max_share: float) -> None:
        self.num_utterances, self.max_share = num_utterances, max_share
        self.num_done = 0
        self.skipped: list[LeftOut] = []
        self.kinds: Counter[str] = Counter()

    def add_shard(self, receipt: Receipt) -> None:
        """Adds a shard that was made; written texts cannot fail and do not count."""
        if receipt["name"].startswith("text-"):
            return
        self.num_done += receipt["num_utterances"] + len(receipt["skipped"])
        self.skipped += receipt["skipped"]
        self.kinds.update(cause_of_reason(item["reason"]) for item in receipt["skipped"])

    def note(self) -> str:
        """How many failed, by kind, for the progress line."""
        shown = f" ({self.by_kind()})" if self.kinds else ""
        return f"{len(self.skipped):,} utterances failed{shown}"

    def by_kind(self) -> str:
        """How many failed of each kind, the most frequent first."""
        return ", ".join(f"{kind} {count:,}" for kind, count in self.kinds.most_common())

    def cannot_keep(self) -> bool:
        """Whether the share of failures will be above the limit, by count or with statistical certainty."""
        num_failed = len(self.skipped)
        if min(self.num_done, self.num_utterances - self.num_done) < LEAST_UTTERANCES:
            return False
        is_above = num_failed > self.max_share * self.num_utterances
        return is_above or chance_of_more(num_failed, self.num_done, self.max_share) < WRONG_STOP

    def error(self, listed_in: str) -> ProblemsError:
        """What is said when the work stops before its end."""
        done, failed = f"{self.num_done:,} of {self.num_utterances:,}", len(self.skipped)
        return ProblemsError(
            f"stopped early: {failed:,} utterances failed of the first {done} ({failed / max(self.num_done, 1):.1%}), "
            f"{self.max_share:.1%} are allowed. Causes: {self.by_kind()}",
            [f"{item['id']}: {item['reason']}" for item in self.skipped[:_EXAMPLES]],
            f"All so far are listed in {listed_in}. {' '.join(remedies(self.kinds))} To go on in spite of them, allow "
            "more with data.max_unaligned_share.",
        )


def chance_of_more(num_failed: int, num_done: int, share: float) -> float:
    """Bound on the chance that so many of ``num_done`` fail where each does with the chance ``share`` (Chernoff).

    >>> chance_of_more(60, 60, 0.1) < 1e-50, chance_of_more(8, 60, 0.1) > 0.1
    (True, True)
    """
    seen = num_failed / num_done
    if seen <= share:
        return 1.0
    if share == 0:
        return 0.0
    rest = 0.0 if seen == 1 else (1 - seen) * math.log((1 - seen) / (1 - share))
    return math.exp(-num_done * (seen * math.log(seen / share) + rest))


REMEDIES = {
    SILENCE: "Silent recordings: export them again, or name a channel.",
    SCALE: "Mis-scaled samples: export them as 16-bit audio.",
    CLIPPED: "Clipped recordings: leave them out.",
    OPPOSITE: "Opposite channels: name one with channel=0 in the manifest.",
    LANGUAGE: "Another language: say which with data.language=CODE, or use data.align.method=ctc with a model of it, "
    "or import.",
    CUT: "Cut files: copy or export them again.",
    OTHER_TEXT: "Texts of other recordings: look whether rows are shifted against files; "
    "data.align.min_score sets the limit of scores.",
    OTHER: "Others: see the reasons.",
}


def remedies(kinds: Iterable[str]) -> list[str]:
    """What to do about each kind of failure.

    >>> remedies(["clipped audio"])
    ['Clipped recordings: leave them out.']
    """
    return [REMEDIES[kind] for kind in kinds]
