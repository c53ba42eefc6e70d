"""Formats of the JSON of ``lst runs``; see ``lst.runs.formats`` for versions.

::

    lst runs list json=true, out=FILE    RunsFile
    lst runs diff json=true, out=FILE    DiffFile
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

State = Literal["finished", "running", "stopped", "damaged"]


class ModelLine(TypedDict):
    """A model of a run. What is not known is None or empty; ``problems`` say why where a file is at fault.

    Keys:
        run, name: folder of the run, and the model's name in it.
        state: ``finished``, ``running`` (a process holds it), ``stopped``, or ``damaged`` (its weights cannot be used).
        strategy: patching of the training.
        seed: of the training.
        num_parameters: of a finished model.
        steps, max_steps: done, and asked for.
        tokens, training_flops: spent by the last step that is recorded.
        loss: of that step, nats a token.
        bits_per_unit, bits_per_byte: on held-out utterances: of the evaluation or, without one, of the training.
        is_evaluated: whether the bits and accuracies are of an evaluation of these weights.
        asked: what accuracies are of: ``questions``, ``cloze``, or nothing.
        accuracy: by direction; of questions by the headline score, of cloze items by the mean a token.
        data: fingerprint of the data of the training.
        code: version of the package, and fingerprint of its files where that was recorded.
        weights_sha256: as the model's own record has it.
        problems: what is wrong with its files, one line each.
    """

    run: str
    name: str
    state: State
    strategy: str
    seed: int | None
    num_parameters: int | None
    steps: int | None
    max_steps: int | None
    tokens: int | None
    training_flops: float | None
    loss: float | None
    bits_per_unit: float | None
    bits_per_byte: float | None
    is_evaluated: bool
    asked: Literal["questions", "cloze", ""]
    accuracy: dict[str, float]
    data: str
    code: str
    weights_sha256: str
    problems: list[str]


class FolderProblem(TypedDict):
    """A folder that looks like a run's and holds no model, or cannot be read."""

    folder: str
    problem: str


class RunsFile(TypedDict):
    """What ``lst runs list`` finds below some folders."""

    version: Literal[1]
    folders: list[str]
    models: list[ModelLine]
    problems: list[FolderProblem]


class Difference(TypedDict):
    """A value that differs; None stands for absent."""

    key: str
    a: Any
    b: Any


class ModelDiff(TypedDict):
    """What differs between two models, by kind.

    Keys:
        a, b: their folders.
        num_same: values that are equal, by kind.
        settings: all that decides the weights beside the data.
        data: fingerprints, and what the data was made from where it lies in the run.
        code: versions of packages, and the machine.
        results: what training and evaluation found.
        problems: what could not be read.
    """

    a: str
    b: str
    num_same: dict[str, int]
    settings: list[Difference]
    data: list[Difference]
    code: list[Difference]
    results: list[Difference]
    problems: list[str]


class DiffFile(TypedDict):
    """What ``lst runs diff`` finds: a comparison a pair, and models that only one side has."""

    version: Literal[1]
    pairs: list[ModelDiff]
    only_a: list[str]
    only_b: list[str]
