"""Words with times in seconds, from whoever found them: against the transcript, then into frames."""

from __future__ import annotations

from collections.abc import Sequence

from lst.data.alignment.aligner import AlignmentError
from lst.data.utterance import TimedWord, Word

# What other aligners write where nothing is said, besides labels in angle brackets.
SILENCE_LABELS = frozenset({"", "sil", "sp", "pau", "_", "#", "[sil]", "[silence]"})
UNKNOWN_WORD = "<unk>"


def word_key(text: str) -> str:
    """What two spellings of a word must share: its letters and digits, in lower case.

    >>> word_key("“Don’t!”")
    'dont'
    """
    return "".join(char for char in text.lower() if char.isalnum())


def written_words(text: str) -> list[str]:
    """Splits a transcript at white space; what has no letter and no digit (a lone dash) joins the word before it."""
    words: list[str] = []
    pending = ""
    for written in text.split():
        if word_key(written):
            words.append(f"{pending} {written}".strip())
            pending = ""
        elif words:
            words[-1] += f" {written}"
        else:
            pending = f"{pending} {written}".strip()
    return words


def match_words(text: str, timed: Sequence[TimedWord]) -> tuple[list[TimedWord], list[str]]:
    """Gives the transcript's words the times found; case and punctuation may differ, the words may not.

    Several timed words may make up one of the transcript ("well", "known"); ``<unk>`` stands for any one word; labels
    of silence are passed over.

    Returns:
        The transcript's words with times, and what disagrees, a line each; only without such lines are all words there.
    """
    said = [
        word
        for word in timed
        if word.text.strip() == UNKNOWN_WORD
        or (
            word.text.strip().lower() not in SILENCE_LABELS
            and not (word.text.strip().startswith("<") and word.text.strip().endswith(">"))
            and word_key(word.text)
        )
    ]
    matched: list[TimedWord] = []
    position = 0
    for number, written in enumerate(written_words(text), 1):
        key = word_key(written)
        if position == len(said):
            return matched, [f"the alignment ends before word {number} of the transcript, {written!r}"]
        parts = [said[position]]
        if parts[0].text.strip() == UNKNOWN_WORD:
            matched.append(parts[0]._replace(text=written, character_ends_s=()))
            position += 1
            continue
        joined = word_key(parts[0].text)
        while len(joined) < len(key) and position + len(parts) < len(said):
            parts.append(said[position + len(parts)])
            joined += word_key(parts[-1].text)
        if joined != key:
            where = f"{parts[0].place}: " if parts[0].place else ""
            return matched, [
                f"{where}word {number} is {written!r} in the transcript and {parts[0].text!r} in the alignment"
            ]
        position += len(parts)
        matched.append(_join(written, parts))
    if not matched:
        return matched, ["the transcript has no word"]
    if position < len(said):
        left = said[position]
        where = f"{left.place}: " if left.place else ""
        return matched, [f"{where}the transcript ends before {left.text!r} of the alignment"]
    return matched, []


def _join(written: str, parts: Sequence[TimedWord]) -> TimedWord:
    """One written word of the timed words that make it up; scores weigh by duration."""
    weights = [max(part.end_s - part.start_s, 1e-6) for part in parts]
    score = sum((part.score or 0.0) * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)
    characters = written.replace(" ", "")
    ends: list[float] = []
    for part in parts:
        # Ends of all characters, or of letters and digits alone: only the latter are the same in both spellings.
        spelt = [char.isalnum() for char in part.text if not char.isspace()]
        own = part.character_ends_s
        if len(own) == len(spelt) and sum(spelt) != len(spelt):
            own = tuple(end for end, is_letter in zip(own, spelt, strict=True) if is_letter)
        ends += own
    if len(ends) != sum(char.isalnum() for char in characters):
        return TimedWord(written, parts[0].start_s, parts[-1].end_s, score, (), parts[0].place)
    spread: list[float] = []
    found = iter(ends)
    for char in characters:
        spread.append(next(found) if char.isalnum() else spread[-1] if spread else parts[0].start_s)
    return TimedWord(written, parts[0].start_s, parts[-1].end_s, score, tuple(spread), parts[0].place)


def place_words(timed: Sequence[TimedWord], num_frames: int, frame_rate_hz: float) -> tuple[Word, ...]:
    """Words in frames, each of one frame or more, not overlapping; characters inside their words, in order.

    Args:
        timed: in order; ``character_ends_s`` of all characters but spaces, or none.
        num_frames: frames of the utterance.
        frame_rate_hz: frames a second.

    Raises:
        AlignmentError: there are more words than frames.
    """
    if len(timed) > num_frames:
        raise AlignmentError(f"{len(timed)} words do not fit into {num_frames} frames of {1 / frame_rate_hz:.3f} s")
    rough = [
        Word(
            word.text,
            round(word.start_s * frame_rate_hz),
            round(word.end_s * frame_rate_hz),
            round(word.score or 0.0, 3),
        )
        for word in timed
    ]
    placed = []
    for word, source in zip(fit_words(rough, num_frames), timed, strict=True):
        length = word.end_frame - word.start_frame
        ends: list[int] = []
        for end_s in source.character_ends_s:
            end = min(max(round(end_s * frame_rate_hz) - word.start_frame, 0), length)
            ends.append(max(end, ends[-1]) if ends else end)
        if ends:
            # Punctuation behind the last letter ends with it, and so with the word.
            last = source.character_ends_s[-1]
            ends = [
                length if place_s >= last else end for end, place_s in zip(ends, source.character_ends_s, strict=True)
            ]
        placed.append(word._replace(character_ends=tuple(ends)))
    return tuple(placed)


def fit_words(words: Sequence[Word], num_frames: int) -> tuple[Word, ...]:
    """Moves boundaries that rounding put wrong: every word gets a frame, none overlap, all lie inside the utterance.

    Args:
        words: in order; their number may not exceed ``num_frames``.
        num_frames: frames of the utterance.
    """
    starts, ends = [], []
    floor = 0
    for word in words:
        start = max(word.start_frame, floor)
        floor = max(word.end_frame, start + 1)
        starts.append(start)
        ends.append(floor)
    ceiling = num_frames
    for index in reversed(range(len(words))):
        ends[index] = min(ends[index], ceiling)
        starts[index] = min(starts[index], ends[index] - 1)
        ceiling = starts[index]
    return tuple(Word(word.text, start, end, word.score) for word, start, end in zip(words, starts, ends, strict=True))
