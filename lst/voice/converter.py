"""A finished voice at work: it converts speech and speaks units, in the style of any reference.

::

    source ─ mel ─▶ content ──┐
    source ─▶ pitch, loudness ┼─▶ Decoder ─▶ mel ─▶ sound
    reference ─ mel ─▶ style ─┘
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import soundfile
import torch

from lst.errors import UserError
from lst.tokenizers.speech import reduplicate
from lst.voice.mel import CONTENT_RATE_HZ, MelScale, at_content_rate, evened
from lst.voice.pitch import pitch_of, prosody_of
from lst.voice.saved import SavedVoice
from lst.voice.vocoders.interface import finished
from lst.voice.vocoders.of_mels import GriffinLim, MelVocoder

# Quieter speech than this, at its loudest, is silence.
LEAST_PEAK = 1e-3
LEAST_REFERENCE_S, MOST_SOURCE_S = 0.5, 600.0
# A reference is heard in pieces of at most this.
PIECE_S = 10.0


@dataclass(frozen=True, eq=False)
class StyleVoice:
    """A trained voice; as a ``Vocoder``, it speaks in ``style``.

    Attributes:
        saved: its networks.
        style: float32 [S]; None for the default one.
        vocoder: makes sound of its mels.
    """

    saved: SavedVoice
    style: torch.Tensor | None = None
    vocoder: MelVocoder = field(default_factory=GriffinLim)

    @property
    def name(self) -> str:
        """See ``Vocoder``."""
        return f"a decoder trained on speech, sound by {self.vocoder.name}"

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second of what it hears and makes."""
        return self.saved.description["model"]["sample_rate_hz"]

    @cached_property
    def scale(self) -> MelScale:
        """Its mel spectra."""
        return MelScale(self.sample_rate_hz)

    def __repr__(self) -> str:
        described = self.saved.description
        return f"StyleVoice({described['name']!r}, trained on {described['num_speakers']} speakers)"

    @torch.inference_mode()
    def style_of(self, reference: np.ndarray, what: str = "the reference") -> torch.Tensor:
        """The style of a speaker, float32 [S].

        Args:
            reference: float32 [num_samples] of a few seconds or more; all of it is heard.
            what: its name, for errors.

        Raises:
            UserError: it is too short, or silent.
        """
        duration_s = len(reference) / self.sample_rate_hz
        if duration_s < LEAST_REFERENCE_S:
            raise UserError(f"{what} lasts {duration_s:.2f} s: give {LEAST_REFERENCE_S:g} s or more of the voice")
        if np.abs(reference).max() < LEAST_PEAK:
            raise UserError(f"{what} is silent: there is no voice to take from it")
        pieces = np.array_split(evened(reference), int(np.ceil(duration_s / PIECE_S)))
        styles = [self.saved.model.style(self._mel(piece)) for piece in pieces]
        return torch.cat(styles).mean(dim=0)

    def check_converts(self) -> None:
        """Raises ``UserError`` for a voice that cannot read speech."""
        if not self.saved.description["has_student"]:
            raise UserError(
                "this voice converts nothing: lst voice train has not finished its second stage, or trained part=units"
            )

    @torch.inference_mode()
    def convert(self, source: np.ndarray, style: torch.Tensor, what: str = "the source") -> np.ndarray:
        """The words and the melody of a source in another style, float32 [num_samples] as long as the source.

        A silent source stays silent.

        Args:
            source: float32 [num_samples].
            style: of ``style_of``.
            what: its name, for errors.

        Raises:
            UserError: the source is too long, or the voice cannot read speech.
        """
        self.check_converts()
        duration_s = len(source) / self.sample_rate_hz
        if duration_s > MOST_SOURCE_S:
            raise UserError(f"{what} lasts {duration_s:,.0f} s, at most {MOST_SOURCE_S:.0f} are converted: cut it")
        if not len(source) or np.abs(source).max() < LEAST_PEAK:
            return np.zeros(len(source), np.float32)
        speech = evened(source)
        mel = self._mel(speech)
        pitch_hz = pitch_of(speech, self.sample_rate_hz, mel.shape[-1])
        prosody = torch.from_numpy(prosody_of(mel[0].numpy(), pitch_hz))[None]
        made = self.saved.model.decoder(self.saved.model.sound(mel), prosody, style[None])
        return self._finished(made, len(source))

    @torch.inference_mode()
    def sound(self, units: np.ndarray, is_deduplicated: bool = False) -> np.ndarray:
        """See ``Vocoder``: units in the voice's style, with lengths, pitch and loudness that it predicts."""
        described, front = self.saved.description, self.saved.model.units
        if not described["has_units"]:
            raise UserError("this voice reads no units: it was trained with loss.units=0")
        if not len(units):
            return np.zeros(0, np.float32)
        if is_deduplicated:
            lengths = front.log_lengths(torch.from_numpy(units.astype(np.int64))[None])[0].exp()
            units = reduplicate(units, lengths.round().clamp(min=1).long().numpy())
        duration_s = len(units) / described["unit_rate_hz"]
        num_content = int(np.ceil(duration_s * CONTENT_RATE_HZ))
        places = at_content_rate(units.astype(np.int64), described["unit_rate_hz"], num_content)
        content = front(torch.from_numpy(places)[None])
        style = self.saved.default_style if self.style is None else self.style
        made = self.saved.model.decoder(content, front.predict(content).prosody(), style[None])
        return self._finished(made, round(duration_s * self.sample_rate_hz))

    def _mel(self, waveform: np.ndarray) -> torch.Tensor:
        """float32 [1, 80, num_frames]."""
        return torch.from_numpy(self.scale.mel(waveform))[None]

    def _finished(self, mel: torch.Tensor, num_samples: int) -> np.ndarray:
        """The sound of a mel, [1, 80, num_frames]."""
        return finished(self.vocoder.waveform(mel[0].numpy(), self.scale)[:num_samples], self.sample_rate_hz)


def tagged_wav(samples: np.ndarray, sample_rate_hz: int, comment: str) -> bytes:
    """The content of a 16-bit WAV file whose comment says what it is.

    Args:
        samples: float32 [num_samples].
        sample_rate_hz: samples a second.
        comment: a line.
    """
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", sample_rate_hz, 1, "PCM_16", format="WAV") as file:
        file.comment = comment
        file.write(samples)
    return buffer.getvalue()
