"""Alignment that bends: the likeliest way through all readings of a transcript, where words may be missing.

::

    piece 1 ──doctor──▶ piece 2 ──lee──▶ …      each piece: any of its readings, or skipped at a price
            ──drive──▶        ──(price)──▶      between pieces: a filler for what the transcript lacks
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lst.data.alignment.aligner import MisfitError
from lst.data.alignment.hmm_decoder import PocketsphinxDecoder
from lst.data.text import PieceReadings
from lst.data.utterance import Word

# Measured on read speech: dearer, and wrong words are forced in; cheaper, and short right words drop out.
SKIP_PRICE = 1e-8
FILLER_PRICE = 0.1
_FILLERS = ("[SPEECH]", "[NOISE]")
# A skip costs more than the usual beams allow.
_BEAMS = {"beam": 1e-90, "pbeam": 1e-90, "wbeam": 1e-60}
# Phones of another language fit worse than English ones: right words cost more, and a skip must cost more still.
FOREIGN_BEAMS = {"beam": 1e-120, "pbeam": 1e-120, "wbeam": 1e-100}
FOREIGN_SKIP_PRICE = 1e-16
_GRAPH = "transcript"


class HeardPiece(NamedTuple):
    """How a piece of the transcript was found.

    Attributes:
        text: the piece as written.
        tokens: the words of the reading that was chosen, in frames of 10 ms; none if it is unsaid, ``[None]`` if it was
            not found.
        is_plain: whether the first reading was chosen.
    """

    text: str
    tokens: list[Word | None]
    is_plain: bool


class GraphDecoder(PocketsphinxDecoder):
    """Finds the likeliest readings of a transcript, and the pieces that the audio lacks.

    Args:
        is_foreign: whether the transcripts are of other languages than English.
    """

    def __init__(self, is_foreign: bool = False) -> None:
        super().__init__(**(FOREIGN_BEAMS if is_foreign else _BEAMS))
        self.skip_price = FOREIGN_SKIP_PRICE if is_foreign else SKIP_PRICE

    def find_pieces(self, waveform: np.ndarray, pieces: Sequence[PieceReadings]) -> list[HeardPiece]:
        """The pieces as they were found in a waveform (float32 [num_samples], mono, 16 kHz).

        Raises:
            MisfitError: no path through the readings fits the audio.
        """
        self.learn(token for piece in pieces for reading in piece.readings for token in reading)
        decoder = self.decoder

        def set_graph() -> None:
            decoder.add_fsg(_GRAPH, decoder.create_fsg(_GRAPH, 0, len(pieces), _transitions(pieces, self.skip_price)))
            decoder.activate_search(_GRAPH)

        heard = self.decode(waveform, set_graph, self.spoken_segments)
        if not heard:
            raise MisfitError(f"the audio does not fit the text: no path through its {len(pieces)} words was found")
        return _assigned(pieces, heard)


def _transitions(
    pieces: Sequence[PieceReadings], skip_price: float
) -> list[tuple[int, int, float, str] | tuple[int, int, float]]:
    """The graph: state i lies before piece i; further states lie within readings of several tokens."""
    found: list[tuple[int, int, float, str] | tuple[int, int, float]] = []
    free = len(pieces) + 1
    for start, piece in enumerate(pieces):
        found += [(start, start, FILLER_PRICE, filler) for filler in _FILLERS]
        share = 1.0 / max(len(piece.readings), 1)
        for reading in piece.readings:
            state, price = start, share
            for number, token in enumerate(reading, 1):
                is_last = number == len(reading)
                after = start + 1 if is_last else free
                free += not is_last
                found.append((state, after, price, token))
                state, price = after, 1.0
        found.append((start, start + 1, share if () in piece.readings or not piece.readings else skip_price))
    return [*found, *((len(pieces), len(pieces), FILLER_PRICE, filler) for filler in _FILLERS)]


def _assigned(pieces: Sequence[PieceReadings], heard: Sequence[Word]) -> list[HeardPiece]:
    """Gives the heard tokens to the pieces, with as few pieces skipped as the tokens allow."""
    texts = tuple(word.text for word in heard)
    # Of each piece and first token: the pieces skipped from there on, and the reading taken (None: skipped).
    best: list[dict[int, tuple[int, tuple[str, ...] | None]]] = [{} for _ in pieces] + [{len(texts): (0, None)}]
    for place in reversed(range(len(pieces))):
        for first in range(len(texts) + 1):
            ways: list[tuple[int, int, tuple[str, ...] | None]] = [
                (best[place + 1][end][0], number, reading)
                for number, reading in enumerate(pieces[place].readings)
                if texts[first : (end := first + len(reading))] == reading and end in best[place + 1]
            ]
            if first in best[place + 1]:
                ways.append((best[place + 1][first][0] + 1, len(ways), None))
            if ways:
                skipped, _, chosen = min(ways, key=lambda way: way[:2])
                best[place][first] = (skipped, chosen)
    found, position = [], 0
    for place, piece in enumerate(pieces):
        reading = best[place][position][1]
        count = len(reading or ())
        tokens: list[Word | None] = [None] if reading is None else list(heard[position : position + count])
        found.append(HeardPiece(piece.text, tokens, bool(piece.readings) and reading == piece.readings[0]))
        position += count
    return found
