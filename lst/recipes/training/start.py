"""Where a training starts: at step 0, at its newest checkpoint, or at the one that an option names.

::

    settings.json ─┐                       equal settings               the newest good checkpoint
    settings now  ─┼─ plan_start ─▶ Start  others, no checkpoint yet    begun anew
    resume_from   ─┤                       others, and resume_from      that checkpoint; rates may change
    branch_from   ─┘                       others, and branch_from      that checkpoint; the length may change

``settings.json`` keeps what the training was begun with. What changed later is added to its list ``resumed``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lst.configs.schema import TrainConfig
from lst.errors import UserError, raise_problems
from lst.parallel import ALONE, Ranks
from lst.progress import say
from lst.recipes.training.branch import BRANCH_OPTIONS, branch_problems
from lst.recipes.training.checkpoints import (
    Checkpoint,
    checkpoint_folder,
    complete_checkpoints,
    read_checkpoint,
    remove_checkpoint,
    step_of,
)
from lst.recipes.training.folder import METRICS_FILE, TrainingFolder
from lst.runs.fitted_patching import SPEECH_BPE_FILE, UNIT_MODEL_FOLDER
from lst.runs.formats import BegunSettings, Machine, Resumption, TrainingSettings
from lst.storage import (
    copy_folder,
    expanded,
    fingerprint,
    flat_settings,
    read_bytes,
    remove,
    remove_folder,
    write_bytes,
)

# Options of training that decide no weights.
FREE_OPTIONS = (
    "eval_every",
    "eval_utterances",
    "eval_items",
    "sample_every",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_at",
    "verify_checkpoints",
    "on_nonfinite",
    "max_skipped_updates",
    "resume_from",
    "branch_from",
    "accelerator",
    "compile",
    "compile_by",
    "devices",
    "num_nodes",
    "strategy",
    "reshard",
    "preempt_s",
    "read_every",
    "watch_every",
    "logger",
    "recompute_every",
)
# Settings that may change from a checkpoint on, which ``train.resume_from`` names.
RATE_OPTIONS = (
    "train.learning_rate",
    "train.warmup_steps",
    "train.warmup_share",
    "train.schedule",
    "train.decay_share",
    "train.final_rate_share",
    "train.beta1",
    "train.beta2",
    "train.weight_decay",
    "train.clip_norm",
    "train.skip_batches",
    "loss.speech_weight",
    "loss.text_weight",
    "loss.z_weight",
)
_HISTORY = ("machine", "resumed")


@dataclass
class Start:
    """Where a training starts.

    Attributes:
        folder: of the training.
        record: the content of ``settings.json`` from now on.
        named: the checkpoint that ``train.resume_from`` or ``train.branch_from`` names and that was not resumed before;
            else None.
        cleared: files of the folder that were made with other settings.
        checkpoint: the one to go on from, once ``load`` has read it; None at step 0.
    """

    folder: TrainingFolder
    record: TrainingSettings
    named: Path | None = None
    cleared: list[Path] = field(default_factory=list)
    checkpoint: Checkpoint | None = None

    @property
    def step(self) -> int:
        """Steps done before it."""
        return self.checkpoint.step if self.checkpoint else 0

    @property
    def fingerprint(self) -> str:
        """Of the settings that the training was begun with: the state of its batches belongs to them."""
        return fingerprint(_begun(self.record))

    @property
    def saved_rates(self) -> tuple[float, float]:
        """Peak learning rate and weight decay that the checkpoint was written with."""
        then = _settings_at(self.record, self.step)
        return then["train.learning_rate"], then["train.weight_decay"]

    def load(self, verify: bool, ranks: Ranks = ALONE, reshard: bool = False) -> None:
        """Reads the checkpoint; ``UserError`` where there is none that is good. Every rank does so."""
        if self.named is None:
            self.checkpoint = self.folder.load_newest(verify, ranks, reshard)
            return
        with ranks.together():
            self.checkpoint = read_checkpoint(self.named, verify, ranks, reshard)

    def note_machine(self, machine: Machine, name: str) -> None:
        """Records what the training runs on. Says where sums, and so the last bits of the weights, change by it."""
        now: dict[str, Any] = {**machine}
        before: dict[str, Any] = {**self.record.get("machine", {"compile": self.record["train"]["compile"]})}
        # Records of one process do not say that it was one.
        alone = {"num_processes": 1, "strategy": None}
        before, now = alone | before, alone | now
        changed = [key for key in before if before[key] != now.get(key)]
        if changed and self.checkpoint is not None:
            say(
                f"{name}: {', '.join(f'{key} {before[key]}' for key in changed)} before, "
                f"{', '.join(f'{key} {now.get(key)}' for key in changed)} now: from step {self.step} on, the weights "
                "are no longer bit for bit those of an uninterrupted training"
            )
            entry = _resumption(self.step, None, {f"machine.{key}": now.get(key) for key in changed})
            self.record["resumed"] = [*self.record.get("resumed", []), entry]
        self.record["machine"] = machine

    def commit(self) -> None:
        """Makes the checkpoint the newest one of the folder. The settings are written after this.

        Of several ranks, the first one does this.
        """
        for path in self.cleared:
            remove_folder(path) if path.is_dir() else remove(path)
        if self.named is None:
            return
        assert self.checkpoint is not None
        source = self.named.parent.parent
        own = checkpoint_folder(self.folder.checkpoints, self.step)
        if source != self.folder.path.resolve():
            _adopt(source, self.folder.path)
            copy_folder(self.named, own)
        self.checkpoint.path = own
        for path in complete_checkpoints(self.folder.checkpoints):
            if step_of(path) > self.step:
                remove_checkpoint(path)


def plan_start(
    folder: TrainingFolder, settings: BegunSettings, resume_from: str | None, branch_from: str | None = None
) -> Start:
    """Compares settings with those that the training was begun with; reads no checkpoint yet.

    Args:
        folder: of the training.
        settings: everything that decides the weights.
        resume_from: a step, the folder of a checkpoint, or None.
        branch_from: the folder of another training's checkpoint, or None.

    Raises:
        UserError: settings differ that may not, or there is no such checkpoint.
    """
    record = folder.record(TrainingSettings)
    changed = {} if record is None else _changed(record, settings)
    chosen = resume_from or branch_from
    if chosen is not None and (record is None or changed or _last_named(record) != chosen):
        return _plan_named(folder, settings, chosen, is_branch=resume_from is None)
    steps = [step_of(path) for path in complete_checkpoints(folder.checkpoints)]
    if record is None or not changed:
        return Start(folder, _unchanged(settings) if record is None else record)
    if not steps and not (folder.path / "final").exists():
        say(f"{folder.path} was begun with other settings and holds no checkpoint yet: it is begun anew")
        fitted_by = {"data", "seed", "patching"}
        is_fitted_anew = any(key.partition(".")[0] in fitted_by for key in changed)
        fitted = [folder.path / UNIT_MODEL_FOLDER, folder.path / SPEECH_BPE_FILE]
        return Start(folder, _unchanged(settings), cleared=fitted if is_fitted_anew else [])
    remedy = f"Use the same settings, train under another name=NAME, or delete {folder.path}."
    if changed.keys() & set(RATE_OPTIONS):
        remedy += (
            f" {', '.join(sorted(changed.keys() & set(RATE_OPTIONS)))} may change from a checkpoint on: add "
            f"train.resume_from=STEP (there are {', '.join(map(str, steps))})."
        )
    raise_problems(f"{folder.path} was begun with other settings", _lines(changed), remedy)
    raise AssertionError


def _plan_named(folder: TrainingFolder, settings: BegunSettings, chosen: str, is_branch: bool) -> Start:
    """Starts from the checkpoint that ``train.resume_from`` or ``train.branch_from`` chooses."""
    word = f"train.{'branch' if is_branch else 'resume'}_from={chosen}"
    is_step = chosen.isdecimal() and not is_branch
    named = (checkpoint_folder(folder.checkpoints, int(chosen)) if is_step else Path(expanded(chosen))).resolve()
    source = TrainingFolder(named.parent.parent)
    is_other = source.path != folder.path.resolve()
    if named not in complete_checkpoints(source.checkpoints) or (is_branch and not is_other):
        raise UserError(_no_checkpoint(word, named, source if is_branch else folder))
    record = source.record(TrainingSettings)
    if record is None:
        raise UserError(f"{word}: {source.path} lacks settings.json, which belongs to it")
    if is_other and folder.record(TrainingSettings) is not None and complete_checkpoints(folder.checkpoints):
        raise UserError(f"{word}: {folder.path} has checkpoints of its own; train under another name=NAME")
    # What changed after that step belongs to another continuation.
    step = step_of(named)
    record["resumed"] = [entry for entry in record.get("resumed", []) if entry["step"] < step]
    changed = _changed(record, settings)
    allowed = BRANCH_OPTIONS if is_branch else RATE_OPTIONS
    problems = branch_problems(step, _settings_at(record), flat_settings({**settings})) if is_branch else []
    raise_problems(
        f"no training can branch off {named}" if is_branch else f"{named} was trained with other settings",
        problems + _lines({key: values for key, values in changed.items() if key not in allowed}),
        f"From a checkpoint on, only these may change: {', '.join(allowed)}.",
    )
    now = {key: values[1] for key, values in changed.items()}
    record["resumed"].append(_resumption(step, chosen, now))
    return Start(folder, record, named)


def _no_checkpoint(word: str, named: Path, training: TrainingFolder) -> str:
    """What is wrong with a checkpoint's name, and which checkpoints the training has that was meant."""
    steps = ", ".join(str(step_of(path)) for path in complete_checkpoints(training.checkpoints)) or "(none)"
    return (
        f"{word}: {named} is no complete checkpoint; {training.path} has those of steps {steps}. Give one of them, or "
        "the path of a checkpoint of another training"
    )


