"""Word times in CTM files, read and written."""

from __future__ import annotations

from collections.abc import Iterable

from lst import storage
from lst.data.alignment.formats.intervals import _FILE_REMEDY, _number, _problem, decode_text, log_confidence
from lst.data.utterance import TimedWord, Utterance
from lst.errors import UserError, raise_problems
from lst.storage import Location


def ctm_of(utterance: Utterance, frame_rate_hz: float) -> str:
    """An utterance as CTM lines: id, channel, start and duration in seconds, word. Scores are no confidences: none.

    Raises:
        UserError: the id has white space, which CTM cannot hold.
    """
    if len(utterance.id.split()) != 1:
        raise UserError(f"the id {utterance.id!r} has white space, which CTM files cannot hold: export TextGrids")
    lines = []
    for word in utterance.words:
        start, duration = word.start_frame / frame_rate_hz, (word.end_frame - word.start_frame) / frame_rate_hz
        # What joined a word unsaid (a dash) is behind a space; CTM's fields are parted by spaces.
        lines.append(f"{utterance.id} 1 {start:.6f} {duration:.6f} {word.text.replace(' ', '_')}\n")
    return "".join(lines)


def write_ctm(place: Location, utterances: Iterable[Utterance], frame_rate_hz: float) -> int:
    """Writes a CTM file of aligned utterances, in their order; returns how many were written."""
    count = 0
    with storage.staged(place) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for utterance in utterances:
            if utterance.words:
                file.write(ctm_of(utterance, frame_rate_hz))
                count += 1
    return count


def read_ctm(content: bytes, name: str) -> dict[str, list[TimedWord]]:
    """Words of each utterance of a CTM file, whose lines are: utterance, channel, start, duration, word[, confidence].

    Comments (``;;``) and empty lines are passed over; a confidence becomes a score by its logarithm.
    """
    try:
        lines = decode_text(content).split("\n")
    except ValueError as error:
        raise _problem(name, [f"neither UTF-8 nor UTF-16: {error}"]) from None
    found: dict[str, list[TimedWord]] = {}
    problems = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            continue
        if len(fields) < 5:
            problems.append(
                f"line {number}: {len(fields)} fields; utterance, channel, start, duration, word are needed"
            )
            continue
        try:
            start, duration = _number(fields[2]), _number(fields[3])
            score = log_confidence(_number(fields[5])) if len(fields) > 5 and fields[5].upper() != "NA" else 0.0
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        word = TimedWord(fields[4], start, start + duration, score, (), f"{name}, line {number}")
        found.setdefault(fields[0], []).append(word)
    raise_problems(name, problems, _FILE_REMEDY)
    # The order of lines is free; that of words is time's.
    return {key: sorted(words, key=lambda word: word.start_s) for key, words in found.items()}
