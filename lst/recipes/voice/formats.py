"""Formats of the files of a voice's training.

::

    RUN/voice/NAME/stage-N/settings.json    VoiceSettings
    RUN/voice/NAME/units, vocoder/settings.json    PartSettings
    RUN/voice/NAME/stage-N/metrics.jsonl    VoiceStepRow after a step; ``valid_…`` distances after a validation
"""

from __future__ import annotations

from typing import TypedDict

from lst.runs.formats import Options, StepRow


class VoiceStepRow(StepRow, total=False):
    """``StepRow`` of a voice: its loss is the sum of these terms, each with its weight; the stage has some of them."""

    loss_mel: float
    loss_energy: float
    loss_reader: float
    loss_pitch: float
    loss_recognition: float
    loss_style: float
    loss_cycle: float
    loss_phone: float
    loss_units: float
    loss_unit_prosody: float
    loss_unit_lengths: float
    loss_adversarial: float
    loss_features: float
    loss_discriminator: float


class VoiceSettings(TypedDict):
    """Everything that decides the weights of a stage: it goes on with equal settings only.

    Keys:
        data: fingerprint of the prepared data.
        stage: 1 or 2.
        train: options, without those that change no weight.
    """

    data: str
    stage: int
    seed: int
    model: Options
    loss: Options
    train: Options


class PartSettings(TypedDict):
    """Everything that decides the weights of a voice's units or of its vocoder.

    Keys:
        data: fingerprint of the prepared data.
        part: ``units`` or ``vocoder``.
        model: sizes.
        train: options, without those that change no weight.
    """

    data: str
    part: str
    seed: int
    sample_rate_hz: int
    model: Options
    train: Options