def machine_now(options: TrainConfig, device: str) -> Machine:
    """What sums depend on, apart from the settings; ``device`` is the one that the trainer has found."""
    found: Machine = {"accelerator": device, "compile": options.compile, "num_threads": torch.get_num_threads()}
    if options.num_processes > 1:
        found["num_processes"] = options.num_processes
        found["strategy"] = "ddp" if options.strategy == "auto" else options.strategy
    return found


def _unchanged(settings: BegunSettings) -> TrainingSettings:
    return {**settings}


def _begun(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in _HISTORY}


def _resumption(step: int, resume_from: str | None, changed: dict[str, Any]) -> Resumption:
    return {"step": step, "resume_from": resume_from, "changed": changed}


def _last_named(record: Mapping[str, Any]) -> str | None:
    named = [entry["resume_from"] for entry in record.get("resumed", []) if entry["resume_from"] is not None]
    return named[-1] if named else None


def _settings_at(record: Mapping[str, Any], step: int | None = None) -> dict[str, Any]:
    """The settings that held up to a step, by dotted key; without a step, those that hold last."""
    settings = flat_settings(_begun(record))
    for entry in record.get("resumed", []):
        if step is None or entry["step"] < step:
            settings |= entry["changed"]
    return settings


def _changed(record: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by dotted key: the value that held last, and the one now."""
    then, now = _settings_at(record), flat_settings(settings)
    free = {f"train.{name}" for name in FREE_OPTIONS}
    keys = {key for key in {*then, *now} if key not in free and not key.startswith("machine.")}
    return {key: (then.get(key), now.get(key)) for key in sorted(keys) if then.get(key) != now.get(key)}


def _lines(changed: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [f"{key}: {then!r} then, {now!r} now" for key, (then, now) in changed.items()]


def _adopt(source: Path, folder: Path) -> None:
    """Copies what belongs to a checkpoint of another training: the metrics before it, and what patching fitted."""
    for name in (METRICS_FILE, SPEECH_BPE_FILE):
        if (source / name).exists():
            write_bytes(folder / name, read_bytes(source / name))
    if (source / UNIT_MODEL_FOLDER).exists():
        copy_folder(source / UNIT_MODEL_FOLDER, folder / UNIT_MODEL_FOLDER)
