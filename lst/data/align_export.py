"""Alignments for people and other tools: Praat TextGrids to look at, CTM files to read on."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from lst import storage
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.storage import Folder, Location


def textgrid_of(utterance: Utterance, frame_rate_hz: float) -> str:
    """An utterance as a Praat TextGrid in long text form: a tier of words and, where known, one of characters.

    Args:
        utterance: aligned.
        frame_rate_hz: its units a second.
    """
    end_s = utterance.num_frames / frame_rate_hz
    words = [
        (segment.start_frame / frame_rate_hz, segment.end_frame / frame_rate_hz,
         utterance.words[segment.word].text if segment.word >= 0 else "")
        for segment in utterance.segments()
    ]  # fmt: skip
    tiers = [("words", words)]
    characters = _characters(utterance, frame_rate_hz)
    if characters:
        tiers.append(("characters", characters))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", f"xmax = {end_s:.6f} ",
             "tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]  # fmt: skip
    for number, (name, intervals) in enumerate(tiers, 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier" ', f'        name = "{name}" ',
                  "        xmin = 0 ", f"        xmax = {end_s:.6f} ",
                  f"        intervals: size = {len(intervals)} "]  # fmt: skip
        for index, (start, end, text) in enumerate(intervals, 1):
            quoted = text.replace('"', '""')
            lines += [f"        intervals [{index}]:", f"            xmin = {start:.6f} ",
                      f"            xmax = {end:.6f} ", f'            text = "{quoted}" ']  # fmt: skip
    return "\n".join(lines) + "\n"


def _characters(utterance: Utterance, frame_rate_hz: float) -> list[tuple[float, float, str]]:
    """Intervals of characters with silence between words; characters that share a frame share an interval, for Praat
    has none of length 0. Empty where a word's characters are not known."""
    if not utterance.words or not all(word.character_ends for word in utterance.words):
        return []
    found: list[tuple[float, float, str]] = []
    for segment in utterance.segments():
        if segment.word < 0:
            found.append((segment.start_frame / frame_rate_hz, segment.end_frame / frame_rate_hz, ""))
            continue
        word = utterance.words[segment.word]
        start, pending = 0, ""
        ends = zip(word.text.replace(" ", ""), word.character_ends, strict=True)
        for end, group in groupby(ends, key=lambda pair: pair[1]):
            pending += "".join(char for char, _ in group)
            if end > start:
                span = ((word.start_frame + start) / frame_rate_hz, (word.start_frame + end) / frame_rate_hz, pending)
                found.append(span)
                start, pending = end, ""
        if start < word.end_frame - word.start_frame:
            found.append(((word.start_frame + start) / frame_rate_hz, word.end_frame / frame_rate_hz, pending))
    return found


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


def write_textgrids(folder: Folder, utterances: Iterable[Utterance], frame_rate_hz: float) -> int:
    """Writes ``ID.TextGrid`` of every aligned utterance into a folder; returns how many were written.

    Raises:
        UserError: an id leads out of the folder.
    """
    count = 0
    for utterance in utterances:
        if not utterance.words:
            continue
        if utterance.id.startswith("/") or ".." in utterance.id.split("/"):
            raise UserError(f"the id {utterance.id!r} leads out of the folder {folder}")
        storage.write_text(folder / f"{utterance.id}.TextGrid", textgrid_of(utterance, frame_rate_hz))
        count += 1
    return count
