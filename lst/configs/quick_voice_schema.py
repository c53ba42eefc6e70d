"""Options of the voice that ``lst quickstart`` trains."""

from __future__ import annotations

from dataclasses import dataclass

from lst.options import Options, option


@dataclass
class QuickVoiceConfig(Options, prefix="voice."):
    """The voice of units that the quickstart trains, so that its models are heard."""

    steps: int = option(600, "steps of the voice that speaks the run's units; 0 trains none", low=0, is_later=True)
