"""Utterances whose words score far below those of their shard: most likely, their text is another's.

Only the shard's own utterances decide, so its bytes depend on nothing else.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from lst.data.alignment.aligner import AlignmentError, ScoreScale
from lst.data.alignment.causes import OTHER_TEXT
from lst.data.alignment.words import mean_score
from lst.data.utterance import Utterance

# Fewer utterances say little about what is usual.
LEAST_UTTERANCES = 20
# In spreads below the median: 8 of a normal distribution's are never reached by right texts.
MAX_SPREADS = 8.0


def lowest_usual(scores: Sequence[float], scale: ScoreScale) -> float:
    """The mean score below which an utterance is an outlier; minus infinity where too few are known.

    >>> lowest_usual([-12.0] * 30, ScoreScale(lowest=-30.0, least_spread=2.0))
    -28.0
    """
    if len(scores) < LEAST_UTTERANCES:
        return float("-inf")
    median = statistics.median(scores)
    deviation = 1.4826 * statistics.median(abs(score - median) for score in scores)
    return median - MAX_SPREADS * max(deviation, scale.least_spread)


def without_outliers(found: Sequence[Utterance | Exception], scale: ScoreScale | None) -> list[Utterance | Exception]:
    """The results of a shard, where utterances that score unlike the others became errors."""
    if scale is None:
        return list(found)
    scores = [mean_score(one.words) for one in found if isinstance(one, Utterance) and one.words]
    limit = lowest_usual(scores, scale)
    return [
        AlignmentError(
            f"{OTHER_TEXT}: words score {mean_score(one.words):.1f} on average, those of its shard "
            f"{statistics.median(scores):.1f}; with data.align.min_score, you set the limit yourself"
        )
        if isinstance(one, Utterance) and one.words and mean_score(one.words) < limit
        else one
        for one in found
    ]
