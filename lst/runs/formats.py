"""Formats of the JSON files of a run, one TypedDict each, and their reader.

Every format has a version: ``versioned`` adds the key ``version`` to a file, ``read_record`` checks it as
``lst.storage.typed`` does and leaves it out. A file without the key has version 1. JSON-lines files and
``versions.json`` have no such key: ``settings.json`` gives the version of its neighbours ``metrics.jsonl`` and
``versions.json``, ``eval/NAME.json`` that of ``eval/NAME.items.jsonl``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict, TypeVar

from lst.errors import UserError
from lst.storage import Between, Count, Location, read_json, read_jsonl
from lst.storage.typed import FormatError, checked

FORMAT_VERSION: Literal[1] = 1

# A section of the configuration: its options by name.
Options = dict[str, Any]
Format = TypeVar("Format")


class _Together(TypedDict, total=False):
    num_processes: Count
    strategy: str


class Machine(_Together):
    """What a training runs on. Sums, and so the last bits of the weights, depend on it.

    Keys:
        num_processes, strategy: of several devices; absent for one.
    """

    accelerator: str
    compile: bool
    num_threads: int


class Resumption(TypedDict):
    """A change of settings during a training.

    Keys:
        step: the change holds after this step.
        resume_from: what ``train.resume_from`` named, a step or a path; None for a change of the machine.
        changed: the new values by dotted key.
    """

    step: int
    resume_from: str | None
    changed: Options


class _WeightedSources(TypedDict, total=False):
    sources: Options


class BegunSettings(_WeightedSources):
    """Everything that decides the weights, as a training was begun. It resumes with equal settings only.

    Keys:
        data: fingerprint of the prepared data.
        sources: weights and limits of sources, where there are any.
        train: without the options that may change on resuming (how often to evaluate and to save).
    """

    data: str
    seed: int
    interleave: Options
    mix: Options
    pack_buffer: int
    num_streams: int
    shuffle_shards: int
    patching: Options
    model: Options
    loss: Options
    train: Options


class SpentRecord(TypedDict):
    """What a training uses: steps, real patches and tokens, and operations of forward and backward passes."""

    steps: Count
    patches: Count
    tokens: Count
    flops: float


class ControlRecord(TypedDict):
    """``control.json``: what the arms of a quickstart use, of which ``control`` is equal.

    Keys:
        made_from: fingerprint of the data and of the configurations.
        control: compute, data or flops.
        spent: by arm.
    """

    made_from: str
    control: str
    spent: dict[str, SpentRecord]


class _GradientNorm(TypedDict, total=False):
    gradient_norm: float | None


class TrainingSettings(BegunSettings, total=False):
    """``models/NAME/settings.json``: the settings at the beginning, and what has changed since.

    Keys:
        machine: what the training runs on now; absent in files of earlier releases.
        resumed: changes since it was begun, in order.
    """

    machine: Machine
    resumed: list[Resumption]


class StepRow(_GradientNorm):
    """A row of ``metrics.jsonl`` after an optimiser step.

    Keys:
        step: from 1.
        loss: of the step's batch, in nats a target.
        gradient_norm: before clipping; absent in rows of version 0.1 of the package, None if it is not finite.

    Where ``train.on_nonfinite=skip`` left the update out, ``skipped_batch``, the number of the batch, stands in place
    of ``loss``.
    """

    step: Count
    loss: float
    learning_rate: float


class _ModalityLosses(TypedDict, total=False):
    speech_loss: float | None
    text_loss: float | None


class _SourceLosses(TypedDict, total=False):
    source_losses: dict[str, float | None]
    source_targets: dict[str, Count]


class LanguageModelRow(StepRow, _ModalityLosses, _SourceLosses):
    """``StepRow`` of ``lst train``. Counts are sums since step 1.

    Keys:
        slots: patches that batches have room for; ``packing_waste`` is the empty share of them.
        cut_documents: documents that were cut to fit a row.
        training_flops: of forward and backward passes.
        speech_loss, text_loss: of the step's batch, in nats a target that is speech or text, without weights; None
            where it has no such target. Absent in earlier rows.
        source_losses, source_targets: the same by source of the data, and of how many targets it is the mean; absent
            where there is one source.
    """

    tokens: Count
    patches: Count
    slots: Count
    packing_waste: float
    speech_tokens: Count
    cut_documents: Count
    training_flops: Annotated[float, Between(0)]


class _HeldOutBits(TypedDict, total=False):
    valid_bits_per_unit: float
    valid_bits_per_byte: float


class ClozeAccuracies(TypedDict, total=False):
    """Shares of a few held-out cloze items whose true ending is likelier, by modality of context and ending."""

    valid_cloze_s_to_s: float
    valid_cloze_t_to_t: float
    valid_cloze_s_to_t: float
    valid_cloze_t_to_s: float


class _SourceBits(TypedDict, total=False):
    valid_bits_per_unit_by_source: dict[str, float]
    valid_bits_per_byte_by_source: dict[str, float]


class ValidationRow(_HeldOutBits, ClozeAccuracies, _SourceBits):
    """A row of ``metrics.jsonl`` after an evaluation on held-out utterances; bits of what they have, speech or text.

    The accuracies are there with ``train.eval_items``, the bits by source where the data has several.
    """

    step: Count


def read_metrics(place: Location) -> tuple[list[LanguageModelRow], list[ValidationRow]]:
    """The rows of a model's ``metrics.jsonl``, of steps and of validations; none where the file is absent.

    Raises:
        FormatError: a row is damaged; its line is named.
    """
    kind: Any = LanguageModelRow | ValidationRow
    rows = read_jsonl(place, kind)
    return [row for row in rows if "loss" in row], [row for row in rows if "loss" not in row]


class Versioned(TypedDict):
    """What every JSON file of a run begins with."""

    version: Literal[1]


def read_record(place: Location, kind: type[Format], what: str, remedy: str) -> Format:
    """Reads a JSON file of a run as the TypedDict ``kind``; the key ``version`` is left out.

    Args:
        place: the file.
        kind: its format.
        what: what the file is, for errors.
        remedy: what to do if it cannot be read, for errors.

    Raises:
        UserError: the file is absent, damaged, or of another version of the format.
    """
    found: dict[str, Any] = {**read_json(place, Versioned, what, remedy)}
    found.pop("version", None)
    try:
        return checked(found, kind)
    except FormatError as error:
        raise UserError(f"{what} is damaged: {place} {error}. {remedy}") from None


def versioned(record: Any) -> dict[str, Any]:
    """A record as it is written: with the version of its format first."""
    return {"version": FORMAT_VERSION, **record}
