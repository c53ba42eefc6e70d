"""Forced alignment of words and of phones by pocketsphinx with its packaged English model.

Words of other languages are made of the English phones that are nearest to theirs, by eSpeak NG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice

import numpy as np

from lst.data.alignment.aligner import (
    AlignItem,
    AlignmentError,
    AlignResult,
    MisfitError,
    ScoreScale,
    align_each,
)
from lst.data.alignment.hmm_decoder import PocketsphinxDecoder, dictionary_word
from lst.data.alignment.hmm_graph import FOREIGN_BEAMS, GraphDecoder, HeardPiece
from lst.data.alignment.words import check_room, fit_words, with_unaligned
from lst.data.text import BRACKETS, PieceReadings, join_unsaid, letter_tokens, spoken_words, word_readings
from lst.data.utterance import Word

DECODER_FRAME_S = 0.01
DOUBTFUL_SCORE, DOUBTFUL_FOREIGN_SCORE = -40.0, -80.0

# ARPAbet without stress, as in the packaged dictionary; silence, breath and noise are all SIL.
PHONES = (
    *("SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY"),
    *("JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
SILENCE = 0


def _said(text: str, language: str) -> list[str]:
    """The words of a text for the dictionary; raises ``AlignmentError`` if there are none."""
    if language:
        if tokens := letter_tokens(text, language):
            return [dictionary_word(token, language) for token in tokens]
        raise AlignmentError(f"nothing in {text!r} can be said: it has no letter and no digit")
    try:
        return [token for word in spoken_words(text) for token in word.tokens]
    except ValueError as error:
        raise AlignmentError(str(error)) from None


class PocketsphinxAligner(PocketsphinxDecoder):
    """Aligns words. English ones that the dictionary lacks get a pronunciation by rule, all others by eSpeak NG.

    The plain readings are tried first. Where they do not fit, a word scores badly or there are several readings, the
    audio chooses: among readings, and which words it lacks.

    Args:
        brackets: pairs of brackets around labels that are unsaid.
        search: options of pocketsphinx for the plain readings.
    """

    scale: ScoreScale | None = ScoreScale(lowest=-30.0, least_spread=2.0, lowest_foreign=-55.0)

    def __init__(self, brackets: Sequence[str] = BRACKETS, search: Mapping[str, float] | None = None) -> None:
        super().__init__(**(search or {}))
        self.brackets = brackets
        self._foreign: PocketsphinxDecoder | None = None
        self._graphs: dict[bool, GraphDecoder] = {}  # by whether they are for other languages than English

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[AlignResult]:
        """See ``Aligner.align_many``."""
        return align_each(partial(self._align, frame_rate_hz=frame_rate_hz), items)

    def _align(self, item: AlignItem, frame_rate_hz: int) -> tuple[Word, ...]:
        pieces = [
            _in_dictionary(piece, item.language) for piece in word_readings(item.text, self.brackets, item.language)
        ]
        if not any(reading for piece in pieces for reading in piece.readings):
            _said(item.text, item.language)  # Says why, where a letter is at fault.
            raise AlignmentError(f"nothing in {item.text!r} is said: all of it is labels in brackets")
        check_room(sum(bool(piece.readings and piece.readings[0]) for piece in pieces), item.num_frames, frame_rate_hz)
        words = join_unsaid(
            (piece.text, piece.tokens) for piece in self._heard(item.waveform, pieces, bool(item.language))
        )
        return _placed(words, item.num_frames, DECODER_FRAME_S * frame_rate_hz)

    def _heard(self, waveform: np.ndarray, pieces: Sequence[PieceReadings], is_foreign: bool) -> list[HeardPiece]:
        """The pieces by their plain readings, or as the audio has them."""
        decoder: PocketsphinxDecoder = self
        if is_foreign:
            decoder = self._foreign = self._foreign or PocketsphinxDecoder(**FOREIGN_BEAMS)
        is_doubtful = partial(_is_doubtful, limit=DOUBTFUL_FOREIGN_SCORE if is_foreign else DOUBTFUL_SCORE)
        plain: list[HeardPiece] | None = None
        failure = AlignmentError("a word has letters that are not English")
        if all(piece.readings for piece in pieces):
            try:
                timed = iter(decoder.find_words(waveform, [token for piece in pieces for token in piece.readings[0]]))
                plain = [HeardPiece(piece.text, list(islice(timed, len(piece.readings[0]))), True) for piece in pieces]
            except AlignmentError as error:
                failure = error
        has_one_reading = all(len(piece.readings) == 1 for piece in pieces)
        if plain and has_one_reading and not any(map(is_doubtful, plain)):
            return plain
        try:
            if is_foreign not in self._graphs:
                self._graphs[is_foreign] = GraphDecoder(is_foreign)
            found = self._graphs[is_foreign].find_pieces(waveform, pieces)
        except AlignmentError:
            if plain is None:
                raise failure from None
            return plain
        if plain is None or any(
            not after.is_plain and (after.tokens != [None] or is_doubtful(before))
            for before, after in zip(plain, found, strict=True)
        ):
            return found
        return plain


def _in_dictionary(piece: PieceReadings, language: str) -> PieceReadings:
    """The same piece with its readings as the decoder's dictionary writes them."""
    if not language:
        return piece
    readings = (tuple(dictionary_word(token, language) for token in reading) for reading in piece.readings)
    return replace(piece, readings=tuple(readings))


