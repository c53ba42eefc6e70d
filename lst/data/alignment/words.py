"""Matches timed words with the transcript, and turns their times into frames."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import accumulate, compress, groupby, pairwise

from lst.data.alignment.aligner import AlignmentError
from lst.data.languages import UNSPACED
from lst.data.text import join_unsaid, spaced
from lst.data.utterance import TimedWord, Word

# What other aligners write for silence, besides labels in angle brackets.
SILENCE_LABELS = frozenset({"", "sil", "sp", "pau", "_", "#", "[sil]", "[silence]"})
UNKNOWN_WORD = "<unk>"


def word_key(text: str) -> str:
    """Letters and digits, case folded; two spellings of a word have the same key, in any script.

    Accents may be composed or apart; ß is ss, and the dotless i an i.

    >>> word_key("“Don’t!”"), word_key("STRASSE") == word_key("Straße")
    ('dont', True)
    """
    if text.isascii():
        return "".join(char for char in text.lower() if char.isalnum())
    folded = unicodedata.normalize("NFC", text).casefold().replace("ı", "i")
    return "".join(char for char in folded if char.isalnum())


def written_words(text: str) -> list[str]:
    """Splits a transcript at white space; a piece without letters and digits (a dash) joins the word before it.

    >>> written_words("Yes — no.")
    ['Yes —', 'no.']
    """
    return [word for word, _ in join_unsaid((piece, word_key(piece)) for piece in text.split())]


def _is_word(label: str) -> bool:
    """Whether a label of an alignment is a word; otherwise it marks silence."""
    if label == UNKNOWN_WORD:
        return True
    is_tag = label.startswith("<") and label.endswith(">")
    return not is_tag and label.lower() not in SILENCE_LABELS and bool(word_key(label))


def match_words(text: str, timed: Sequence[TimedWord]) -> tuple[list[TimedWord], list[str]]:
    """Gives the words of a transcript the times of an alignment; case and punctuation may differ.

    Several timed words may make up one of the transcript ("well", "known"). ``<unk>`` matches any one word. Labels of
    silence are skipped.

    Returns:
        The words of the transcript with times, and the disagreements, a line each. With disagreements, words are
        missing.

    >>> timed = [TimedWord("sil", 0.0, 0.1), TimedWord("well", 0.1, 0.3), TimedWord("known", 0.3, 0.6)]
    >>> words, problems = match_words("Well-known!", timed)
    >>> [(word.text, word.start_s, word.end_s) for word in words], problems
    ([('Well-known!', 0.1, 0.6)], [])
    >>> match_words("Unknown!", timed)[1]
    ["word 1 is 'Unknown!' in the transcript and 'well' in the alignment"]
    """
    said = [word for word in timed if _is_word(word.text.strip())]
    matched: list[TimedWord] = []
    position = 0
    for number, written in enumerate(written_words(text), 1):
        if position == len(said):
            return matched, [f"the alignment ends before word {number} of the transcript, {written!r}"]
        first, key = said[position], word_key(written)
        parts = _parts_of(key, said[position : position + len(key)])
        if not parts:
            found = f"{first.text!r} in the alignment"
            return matched, [f"{_where(first)}word {number} is {written!r} in the transcript and {found}"]
        position += len(parts)
        is_unknown = first.text.strip() == UNKNOWN_WORD
        matched.append(first._replace(text=written, character_ends_s=()) if is_unknown else _join(written, parts))
    if not matched:
        return matched, ["the transcript has no word"]
    if position < len(said):
        left = said[position]
        return matched, [f"{_where(left)}the transcript ends before {left.text!r} of the alignment"]
    return matched, []


def divided(timed: Sequence[TimedWord], language: str) -> list[TimedWord]:
    """Timed words of a script without spaces, divided as transcripts are: their characters share the time.

    >>> [(word.text, word.start_s, word.end_s) for word in divided([TimedWord("学生", 1.0, 2.0)], "zh")]
    [('学', 1.0, 1.5), ('生', 1.5, 2.0)]
    """
    if language not in UNSPACED:
        return list(timed)
    found = []
    for word in timed:
        parts = spaced(word.text, language).split() or [word.text]
        ends = list(accumulate(map(len, parts), initial=0))
        times_s = [word.start_s + (word.end_s - word.start_s) * end / max(ends[-1], 1) for end in ends]
        found += [
            word._replace(text=part, start_s=start_s, end_s=end_s, character_ends_s=())
            for part, (start_s, end_s) in zip(parts, pairwise(times_s), strict=True)
        ]
    return found


def _where(word: TimedWord) -> str:
    return f"{word.place}: " if word.place else ""


def _parts_of(key: str, said: Sequence[TimedWord]) -> Sequence[TimedWord]:
    """The first timed words that together spell ``key``; none if they do not."""
    if said[0].text.strip() == UNKNOWN_WORD:
        return said[:1]
    joined = ""
    for count, word in enumerate(said, 1):
        joined += word_key(word.text)
        if len(joined) >= len(key):
            return said[:count] if joined == key else ()
    return ()


def _join(written: str, parts: Sequence[TimedWord]) -> TimedWord:
    """One written word from the timed words that make it up; scores are weighted by duration."""
    weights = [max(part.end_s - part.start_s, 1e-6) for part in parts]
    score = sum((part.score or 0.0) * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)
    ends = [end_s for part in parts for end_s in _letter_ends_s(part)]
    is_letter = [char.isalnum() for char in written if char != " "]
    spread: list[float] = []
    if len(ends) == sum(is_letter):
        place_s, found = parts[0].start_s, iter(ends)
        for letter in is_letter:
            place_s = next(found) if letter else place_s
            spread.append(place_s)
    return parts[0]._replace(
        text=written,
        end_s=parts[-1].end_s,
        score=score,
        character_ends_s=tuple(spread),
        is_unaligned=any(part.is_unaligned for part in parts),
    )


def _letter_ends_s(part: TimedWord) -> Sequence[float]:
    """Ends of letters and digits: other characters may differ between two spellings."""
    is_letter = [char.isalnum() for char in part.text if not char.isspace()]
    ends = part.character_ends_s
    return list(compress(ends, is_letter)) if len(ends) == len(is_letter) else ends


def check_room(num_words: int, num_frames: int, frame_rate_hz: float) -> None:
    """Raises ``AlignmentError`` if there are more words than frames."""
    if num_words > num_frames:
        raise AlignmentError(f"{num_words} words do not fit into {num_frames} frames of {1 / frame_rate_hz:.3f} s")


def place_words(timed: Sequence[TimedWord], num_frames: int, frame_rate_hz: float) -> tuple[Word, ...]:
    """Words in frames, each of at least one frame, without overlap; characters lie within their words, in order.

    Args:
        timed: in order; ``character_ends_s`` of all characters but spaces, or none.
        num_frames: frames of the utterance.
        frame_rate_hz: frames a second.

    Raises:
        AlignmentError: there are more words than frames.
    """
    check_room(len(timed), num_frames, frame_rate_hz)
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
        length, ends_s = word.end_frame - word.start_frame, source.character_ends_s
        ends = [min(max(round(end_s * frame_rate_hz) - word.start_frame, 0), length) for end_s in ends_s]
        # The last letter ends with the word, and so does punctuation after it.
        ends = [
            length if end_s >= ends_s[-1] else end for end, end_s in zip(accumulate(ends, max), ends_s, strict=True)
        ]
        placed.append(word._replace(character_ends=tuple(ends), is_unaligned=source.is_unaligned))
    return tuple(placed)


def fit_words(words: Sequence[Word], num_frames: int) -> tuple[Word, ...]:
    """Corrects boundaries after rounding: every word gets a frame, none overlap, all lie within the utterance.

    Args:
        words: in order, at most ``num_frames`` of them; ``character_ends`` are dropped.
        num_frames: frames of the utterance.

    >>> words = [Word("a", 0, 4, 0.0), Word("b", 4, 4, 0.0), Word("c", 4, 9, 0.0)]
    >>> [(word.text, word.start_frame, word.end_frame) for word in fit_words(words, 8)]
    [('a', 0, 4), ('b', 4, 5), ('c', 5, 8)]
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


