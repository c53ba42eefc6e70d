"""Word times in CTM files, read and written."""

from __future__ import annotations

from collections.abc import Iterable

from lst import storage
from lst.data.alignment.formats.intervals import FILE_REMEDY, decode_text, finite_number, log_confidence, parse_each
from lst.data.utterance import TimedWord, Utterance
from lst.errors import UserError, raise_problems
from lst.storage import Location


def ctm_of(utterance: Utterance, frame_rate_hz: float) -> str:
    """An utterance as CTM lines: id, channel, start and duration in seconds, word.

    The field of confidence is left out, because scores are not confidences.

    Raises:
        UserError: the id has white space, which CTM cannot hold.
    """
    if len(utterance.id.split()) != 1:
        raise UserError(f"the id {utterance.id!r} has white space, which CTM files cannot hold: export TextGrids")
    lines = []
    for word in utterance.words:
        start, duration = word.start_frame / frame_rate_hz, (word.end_frame - word.start_frame) / frame_rate_hz
        # Spaces separate CTM's fields; a word has one before a dash that joined it.
        lines.append(f"{utterance.id} 1 {start:.6f} {duration:.6f} {word.text.replace(' ', '_')}\n")
    return "".join(lines)


def write_ctm(place: Location, utterances: Iterable[Utterance], frame_rate_hz: float) -> int:
    """Writes the aligned utterances as one CTM file, in their order; returns how many they are."""
    count = 0
    with storage.staged(place) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for utterance in utterances:
            if utterance.words:
                file.write(ctm_of(utterance, frame_rate_hz))
                count += 1
    return count


def read_ctm(content: bytes, name: str) -> dict[str, list[TimedWord]]:
    """Words by utterance of a CTM file. Its lines are: utterance, channel, start, duration, word[, confidence].

    Comments (``;;``) and empty lines are skipped. The logarithm of the confidence is the score.
    """

    def parse(line: str, number: int) -> None:
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            return
        if len(fields) < 5:
            raise ValueError(f"{len(fields)} fields; utterance, channel, start, duration, word are needed")
        start, duration = finite_number(fields[2]), finite_number(fields[3])
        score = log_confidence(finite_number(fields[5])) if len(fields) > 5 and fields[5].upper() != "NA" else 0.0
        # NeMo writes a space within a word so.
        word = TimedWord(
            fields[4].replace("<space>", " "), start, start + duration, score, (), f"{name}, line {number}"
        )
        found.setdefault(fields[0], []).append(word)

    found: dict[str, list[TimedWord]] = {}
    problems: list[str] = []
    parse_each(decode_text(content, name).split("\n"), parse, "line", problems)
    raise_problems(name, problems, FILE_REMEDY)
    # CTM's lines may come in any order; words are in order of time.
    return {key: sorted(words, key=lambda word: word.start_s) for key, words in found.items()}