def _is_doubtful(piece: HeardPiece, limit: float) -> bool:
    """Whether a word scores so badly that the audio may lack it; one right word in 200 does."""
    return any(token is not None and token.score < limit for token in piece.tokens)


def _placed(words: Sequence[tuple[str, list[Word | None]]], num_frames: int, scale: float) -> tuple[Word, ...]:
    """Words in frames; ``scale`` is frames for each 10 ms."""
    rough: list[Word] = []
    for text, found in words:
        own = [token for token in found if token is not None]
        if own:
            lengths = [token.end_frame - token.start_frame for token in own]
            score = sum(token.score * length for token, length in zip(own, lengths, strict=True)) / max(sum(lengths), 1)
            start, end = round(own[0].start_frame * scale), round(own[-1].end_frame * scale)
            rough.append(Word(text, start, end, round(score, 3)))
    placed = iter(fit_words(rough, num_frames))
    return with_unaligned([next(placed) if any(found) else text for text, found in words], num_frames)


class PhoneAligner(PocketsphinxDecoder):
    """Aligns English phones, in other languages the English phones that are nearest to theirs.

    Args:
        is_right: whether texts are known to be what is said: where the narrow search finds no path, a search that gives
            none up takes the best one, however ill it fits. Engines' voices need that.
    """

    def __init__(self, is_right: bool = False) -> None:
        super().__init__()
        self.is_right = is_right

    @cached_property
    def _foreign(self) -> PocketsphinxDecoder:
        return PocketsphinxDecoder(**FOREIGN_BEAMS)

    @cached_property
    def _wide(self) -> PocketsphinxDecoder:
        return PocketsphinxDecoder(beam=0.0, pbeam=0.0, wbeam=0.0)

    def phones(self, waveform: np.ndarray, text: str, language: str = "") -> np.ndarray:
        """The phone of each frame of 10 ms.

        Args:
            waveform: float32 [num_samples], mono, 16 kHz.
            text: the transcript.
            language: of the transcript; empty for English.

        Returns:
            uint8 [num_frames], indices into ``PHONES``.

        Raises:
            AlignmentError: the text cannot be said in this language, or does not fit the audio.
        """
        decoder, tokens = self._foreign if language else self, _said(text, language)
        try:
            segments = decoder.find_phones(waveform, tokens)
        except MisfitError:
            if not self.is_right:
                raise
            segments = self._wide.find_phones(waveform, tokens)
        frames = np.full(max((start + duration for _, start, duration in segments), default=0), SILENCE, np.uint8)
        for name, start, duration in segments:
            frames[start : start + duration] = PHONES.index(name) if name in PHONES else SILENCE
        return frames


def phones_of_units(phones: np.ndarray, num_frames: int, frame_rate_hz: int) -> np.ndarray:
    """The phone that covers most of each frame of the units; of two that cover as much, the earlier one.

    Args:
        phones: [num_decoder_frames], one for each 10 ms; the time after them is silence.
        num_frames: frames of the units.
        frame_rate_hz: frames of the units a second.

    Returns:
        uint8 [num_frames].
    """
    bounds = np.round(np.arange(num_frames + 1) / (frame_rate_hz * DECODER_FRAME_S)).astype(int)
    padded = np.concatenate([phones, np.full(max(0, bounds[-1] - len(phones)), SILENCE, np.uint8)])
    chosen = np.empty(num_frames, np.uint8)
    for index in range(num_frames):
        # Above 100 frames a second a frame may hold no whole 10 ms: then the phone at its start counts.
        inside = padded[bounds[index] : max(bounds[index + 1], bounds[index] + 1)]
        counts = np.bincount(inside, minlength=len(PHONES))
        chosen[index] = next(phone for phone in inside if counts[phone] == counts.max())
    return chosen
