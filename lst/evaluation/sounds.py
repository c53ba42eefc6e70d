"""What can be measured of the parts of an item besides their words: rate, duration, cuts, level, pitch, spectrum.

::

    prepared data ──PartSounds.of──▶ Sound of a Part: of its units always, of its audio where that can be read
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from lst.data.audio import read_row_audio
from lst.data.corpora import ManifestRow
from lst.data.documents import span_frames
from lst.data.prepared import PreparedData
from lst.data.utterance import Utterance
from lst.errors import LstError
from lst.evaluation.items import Item, Part
from lst.progress import Progress
from lst.tokenizers.units import SAMPLE_RATE_HZ

# Training utterances from which pairs of neighbouring units are counted.
MAX_TRAIN_UTTERANCES = 5_000
# What is heard of a cut: so much audio on either side.
EDGE_S = 0.1
NUM_BANDS, SILENT_DB = 12, -100.0
PITCH_WINDOW, PITCH_HOP, LOWEST_HZ, HIGHEST_HZ = 800, 320, 60, 400
# Least autocorrelation of a voiced window, as a share of its energy.
VOICED = 0.3


class Edge(NamedTuple):
    """The sound beside a cut: level in dB, and the level of each band in dB, float [NUM_BANDS]."""

    level_db: float
    spectrum_db: np.ndarray


class Heard(NamedTuple):
    """Measures of the audio of a part.

    Attributes:
        level_db: root mean square from the first word to the last, in dB of full scale.
        pitch_hz: median of the fundamental frequency; NaN where nothing is voiced.
        first, last: the sound after its beginning and before its end, where it is cut.
    """

    level_db: float
    pitch_hz: float
    first: Edge
    last: Edge


@dataclass(frozen=True)
class Sound:
    """Measures of a part.

    Attributes:
        num_units: from the first word to the last.
        num_letters: letters and digits of its text, 1 or more.
        first_unit, last_unit: beside the cuts; −1 where the part has no unit.
        heard: of its audio; None where that cannot be read.
    """

    num_units: int
    num_letters: int
    first_unit: int
    last_unit: int
    heard: Heard | None = None

    @property
    def units_a_letter(self) -> float:
        """How slowly it is spoken; NaN without units."""
        return self.num_units / self.num_letters if self.num_units else float("nan")


@dataclass
class UnitPairs:
    """How often units follow one another in training.

    Attributes:
        num_units: size of the codebook.
        codes: of each pair that occurs, rising: the first unit · ``num_units`` + the second.
        counts: of each pair.
        firsts: how often each unit is the first of a pair, int [num_units].
    """

    num_units: int
    codes: np.ndarray
    counts: np.ndarray
    firsts: np.ndarray

    @classmethod
    def count(cls, utterances: Sequence[np.ndarray], num_units: int) -> UnitPairs:
        """Counts the pairs of neighbours in the units of utterances."""
        wide = [units.astype(np.int64) for units in utterances]
        pairs = np.concatenate([np.zeros(0, np.int64), *(units[:-1] * num_units + units[1:] for units in wide)])
        codes, counts = np.unique(pairs, return_counts=True)
        return cls(num_units, codes, counts, np.bincount(pairs // num_units, minlength=num_units))

    def nats(self, first: int, second: int) -> float:
        """ln p(second | first), where every pair counts 1 / ``num_units`` more than it occurs; NaN without units."""
        if min(first, second) < 0:
            return float("nan")
        code = first * self.num_units + second
        place = int(np.searchsorted(self.codes, code))
        is_known = place < len(self.codes) and self.codes[place] == code
        count = int(self.counts[place]) if is_known else 0
        return float(np.log((count + 1 / self.num_units) / (self.firsts[first] + 1)))


@dataclass
class PartSounds:
    """Measures the parts of items of prepared data, each once.

    Attributes:
        data: gives pairs of units, and the audio of its own utterances.
        manifest: of the utterances whose parts are measured; None takes those of the data.
        unreadable: why audio could not be read, by utterance.
    """

    data: PreparedData
    manifest: Mapping[str, ManifestRow] | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    _known: dict[tuple[str, int, int], Sound] = field(default_factory=dict)
    _pairs: UnitPairs | None = None

    @property
    def _manifest(self) -> Mapping[str, ManifestRow]:
        return self.data.manifest if self.manifest is None else self.manifest

    @property
    def silent(self) -> str:
        """Why no part has audio; empty where some may have."""
        if self._manifest:
            return ""
        return f"the data ({self.data.index['description']}) is units without audio"

    @property
    def pairs(self) -> UnitPairs:
        """Pairs of units in the first training utterances."""
        if self._pairs is None:
            units = [utterance.units for utterance in islice(self.data.train, MAX_TRAIN_UTTERANCES)]
            self._pairs = UnitPairs.count(units, self.data.vocabulary.num_units)
        return self._pairs

    def measure(self, items: Sequence[Item]) -> None:
        """Measures the parts of items. The audio of an utterance is read once for all of them."""
        by_utterance: dict[str, list[Part]] = {}
        for item in items:
            for part in (item.context, *item.endings):
                if _key(part) not in self._known:
                    by_utterance.setdefault(part.utterance.id, []).append(part)
        vocabulary = self.data.vocabulary
        with Progress(len(by_utterance), "measure sounds", unit="utterance") as progress:
            for parts in by_utterance.values():
                waveform = self._waveform(parts[0].utterance)
                for part in parts:
                    self._known[_key(part)] = measured(
                        part, waveform, vocabulary.unit_rate_hz, vocabulary.units_a_frame
                    )
                progress.advance()

    def of(self, part: Part) -> Sound:
        """Measures of a part that was measured."""
        return self._known[_key(part)]

    def _waveform(self, utterance: Utterance) -> np.ndarray | None:
        row: ManifestRow | None = self._manifest.get(utterance.id)
        if row is None:
            return None
        try:
            return read_row_audio(row, SAMPLE_RATE_HZ)
        except LstError as error:
            self.unreadable[utterance.id] = str(error)
            return None


def _key(part: Part) -> tuple[str, int, int]:
    return part.utterance.id, part.first_word, part.last_word


def measured(part: Part, waveform: np.ndarray | None, unit_rate_hz: int, units_a_frame: int = 1) -> Sound:
    """Measures of a part.

    Args:
        part: words of an utterance.
        waveform: of the whole utterance, float32 [num_samples] at 16 kHz; None without audio.
        unit_rate_hz: units a second.
        units_a_frame: units that belong together.
    """
    if part.is_nothing:
        return Sound(0, 1, -1, -1)
    utterance, words = part.utterance, part.utterance.words[part.first_word : part.last_word]
    # Where a document cuts the part: in the middle of silences.
    first, last = span_frames(utterance, part.first_word, part.last_word, units_a_frame)
    cut, spoken = slice(first, last), slice(words[0].start_frame, words[-1].end_frame)
    units = utterance.units[cut]
    return Sound(
        num_units=spoken.stop - spoken.start,
        num_letters=max(1, sum(map(str.isalnum, part.text))),
        first_unit=int(units[0]) if len(units) else -1,
        last_unit=int(units[-1]) if len(units) else -1,
        heard=None if waveform is None else _heard(*(_samples(waveform, one, unit_rate_hz) for one in (cut, spoken))),
    )


def _samples(waveform: np.ndarray, units: slice, unit_rate_hz: int) -> np.ndarray:
    return waveform[units.start * SAMPLE_RATE_HZ // unit_rate_hz : units.stop * SAMPLE_RATE_HZ // unit_rate_hz]


def _heard(cut: np.ndarray, spoken: np.ndarray) -> Heard | None:
    """Measures of samples, float [n] each: between the cuts, and from the first word to the last."""
    edge = int(EDGE_S * SAMPLE_RATE_HZ)
    if len(spoken) == 0 or len(cut) < edge:
        return None
    return Heard(level_db(spoken), pitch_hz(spoken), _edge(cut[:edge]), _edge(cut[-edge:]))


def level_db(samples: np.ndarray) -> float:
    """Root mean square of samples, float [n], in dB of full scale."""
    return max(SILENT_DB, float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20)))


def _edge(samples: np.ndarray) -> Edge:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    # Bands are twice as wide from one to the next near the top: bounds are spaced by their logarithm.
    bounds = np.unique(np.geomspace(2, len(power) - 1, NUM_BANDS + 1).astype(int))
    bands = np.add.reduceat(power, bounds[:-1]) / np.diff(bounds)
    return Edge(level_db(samples), np.maximum(10 * np.log10(bands + 1e-20), SILENT_DB))


def pitch_hz(samples: np.ndarray) -> float:
    """Median fundamental frequency of voiced windows of samples, float [n] at 16 kHz; NaN where none is voiced.

    A window's frequency is where its autocorrelation peaks, from 60 to 400 Hz.
    """
    if len(samples) < PITCH_WINDOW:
        return float("nan")
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), PITCH_WINDOW)[::PITCH_HOP]
    windows = (windows - windows.mean(axis=1, keepdims=True)) * np.hanning(PITCH_WINDOW)
    spectra = np.fft.rfft(windows, 2 * PITCH_WINDOW)
    correlation = np.fft.irfft(np.abs(spectra) ** 2)
    lowest, highest = SAMPLE_RATE_HZ // HIGHEST_HZ, SAMPLE_RATE_HZ // LOWEST_HZ
    lags = lowest + correlation[:, lowest : highest + 1].argmax(axis=1)
    peaks = np.take_along_axis(correlation, lags[:, None], axis=1)[:, 0]
    energies = correlation[:, 0]
    # Windows far below the loudest are silence.
    is_voiced = (peaks > VOICED * energies) & (energies > energies.max() / 1000)
    return float(np.median(SAMPLE_RATE_HZ / lags[is_voiced])) if is_voiced.any() else float("nan")
