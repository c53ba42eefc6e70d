"""Where a long recording is cut, so that each piece holds the words that are said in it, and what is left out.

::

    words     he   took  a  resolve   after  this   not  to       found, or not (None)
    audio   ──██───███───█──████──────░░░░░──░░░░───███──██──     a cut lies between two found words that follow one
                                  ↑ no cut in here ↑              another, at the longest pause within reach

Words that were not found stay where the audio has room for them: aligning the piece tells whether they are said. Where
it has no room, they are left out; so is speech between two words that follow one another in the transcript.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from lst.data.recordings.activity import LONG_PAUSE_S, MARGIN_S

# Speech in which a word fits, in seconds: no shorter, and no longer for all words and a rest.
SHORTEST_WORD_S, LONGEST_WORD_S, SLACK_S = 0.06, 1.0, 1.5
# Longer stretches without a word are left out.
WORDLESS_S = 1.0
# A word may reach so far into a pause, as recognisers place words.
REACH_S = 0.1
# Stretches with as many unfound words in a row become pieces of their own, cut at pauses within so much of them.
DOUBTFUL_WORDS, ASIDE_S = 3, 3.0
NO_TEXT, NO_SPEECH, NO_CUT = "speech without text", "text without speech", "no place to cut"


class Piece(NamedTuple):
    """A part of a recording, in seconds from its start, and what is said in it.

    Attributes:
        text: of its words; of a part that is left out, why.
        first_word, last_word: which words of the transcript these are, the last exclusive; 0 where nothing is kept.
    """

    start_s: float
    end_s: float
    text: str
    first_word: int = 0
    last_word: int = 0


@dataclass
class Pieces:
    """A recording that was cut.

    Attributes:
        kept: the pieces, in order.
        lost: stretches that are left out, with their kind in place of the text's start.
        silence_s: silence between pieces.
    """

    kept: list[Piece] = field(default_factory=list)
    lost: list[Piece] = field(default_factory=list)
    silence_s: float = 0.0


class FoundWord(NamedTuple):
    """A word of the transcript.

    Attributes:
        text: as written.
        span: where it was heard, in seconds; None if it was not.
        is_said: whether it has a sound; a lone dash has none.
    """

    text: str
    span: tuple[float, float] | None
    is_said: bool = True


class _Cut(NamedTuple):
    """A possible cut: its time, the first word after it, and the length of the pause."""

    time_s: float
    word: int
    pause_s: float


def cut_pieces(
    words: Sequence[FoundWord],
    pauses: Sequence[tuple[float, float]],
    duration_s: float,
    longest_s: float,
    reach_s: float = REACH_S,
) -> Pieces:
    """Cuts a recording into pieces of at most ``longest_s`` seconds.

    Args:
        words: of the whole transcript; those that were found are in order and do not overlap.
        pauses: (start, end) of pauses in speech, in order.
        duration_s: of the recording.
        longest_s: of a piece.
        reach_s: how far a word may reach into a pause: 0 where its times are right.

    >>> words = [FoundWord("one", (0.2, 0.9)), FoundWord("two", (1.1, 1.8))]
    >>> words += [FoundWord(word, None) for word in "what nobody said".split()]
    >>> cut_pieces([*words, FoundWord("three", (2.3, 2.9))], [(1.8, 2.3)], 3.0, 2.5).kept
    [Piece(start_s=0.0, end_s=2.05, text='one two', first_word=0, last_word=5), \
Piece(start_s=2.05, end_s=3.0, text='three', first_word=5, last_word=6)]
    """
    return _Cutter(words, pauses, duration_s, longest_s, reach_s).cut()


class _Cutter:
    def __init__(
        self,
        words: Sequence[FoundWord],
        pauses: Sequence[tuple[float, float]],
        duration_s: float,
        longest_s: float,
        reach_s: float,
    ) -> None:
        self.words, self.pauses, self.duration_s, self.longest_s = words, pauses, duration_s, longest_s
        self.reach_s = reach_s
        self.found = [number for number, word in enumerate(words) if word.span is not None]
        self.pause_ends = [end_s for _, end_s in pauses]
        self.result = Pieces()
        self.dropped: set[int] = set()

    def cut(self) -> Pieces:
        """See ``cut_pieces``."""
        cuts, alone = self._cuts()
        place = 0
        while place < len(cuts) - 1:
            place = self._next_piece(cuts, place, alone)
        self.result.lost.sort()
        return self.result

    def _cuts(self) -> tuple[list[_Cut], list[tuple[float, float]]]:
        """All possible cuts, from the recording's start to its end; and the stretches that are doubtful."""
        cuts = [_Cut(0.0, 0, 0.0)]
        doubtful: list[tuple[float, float]] = []
        for before, after in zip([-1, *self.found], [*self.found, len(self.words)], strict=True):
            start_s, end_s = self._end_of(before), self._start_of(after)
            missing = [number for number in range(before + 1, after) if self.words[number].is_said]
            own = self._cuts_between(start_s, end_s, after)
            if missing:
                speech_s = self._speech_s(start_s, end_s)
                least_s, most_s = SHORTEST_WORD_S * len(missing), LONGEST_WORD_S * len(missing) + SLACK_S
                # One or two words without room were misheard together with their neighbours.
                if speech_s <= most_s and (speech_s >= least_s or len(missing) < DOUBTFUL_WORDS):
                    if len(missing) >= DOUBTFUL_WORDS:
                        doubtful.append((self._start_of(before), self._end_of(after)))
                    continue
                self.dropped.update(missing)
                text = " ".join(self.words[number].text for number in missing)
                self.result.lost.append(Piece(start_s, end_s, f"{NO_SPEECH}: {text}"))
            cuts += own
        cuts.append(_Cut(self.duration_s, len(self.words), 0.0))
        ordered = sorted(cut for cut in cuts if 0 <= cut.time_s <= self.duration_s)
        # Around a very short word in a pause, the cut behind it may lie before the one in front of it.
        reached = accumulate((cut.word for cut in ordered), max)
        return [cut for cut, word in zip(ordered, reached, strict=True) if cut.word == word], doubtful

    def _start_of(self, number: int) -> float:
        span = self.words[number].span if 0 <= number < len(self.words) else None
        return span[0] if span is not None else 0.0 if number < 0 else self.duration_s

    def _end_of(self, number: int) -> float:
        span = self.words[number].span if 0 <= number < len(self.words) else None
        return span[1] if span is not None else 0.0 if number < 0 else self.duration_s

    def _speech_s(self, start_s: float, end_s: float) -> float:
        silent_s = 0.0
        for first_s, last_s in self.pauses[bisect_left(self.pause_ends, start_s) :]:
            if first_s >= end_s:
                break
            silent_s += max(0.0, min(last_s, end_s) - max(first_s, start_s))
        return max(0.0, end_s - start_s - silent_s)

    def _cuts_between(self, start_s: float, end_s: float, word: int) -> list[_Cut]:
        """Cuts in the pauses between two words, or between them where there is no pause."""
        found = []
        for first_s, last_s in self.pauses[bisect_left(self.pause_ends, start_s - self.reach_s) :]:
            if first_s > end_s + self.reach_s:
                break
            # The part of the pause that lies between the words, but for what they may reach into it.
            first_s, last_s = max(first_s, start_s - self.reach_s), min(last_s, end_s + self.reach_s)
            length_s = last_s - first_s
            if length_s > LONG_PAUSE_S:
                found += [_Cut(first_s + MARGIN_S, word, length_s), _Cut(last_s - MARGIN_S, word, length_s)]
            elif length_s > 0:
                found.append(_Cut((first_s + last_s) / 2, word, length_s))
        return found or ([_Cut((start_s + end_s) / 2, word, max(0.0, end_s - start_s))] if end_s >= start_s else [])

    def _next_piece(self, cuts: Sequence[_Cut], place: int, doubtful: Sequence[tuple[float, float]]) -> int:
        """Adds the piece, or the loss, that begins at a cut; returns the cut at which it ends."""
        start = cuts[place]
        end = place + 1
        while end < len(cuts) - 1 and cuts[end].word == start.word:
            end += 1
        # All cuts from here to `wordless` lie before the same word.
        wordless = end - 1 if cuts[end].word != start.word else end
        if cuts[wordless].time_s - start.time_s > WORDLESS_S or wordless == len(cuts) - 1:
            self._lose_wordless(start.time_s, cuts[wordless].time_s)
            return wordless
        best = self._best_end(cuts, place, doubtful)
        text = " ".join(
            self.words[number].text for number in range(start.word, cuts[best].word) if number not in self.dropped
        )
        if cuts[best].time_s - start.time_s > self.longest_s:
            self.result.lost.append(Piece(start.time_s, cuts[best].time_s, f"{NO_CUT}: {text}"))
        elif text:
            times_s = round(start.time_s, 3), round(cuts[best].time_s, 3)
            self.result.kept.append(Piece(*times_s, text, start.word, cuts[best].word))
        else:
            self._lose_wordless(start.time_s, cuts[best].time_s)
        return best

    def _best_end(self, cuts: Sequence[_Cut], place: int, doubtful: Sequence[tuple[float, float]]) -> int:
        """The cut with the longest pause within reach: not before a third of the longest piece, unless words end."""
        start_s = cuts[place].time_s
        limit_s = start_s + self.longest_s
        aside = next((stretch for stretch in doubtful if stretch[1] > start_s), None)
        if aside is not None and aside[0] > start_s + ASIDE_S:
            # The piece ends before the doubtful stretch.
            limit_s = min(limit_s, aside[0])
        first_s = start_s + self.longest_s / 3
        if aside is not None and aside[0] <= start_s + ASIDE_S:
            # It is the doubtful stretch: it ends soon after it.
            first_s, limit_s = aside[1], min(limit_s, aside[1] + ASIDE_S)
        best, last = -1, -1
        for number in range(place + 1, len(cuts)):
            cut = cuts[number]
            if cut.time_s > limit_s and last >= 0:
                break
            if cut.word == cuts[place].word and number < len(cuts) - 1:
                continue
            is_end = number == len(cuts) - 1 or self._is_before_wordless(cuts, number)
            last = number
            if is_end:
                return number
            if cut.time_s >= first_s and (best < 0 or cut.pause_s >= cuts[best].pause_s):
                best = number
        return best if best >= 0 else last

    @staticmethod
    def _is_before_wordless(cuts: Sequence[_Cut], number: int) -> bool:
        """Whether a stretch without a word follows, in which no piece goes on."""
        end = number
        while end < len(cuts) - 1 and cuts[end + 1].word == cuts[number].word:
            end += 1
        return cuts[end].time_s - cuts[number].time_s > WORDLESS_S

    def _lose_wordless(self, start_s: float, end_s: float) -> None:
        speech_s = self._speech_s(start_s, end_s)
        if speech_s > WORDLESS_S / 2:
            self.result.lost.append(Piece(round(start_s, 3), round(end_s, 3), NO_TEXT))
        else:
            self.result.silence_s += end_s - start_s
