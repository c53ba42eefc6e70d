"""What a CTC model hears in a stretch of audio: the likeliest label of each frame."""

from __future__ import annotations

import numpy as np

from lst.data.alignment.ctc.emissions import ctc_emissions
from lst.data.alignment.ctc.foreign_labels import ForeignLabelMap
from lst.data.alignment.ctc.labels import LabelMap
from lst.data.alignment.ctc.model import CTC_SAMPLE_RATE_HZ, load_ctc_model
from lst.data.config import AlignConfig
from lst.data.recordings.hearing import HeardToken, TranscriptTokens


class CtcListener:
    """Hears the letters of speech, whatever the transcript; see ``Listener``. Its tokens are ids of labels.

    Args:
        align: names the model.
    """

    def __init__(self, align: AlignConfig) -> None:
        self._align = align
        self._ctc = load_ctc_model(align.checkpoint, align.weights, align.device)
        self._labels = LabelMap(self._ctc.labels, self._ctc.blank_id)
        self._passed = {self._ctc.blank_id, self._labels.boundary_id}

    def tokens(self, text: str, language: str) -> TranscriptTokens:
        """The letters of a transcript; raises ``ValueError`` where nothing of it can be said."""
        ctc = self._ctc
        labels = ForeignLabelMap(ctc.labels, ctc.blank_id, language) if language else self._labels
        found = [
            (str(label), number)
            for number, piece in enumerate(labels.readings(text, self._align.brackets()))
            for label in piece.words[0].label_ids
            if label not in self._passed and label != labels.star_id
        ]
        return TranscriptTokens([token for token, _ in found], [number for _, number in found], run=4, anchor=10)

    def hear(self, waveform: np.ndarray) -> list[HeardToken]:
        """See ``Listener``."""
        align, frame_s = self._align, self._ctc.samples_a_frame / CTC_SAMPLE_RATE_HZ
        (emission,) = ctc_emissions(self._ctc, [waveform], align.window_s, align.overlap_s, align.batch)
        best = emission.argmax(dim=1).numpy() if len(emission) else np.zeros(0, np.int64)
        starts = np.flatnonzero(np.diff(best, prepend=-1))
        ends = [*starts[1:].tolist(), len(best)]
        return [
            HeardToken(str(label), start * frame_s, end * frame_s)
            for label, start, end in zip(best[starts].tolist(), starts.tolist(), ends, strict=True)
            if label not in self._passed
        ]
