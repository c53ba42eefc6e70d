"""What a model answers: scores of endings, continuations, and sound that can be saved and played."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from lst.errors import UserError
from lst.model.inference import ScoredTokens
from lst.storage import write_bytes
from lst.voice.vocoders import Vocoder

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class EndingScore:
    """How likely a model finds an ending.

    Attributes:
        nats: ln p(ending | context), summed over its tokens.
        num_tokens: of the ending.
        alone_nats: ln p(ending) without the context.
    """

    nats: float
    num_tokens: int
    alone_nats: float

    @property
    def mean_nats(self) -> float:
        """Log-likelihood a token."""
        return self.nats / max(self.num_tokens, 1)

    @property
    def gain_nats(self) -> float:
        """What the context adds to the log-likelihood: positive where it makes the ending likelier."""
        return self.nats - self.alone_nats

    @classmethod
    def of(cls, scored: ScoredTokens, alone: ScoredTokens) -> EndingScore:
        """The score of an ending from its tokens after the context, and without it."""
        return cls(scored.sum_nats, scored.num_tokens, alone.sum_nats)


@dataclass(frozen=True)
class Sound:
    """A waveform. A notebook shows it as a player.

    Attributes:
        samples: float32 [num_samples], mono, full scale ±1.
        sample_rate_hz: samples a second.
    """

    samples: np.ndarray
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz

    def save(self, path: Path | str) -> Path:
        """Writes a 16-bit WAV file, whole or not at all; returns its path."""
        place = Path(path).expanduser()
        if place.suffix.lower() != ".wav":
            raise UserError(f"{place}: sound is written as WAV: name a file that ends with .wav")
        write_bytes(place, self.wav)
        return place

    @property
    def wav(self) -> bytes:
        """The content of a 16-bit WAV file."""
        buffer = io.BytesIO()
        soundfile.write(buffer, self.samples, self.sample_rate_hz, format="WAV", subtype="PCM_16")
        return buffer.getvalue()

    def __repr__(self) -> str:
        return f"Sound({self.duration_s:.2f} s at {self.sample_rate_hz:,} Hz)"

    def _repr_html_(self) -> str:
        return f'<audio controls src="data:audio/wav;base64,{base64.b64encode(self.wav).decode()}"></audio>'


@dataclass(frozen=True)
class Continued:
    """What a model wrote and spoke after a prompt.

    Attributes:
        spans: its stretches in order: text, or units, int [n].
        num_tokens: that were drawn.
        ended_by: ``stop`` (it ended there, or a stop text came), ``length`` (``max_new_tokens``) or ``context`` (the
            model reads no more).
        is_deduplicated: whether each run of equal units is one unit.
        voice: makes sound of units; None where the model has none.
    """

    spans: tuple[str | np.ndarray, ...]
    num_tokens: int
    ended_by: str
    is_deduplicated: bool = False
    voice: Vocoder | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """All that it wrote; empty where it only spoke."""
        return " ".join(span for span in self.spans if isinstance(span, str))

    @property
    def units(self) -> np.ndarray:
        """Units of all that it spoke, int64 [n]; empty where it only wrote."""
        return np.concatenate([np.zeros(0, np.int64), *(span for span in self.spans if not isinstance(span, str))])

    @cached_property
    def sound(self) -> Sound:
        """What it spoke; raises ``UserError`` where it only wrote, or the model has no voice."""
        if not len(self.units):
            raise UserError(
                "this continuation has no speech: it is text, or it ended at once. Ask for modality='speech', or take "
                "another seed"
            )
        if self.voice is None:
            raise UserError("this model has no voice: its units were made without audio (see docs/guides/voice.md)")
        return Sound(self.voice.sound(self.units, self.is_deduplicated), self.voice.sample_rate_hz)

    def __str__(self) -> str:
        """Text as text, speech as unit numbers; with markers where there are stretches of both."""
        shown = [span if isinstance(span, str) else " ".join(map(str, span.tolist())) for span in self.spans]
        if len(shown) == 1:
            return shown[0]
        marks = ["<text>" if isinstance(span, str) else "<speech>" for span in self.spans]
        return " ".join(f"{mark} {one}" for mark, one in zip(marks, shown, strict=True))

    def __repr__(self) -> str:
        shown = str(self)
        if len(shown) > _SHOWN_CHARACTERS:
            shown = shown[:_SHOWN_CHARACTERS] + "…"
        return f"Continued({shown!r}, {self.num_tokens} tokens, ended by {self.ended_by})"
