"""Format of ``result.json``: what one training of a synthetic task gave. See ``lst.runs.formats`` for versions."""

from __future__ import annotations

from typing import TypedDict

from lst.runs.formats import Options


class SyntheticSettings(TypedDict):
    """``settings.json``: everything that decides weights and metrics; sections of the configuration as they are named.

    Keys:
        task, train: without the options that change neither.
    """

    seed: int
    convolution: str
    task: Options
    model: Options
    train: Options


class Timing(TypedDict):
    """Seconds of the training steps; validations are not counted. The median is that of an undisturbed step."""

    training_s: float
    median_step_s: float
    threads: int


class SyntheticResult(TypedDict):
    """``TASK/MODEL/seed-S/result.json``.

    Keys:
        model: the label of the model in the run.
        accuracy, test_loss: on the test sequences, after the last step.
        best_accuracy: of all validations.
        learnt_at_step: the first validated step with an accuracy of 99 % or more, or None.
        passes: over the training sequences.
        majority_accuracy: of answering always with the commonest training answer.
        num_tokens: of a sequence.
        command: words of the command that trained it.
    """

    task: str
    model: str
    seed: int
    steps: int
    stopped_early: bool
    accuracy: float
    test_loss: float
    best_accuracy: float
    learnt_at_step: int | None
    passes: float
    majority_accuracy: float
    test_sequences: int
    num_tokens: int
    vocab_size: int
    settings: SyntheticSettings
    parameters: int
    command: list[str]
    timing: Timing
