"""Word n-grams with Witten–Bell smoothing: what the words just before an ending tell of it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from lst.evaluation.items import Item
from lst.evaluation.results import ItemRow


class NgramReader:
    """Counts words, as written, after up to ``most - 1`` words before them in the same text.

    Args:
        texts: that it is counted on.
        most: the longest n-grams, in words.
    """

    def __init__(self, texts: Iterable[str], most: int) -> None:
        self._after: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for text in texts:
            words = text.split()
            for place, word in enumerate(words):
                for length in range(min(place, most - 1) + 1):
                    self._after[tuple(words[place - length : place])][word] += 1
        # One more, for all words that never came.
        self._num_types = len(self._after[()]) + 1

    def log_probability(self, words: Sequence[str], before: Sequence[str], order: int) -> float:
        """ln p(words | words before) where ``order`` - 1 words are looked back on."""
        told = [*before, *words]
        places = range(len(before), len(told))
        return sum(
            math.log(self._probability(told[place], told[max(place - order + 1, 0) : place])) for place in places
        )

    def _probability(self, word: str, history: Sequence[str]) -> float:
        """Witten–Bell: as much weight on shorter histories as this one has had different words after it."""
        found = 1 / self._num_types
        for length in range(len(history) + 1):
            after = self._after.get(tuple(history[len(history) - length :]))
            if after:
                num_types = len(after)
                found = (after[word] + num_types * found) / (after.total() + num_types)
        return found

    def rows(self, items: Sequence[Item], order: int) -> list[ItemRow]:
        """A row for each written ending of each item after its written context."""
        return [
            {
                "item": item.id,
                "stratum": item.stratum,
                "direction": "T→T",
                "ending": number,
                "is_true": number == item.label,
                "nats": self.log_probability(words, item.context.text.split(), order),
                "swapped_nats": self.log_probability(words, item.other_context.text.split(), order),
                "alone_nats": self.log_probability(words, [], order),
                "num_tokens": len(words),
                "num_bytes": len(ending.text.encode()),
            }
            for item in items
            for number, ending in enumerate(item.endings)
            for words in [ending.text.split()]
        ]
