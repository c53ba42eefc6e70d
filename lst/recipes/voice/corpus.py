"""Pieces of prepared speech as batches that depend on seed, stage and step alone, so that a training can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import numpy as np
import torch

from lst.data.audio import read_row_audio
from lst.data.prepared import PreparedData
from lst.data.shards import ShardReader
from lst.errors import UserError
from lst.recipes.voice.features import SpeechFeatures, read_features
from lst.voice.mel import FRAME_RATE_HZ, MelScale, at_content_rate, evened
from lst.voice.model import VoiceBatch
from lst.voice.pitch import prosody_of, standard_pitch

_PHONE_RATE_HZ = 100
# Utterances whose spectra are kept in memory: about 400 MB of 15 s each.
_MOST_KEPT = 4096
# Draws of their own, so that validation is not correlated with training.
_VALID_STREAM = 0x7A11D


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of an utterance, or all of it; the fields are those of ``VoiceBatch`` without rows."""

    mel: np.ndarray
    prosody: np.ndarray
    pitch: np.ndarray
    phones: np.ndarray
    units: np.ndarray

    def cut(self, start: int, num_content: int) -> Piece:
        """Content frames from ``start`` on; a piece that is too short is repeated."""
        slow = (start + np.arange(num_content)) % len(self.phones)
        fast = (2 * slow[:, None] + np.arange(2)).reshape(-1)
        return Piece(self.mel[:, fast], self.prosody[:, fast], self.pitch[fast], self.phones[slow], self.units[slow])


class VoiceCorpus:
    """The utterances of a split that a voice can be trained on.

    Args:
        data: prepared data whose features are made.
        split: ``train`` or ``valid``.
        sample_rate_hz: of the voice.

    Raises:
        UserError: no utterance has features.
    """

    def __init__(self, data: PreparedData, split: str, sample_rate_hz: int) -> None:
        reader: ShardReader = data.train if split == "train" else data.valid
        features = read_features(data, split)
        self.data, self.reader, self.scale = data, reader, MelScale(sample_rate_hz)
        self.features: list[SpeechFeatures] = []
        found: list[tuple[int, str]] = []
        for number, utterance in enumerate(reader):
            if utterance.id in features and len(utterance.units):
                self.features.append(features[utterance.id])
                found.append((number, utterance.speaker))
        if not found:
            raise UserError(f"no utterance of {split} in {data.folder} has phones: a voice needs English recordings")
        self._name(found)
        self.piece = lru_cache(_MOST_KEPT)(self._piece)

    def _name(self, found: Sequence[tuple[int, str]]) -> None:
        """Takes utterances by their numbers in the split, and their speakers."""
        self.numbers, speakers = [number for number, _ in found], [speaker for _, speaker in found]
        self.speaker_names = sorted(set(speakers))
        numbers = {name: number for number, name in enumerate(self.speaker_names)}
        self.speakers = np.array([numbers[name] for name in speakers])
        self.of_speaker = [np.flatnonzero(self.speakers == number) for number in range(len(numbers))]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def num_speakers(self) -> int:
        """Speakers of the split."""
        return len(self.speaker_names)

    def waveform(self, index: int) -> np.ndarray:
        """The recording of an utterance, evened, float32 [num_samples]."""
        utterance = self.reader[self.numbers[index]]
        return evened(read_row_audio(self.data.manifest[utterance.id], self.scale.sample_rate_hz))

    def _piece(self, index: int) -> Piece:
        """All of an utterance."""
        # Of a codec, the first of each frame.
        units = self.reader[self.numbers[index]].units[:: self.data.codec.units_a_frame]
        mel = self.scale.mel(self.waveform(index))
        own = self.features[index]
        pitch_hz = np.zeros(mel.shape[1], np.float32)
        num_found = min(len(own.pitch_hz), len(pitch_hz))
        pitch_hz[:num_found] = own.pitch_hz[:num_found]
        num_content = mel.shape[1] // 2
        return Piece(
            mel,
            prosody_of(mel, pitch_hz),
            standard_pitch(pitch_hz),
            at_content_rate(own.phones, _PHONE_RATE_HZ, num_content).astype(np.int64),
            at_content_rate(units, self.data.codec.frame_rate_hz, num_content).astype(np.int64),
        )

    def batch(self, rows: int, num_content: int, num_reference: int, rng: np.random.Generator) -> VoiceBatch:
        """Draws a batch.

        Args:
            rows: pieces.
            num_content, num_reference: content frames of a piece, and of a reference.
            rng: of the draws.
        """
        chosen = rng.integers(len(self), size=rows)
        speakers = self.speakers[chosen]
        same = [int(rng.choice(self.of_speaker[speaker])) for speaker in speakers]
        others = rng.integers(len(self), size=rows)
        pieces = [self._cut(int(index), num_content, rng) for index in chosen]
        runs, lengths = _runs([piece.units for piece in pieces], self.data.codec.frame_rate_hz)
        stacked = {
            name: torch.from_numpy(np.stack([getattr(piece, name) for piece in pieces]))
            for name in ("mel", "prosody", "pitch", "phones", "units")
        }
        return VoiceBatch(
            **stacked,
            runs=torch.from_numpy(runs),
            run_lengths=torch.from_numpy(lengths),
            speakers=torch.from_numpy(speakers),
            reference=self._mels(same, num_reference, rng),
            others=torch.from_numpy(self.speakers[others]),
            other=self._mels(others.tolist(), num_reference, rng),
        )

    def _cut(self, index: int, num_content: int, rng: np.random.Generator) -> Piece:
        piece = self.piece(index)
        return piece.cut(int(rng.integers(max(1, len(piece.phones) - num_content + 1))), num_content)

    def _mels(self, indices: Sequence[int], num_content: int, rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._cut(index, num_content, rng).mel for index in indices]))


def content_frames(duration_s: float) -> int:
    """Content frames of a piece.

    >>> content_frames(1.6)
    64
    """
    return round(duration_s * FRAME_RATE_HZ / 2)


def training_batches(
    corpus: VoiceCorpus, rows: int, num_content: int, num_reference: int, seed: Sequence[int], first_step: int
) -> Iterator[VoiceBatch]:
    """Batches without end, from a step on; ``seed`` has that of the training and the stage."""
    for step in count(first_step):
        yield corpus.batch(rows, num_content, num_reference, np.random.default_rng([*seed, step]))


def valid_batches(
    corpus: VoiceCorpus, rows: int, num_rows: int, num_content: int, num_reference: int, seed: int
) -> list[VoiceBatch]:
    """``num_rows`` pieces in batches of ``rows``, always the same."""
    rng = np.random.default_rng([_VALID_STREAM, seed])
    return [corpus.batch(rows, num_content, num_reference, rng) for _ in range(-(-num_rows // rows))]


def _runs(units: Sequence[np.ndarray], unit_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs of equal units, int64 [B, L], and their lengths in units, float32 [B, L]; 0 for those cut at the ends."""
    found = []
    for own in units:
        starts = np.flatnonzero(np.append(True, own[1:] != own[:-1]))
        content = np.diff(np.append(starts, len(own)))
        lengths = content * np.float32(unit_rate_hz * 2 / FRAME_RATE_HZ)
        lengths[[0, -1]] = 0
        found.append((own[starts], lengths))
    most = max(len(runs) for runs, _ in found)
    runs = np.stack([np.pad(own, (0, most - len(own))) for own, _ in found])
    return runs, np.stack([np.pad(own, (0, most - len(own))) for _, own in found]).astype(np.float32)
