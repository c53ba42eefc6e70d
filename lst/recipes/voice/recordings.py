"""Recordings and units of prepared speech, without phones: what a voice's parts are trained on."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lst.data.prepared import PreparedData
from lst.data.shards import ShardReader
from lst.errors import UserError
from lst.recipes.voice.corpus import Piece, VoiceCorpus
from lst.voice.mel import MelScale, at_content_rate
from lst.voice.pitch import pitch_of, prosody_of, standard_pitch

# Waveforms and pieces that are kept in memory: about 400 MB of 15 s each.
_MOST_KEPT = 400


class RecordingCorpus(VoiceCorpus):
    """Utterances of a split from all over it, with their recordings; pitch is found when it is first asked for.

    Args:
        data: prepared data.
        split: ``train`` or ``valid``.
        sample_rate_hz: of the voice.
        most: utterances at most; 0 takes all.

    Raises:
        UserError: no utterance has a recording.
    """

    def __init__(self, data: PreparedData, split: str, sample_rate_hz: int, most: int) -> None:
        reader: ShardReader = data.train if split == "train" else data.valid
        found = [
            (number, one.speaker)
            for number, one in enumerate(reader)
            if one.id in data.manifest and len(one.units) and one.duration_s > 0
        ]
        if not found:
            raise UserError(f"no utterance of {split} in {data.folder} has a recording: a voice needs them")
        places = np.unique(np.linspace(0, len(found) - 1, min(most, len(found)) if most else len(found)).astype(int))
        self.data, self.reader, self.scale = data, reader, MelScale(sample_rate_hz)
        self._name([found[place] for place in places])
        self.piece = lru_cache(_MOST_KEPT)(self._piece)
        self.speech = lru_cache(_MOST_KEPT)(self.waveform)

    @property
    def duration_s(self) -> float:
        """Of all its utterances."""
        return float(sum(self.reader[number].duration_s for number in self.numbers))

    def _piece(self, index: int) -> Piece:
        """All of an utterance, its phones unknown."""
        units, waveform = self.reader[self.numbers[index]].units, self.waveform(index)
        mel = self.scale.mel(waveform)
        pitch_hz = pitch_of(waveform, self.scale.sample_rate_hz, mel.shape[1])
        num_content = mel.shape[1] // 2
        spoken = at_content_rate(units, self.data.codec.frame_rate_hz, num_content).astype(np.int64)
        return Piece(mel, prosody_of(mel, pitch_hz), standard_pitch(pitch_hz), np.zeros_like(spoken), spoken)
