"""How alignment bears mistakes in transcripts: ``make bench-align ARGS=CORPUS``.

One word of each transcript is changed, and the words around it are compared with those of the right transcript: how
many utterances still align, and how far word boundaries move. A last row gives every recording the transcript of
another: none should align.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lst.data.alignment import AlignItem, AlignmentError, FilteredAligner, process_aligner
from lst.data.audio import read_row_audio
from lst.data.config import AlignConfig
from lst.data.corpora import ManifestRow, load_corpus
from lst.data.text.spoken import spell_number
from lst.data.utterance import Word
from lst.errors import UserError
from lst.progress import Progress
from lst.recipes.benchmarks.figures import Figures
from lst.storage import locate

FRAME_RATE_HZ = 100
LONG_WORD = "extraordinary"
NUMBERS = {spell_number(str(value)): str(value) for value in range(2, 21)}
NUMBERS |= {"first": "1st", "second": "2nd", "third": "3rd"}
Changed = tuple[list[str], list[int | None]]


def _inserted(words: Sequence[str], word: str) -> Changed:
    """The words with one more in the middle; and the place of each word in the right transcript, None for new ones."""
    middle = len(words) // 2
    places = list(range(len(words)))
    return [*words[:middle], word, *words[middle:]], [*places[:middle], None, *places[middle:]]


def _replaced(words: Sequence[str], word: str, place: int | None = None) -> Changed:
    """The words with another in place of one, by default of the middle one."""
    place = len(words) // 2 if place is None else place
    places = [None if own == place else own for own in range(len(words))]
    return [*words[:place], word, *words[place + 1 :]], places


def _number(words: Sequence[str]) -> Changed | None:
    """A number word in digits; None where the transcript has none."""
    place = next((place for place, word in enumerate(words) if word.lower() in NUMBERS), None)
    if place is None:
        return None
    changed, _ = _replaced(words, NUMBERS[words[place].lower()], place)
    return changed, list(range(len(words)))


# Of each change: the words with it, and for each aligned word its place in the right transcript.
CHANGES: dict[str, Callable[[Sequence[str]], Changed | None]] = {
    "[laughter] added": lambda words: _inserted(words, "[laughter]"),
    "one long word too many": lambda words: _inserted(words, LONG_WORD),
    "<unk> for a word": lambda words: _replaced(words, "<unk>"),
    "one wrong word": lambda words: _replaced(words, LONG_WORD),
    "a number in digits": _number,
    "a wrong number": lambda words: _replaced(words, "1984"),
}


@dataclass
class Tally:
    """What one change did: ``shifts_ms`` are of starts of untouched words, ``num_lost`` counts those unaligned."""

    num_utterances: int = 0
    num_aligned: int = 0
    num_lost: int = 0
    shifts_ms: list[float] | None = None

    def add(self, found: Sequence[Word] | AlignmentError, right: Sequence[Word], places: Sequence[int | None]) -> None:
        """Adds an utterance, given its words without the change."""
        self.num_utterances += 1
        if isinstance(found, AlignmentError):
            return
        self.num_aligned += 1
        shifts = self.shifts_ms = self.shifts_ms if self.shifts_ms is not None else []
        # A piece that is not said joins the word before it: count written pieces.
        pieces = np.cumsum([0, *(len(word.text.split()) for word in found)]).tolist()
        for word, piece in zip(found, pieces, strict=False):
            if (place := places[piece]) is None:
                continue
            self.num_lost += word.is_unaligned
            if not word.is_unaligned:
                shifts.append(abs(word.start_frame - right[place].start_frame) * 1000 / FRAME_RATE_HZ)


def measure(rows: Sequence[ManifestRow], aligner: FilteredAligner, figures: Figures) -> None:
    """Aligns each recording with its transcript, with each change of it and with the next recording's."""
    tallies = {name: Tally() for name in CHANGES}
    num_right = num_wrong = num_lost = num_words = 0
    with Progress(len(rows), "alignments", unit="utterance") as progress:
        for row, other in zip(rows, [*rows[1:], *rows[:1]], strict=True):
            waveform = read_row_audio(row)
            num_frames = len(waveform) * FRAME_RATE_HZ // 16_000

            def align(
                text: str, waveform: np.ndarray = waveform, num_frames: int = num_frames
            ) -> tuple[Word, ...] | AlignmentError:
                return aligner.align_many([AlignItem(waveform, text, num_frames)], FRAME_RATE_HZ)[0]

            right = align(row.text)
            num_wrong += not isinstance(align(other.text), AlignmentError)
            progress.advance()
            if isinstance(right, AlignmentError):
                continue
            num_right += 1
            num_words += len(right)
            num_lost += sum(word.is_unaligned for word in right)
            words = row.text.split()
            for name, change in CHANGES.items():
                if (changed := change(words)) is not None and len(right) == len(words):
                    texts, places = changed
                    tallies[name].add(align(" ".join(texts)), right, places)
    figures.add("unchanged: utterances", len(rows))
    figures.add("unchanged: aligned, share", num_right / len(rows), 0.98)
    figures.add("unchanged: words marked unaligned, share", num_lost / max(num_words, 1), 0.005, at_most=True)
    for name, tally in tallies.items():
        _add_rows(figures, name, tally)
    figures.add("transcripts off by one row: aligned, share", num_wrong / len(rows), 0.02, at_most=True)


def _add_rows(figures: Figures, name: str, tally: Tally) -> None:
    shifts_ms = np.array(tally.shifts_ms or [0.0])
    figures.add(f"{name}: utterances", tally.num_utterances)
    figures.add(f"{name}: aligned, share", tally.num_aligned / max(tally.num_utterances, 1), 15 / 16)
    figures.add(f"{name}: starts of untouched words move, median ms", float(np.median(shifts_ms)), 20, at_most=True)
    figures.add(f"{name}: the same, 95 %", float(np.quantile(shifts_ms, 0.95)))
    lost = tally.num_lost / max(tally.num_lost + len(tally.shifts_ms or ()), 1)
    figures.add(f"{name}: untouched words marked unaligned, share", lost)


def main() -> None:
    """Runs the benchmark on a corpus; writes ``runs/bench/align.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", help="recordings with transcripts in any layout")
    parser.add_argument("--utterances", type=int, default=120, help="how many, evenly over the corpus (120)")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"), help="where the figures go")
    arguments = parser.parse_args()
    rows, _, _ = load_corpus(locate(arguments.corpus), "auto")
    if not rows:
        raise SystemExit(f"{arguments.corpus} holds no recording with a transcript")
    step = max(len(rows) // arguments.utterances, 1)
    figures = Figures("align", arguments.folder)
    try:
        measure(rows[::step][: arguments.utterances], process_aligner(AlignConfig()), figures)
    except UserError as error:
        raise SystemExit(str(error)) from None
    figures.write()


if __name__ == "__main__":
    main()