def with_unaligned(words: Sequence[Word | str], num_frames: int) -> tuple[Word, ...]:
    """Places the words that were not found, given as texts: they share the stretch between their neighbours.

    >>> words = with_unaligned([Word("a", 0, 4, -9.0), "b", Word("c", 6, 9, -8.0)], 9)
    >>> [(word.text, word.start_frame, word.end_frame, word.is_unaligned) for word in words]
    [('a', 0, 4, False), ('b', 4, 6, True), ('c', 6, 9, False)]
    """
    placed: list[Word] = []
    for is_found, group in groupby(words, lambda word: isinstance(word, Word)):
        own = list(group)
        if is_found:
            placed += [word for word in own if isinstance(word, Word)]
            continue
        before = placed[-1].end_frame if placed else 0
        later = [word for word in words[len(placed) + len(own) :] if isinstance(word, Word)]
        room = (later[0].start_frame if later else num_frames) - before
        cuts = [before + room * number // len(own) for number in range(len(own) + 1)]
        placed += [
            Word(str(text), start, end, 0.0, is_unaligned=True)
            for text, (start, end) in zip(own, pairwise(cuts), strict=True)
        ]
    return tuple(placed)


def mean_score(words: Sequence[Word]) -> float:
    """Mean score of the words that were found; 0 without any."""
    scores = [word.score for word in words if not word.is_unaligned]
    return sum(scores) / max(len(scores), 1)
