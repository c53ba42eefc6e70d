"""Why an utterance does not align: one cause, with the figures or the words that show it.

A reason begins with its cause, so that failures can be counted by kind (``cause_of_reason``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lst.data.alignment.aligner import AlignItem
from lst.data.text import pronouncing_dictionary, word_readings
from lst.data.utterance import Word

SILENCE, SCALE, CLIPPED = "silence or level", "mis-scaled samples", "clipped audio"
OPPOSITE, LANGUAGE = "opposite channels", "another language or unknown words"
CUT, OTHER_TEXT = "cut file", "text of another recording"
OTHER = "other"
CAUSES = (SILENCE, SCALE, CLIPPED, OPPOSITE, LANGUAGE, CUT, OTHER_TEXT)
# What sound speech keeps to, by a wide margin. Full scale is 1.
QUIETEST_PEAK, QUIETEST_RMS, LOUDEST_PEAK = 10 ** (-50 / 20), 10 ** (-60 / 20), 1.5
CLIPPED_SHARE = 0.01
UNKNOWN_SHARE, MAX_WORDS_A_SECOND = 0.3, 7.0
_EXAMPLES = 8


def sound_fault(waveform: np.ndarray) -> str:
    """What is wrong with a waveform as speech, whatever its text; empty if nothing is.

    >>> sound_fault(np.zeros(16_000, np.float32))
    'silence or level: the loudest sample is 0 of full scale'
    >>> sound_fault(np.array([20_000.0, -12_000.0], np.float32))[:35]
    'mis-scaled samples: they reach 2e+0'
    """
    loud = np.abs(waveform)
    peak = float(loud.max(initial=0.0))
    if peak < QUIETEST_PEAK:
        return f"{SILENCE}: the loudest sample is {peak:.2g} of full scale"
    rms = float(np.sqrt(np.mean(np.square(waveform - waveform.mean()))))
    if rms < QUIETEST_RMS:
        return f"{SILENCE}: the mean level is {20 * np.log10(max(rms, 1e-9)):.0f} dB of full scale"
    if peak > LOUDEST_PEAK:
        return f"{SCALE}: they reach {peak:.2g}, and full scale is 1. Divide them (16-bit numbers by 32768)"
    # Flat tops: the crest of a tone is as loud, but not flat.
    clipped = float(np.mean((loud[1:] >= 0.999 * peak) & (waveform[1:] == waveform[:-1]))) if len(loud) > 1 else 0.0
    if clipped > CLIPPED_SHARE:
        return f"{CLIPPED}: {clipped:.0%} of the samples lie in flat tops"
    return ""


def cause(item: AlignItem, words: Sequence[Word], why: str, is_english: bool, fits: bool = False) -> str:
    """The likeliest cause that an utterance does not align.

    Args:
        item: the utterance.
        words: as far as they were found; none if no way through the text was.
        why: what the aligner found.
        is_english: whether the aligner knows English alone.
        fits: whether the words that were found score well.
    """
    if fault := sound_fault(item.waveform):
        return f"{fault}; {why}"
    if is_english and not item.language and (unknown := unknown_words(item.text)):
        share = len(unknown) / max(len(item.text.split()), 1)
        if share > UNKNOWN_SHARE:
            shown = _shown(unknown)
            return f"{LANGUAGE}: {share:.0%} of the words are not in the English dictionary ({shown}); {why}"
    missing = [word.text for word in words if word.is_unaligned]
    num_words = len(item.text.split())
    rate = num_words / max(item.duration_s, 1e-3)
    last_found = max((place for place, word in enumerate(words) if not word.is_unaligned), default=-1)
    is_end = fits and bool(missing) and len(words) - 1 - last_found == len(missing)
    if rate > MAX_WORDS_A_SECOND or is_end:
        lost = f"; the last words were not found: {_shown(missing)}" if is_end else ""
        return f"{CUT}: {num_words} words in {item.duration_s:.2f} s{lost}; {why}"
    lost = f"; not found: {_shown(missing)}" if missing else f"; the text begins {_shown(item.text.split())}"
    return f"{OTHER_TEXT}: {why}{lost}"


def unknown_words(text: str) -> list[str]:
    """Words of a transcript that no reading says with the dictionary's words alone; labels are no words.

    >>> unknown_words("der Morgenzug hat 3 [noise] verspätung")
    ['Morgenzug', 'verspätung']
    """
    known = pronouncing_dictionary()
    return [
        piece.text
        for piece in word_readings(text)
        if not any(all(token in known for token in reading) for reading in piece.readings)
    ]


def cause_of_reason(reason: str) -> str:
    """The cause with which a reason begins; ``other`` for any other."""
    return next((known for known in CAUSES if reason.startswith(known)), OTHER)


def _shown(words: Sequence[str]) -> str:
    return ", ".join(words[:_EXAMPLES]) + (" …" if len(words) > _EXAMPLES else "")
