"""``lst synthetic``: synthetic languages and ListOps. Stop it at any moment and run it again: it goes on.

::

    RUN/TASK/MODEL/seed-S/    config.yaml, settings.json, versions.json, metrics.jsonl, checkpoints/; result.json last
    RUN/report.html, .md      all tasks, models and seeds that have finished
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lst.configs.synthetic_schema import SyntheticConfig
from lst.errors import UserError, raise_problems
from lst.model.flops import model_flops, typical_workload
from lst.parallel import check_one_process
from lst.progress import duration_text, say, size_text
from lst.recipes.synthetic.batches import scored_batches, training_batches
from lst.recipes.synthetic.module import SyntheticModule, build_module, convolution_path, seconds_a_step
from lst.recipes.synthetic.report import RESULT_FILE, found_results, results_as_text, write_synthetic_report
from lst.recipes.synthetic.results import SyntheticResult, SyntheticSettings
from lst.recipes.synthetic.tasks import TaskData, build_task
from lst.recipes.training.callbacks import RunCallback
from lst.recipes.training.finite import NonFiniteError
from lst.recipes.training.folder import METRICS_FILE, TrainingFolder
from lst.recipes.training.trainer import TrainerOptions, fit
from lst.runs.formats import read_record, versioned
from lst.storage import read_jsonl, write_json
from lst.storage.locks import folder_lock

# The accuracy at which a task counts as learnt.
LEARNT = 0.99
BYTES_A_CHECKPOINT_PARAMETER, BYTES_A_METRICS_ROW = 12, 125


def synthetic(config: SyntheticConfig, overrides: Sequence[str]) -> str:
    """Trains the model with each seed that is not done, and writes the report of everything in the run.

    Returns:
        The results as text, with the report's path.

    Raises:
        UserError: a seed was begun with other settings, or trained for more steps than are asked for now.
    """
    check_one_process("lst synthetic")
    run = Path(config.run_dir)
    check_synthetic(config)
    for seed in config.seeds:
        folder = seed_folder(config, seed)
        if _is_done(config, folder):
            say(f"{config.task.name}, {config.label}, seed {seed} is trained: nothing to do ({folder})")
            continue
        with folder_lock(folder, work="trained", remedy="or train under another name=NAME or run_dir=FOLDER"):
            TrainingFolder(folder).begin(training_settings(config, seed), config)
            write_json(folder / RESULT_FILE, versioned(_train_seed(config, seed, folder, overrides)))
    report = write_synthetic_report(run)
    return f"{results_as_text(found_results(run))}\nreport: {report.resolve()}"


def check_synthetic(config: SyntheticConfig) -> None:
    """What the command and its plan refuse: a conflict of the last seed shows before the first is trained."""
    run = Path(config.run_dir)
    raise_problems(
        f"{run} holds other trainings under these names",
        _conflicts(config),
        f"Use the same settings, train under another name=NAME or run_dir=FOLDER, or delete {run / config.task.name}.",
    )


def seed_folder(config: SyntheticConfig, seed: int) -> Path:
    """Folder of the training with one seed."""
    return Path(config.run_dir) / config.task.name / config.label / f"seed-{seed}"


def training_settings(config: SyntheticConfig, seed: int) -> SyntheticSettings:
    """Everything that decides weights and metrics: a training goes on with equal settings only.

    Without the number of steps, unless the rate depends on it: a longer training then begins as a shorter one.
    """
    task, train = asdict(config.task), asdict(config.train)
    for unused in ("quick_steps", "quick_init_std", "published_steps"):
        task.pop(unused)
    for later in ("checkpoint_every",) if config.train.decay_share else ("max_steps", "checkpoint_every"):
        train.pop(later)
    return {
        "seed": seed,
        "convolution": config.convolution,
        "task": task,
        "model": config.model.recorded(),
        "train": train,
    }


def _conflicts(config: SyntheticConfig) -> list[str]:
    """A line for each difference between the trainings that were begun and what is asked for now."""
    found, steps = [], config.train.max_steps
    for seed in config.seeds:
        folder = TrainingFolder(seed_folder(config, seed))
        name, done = folder.path.name, folder.steps_done
        found += [f"{name}: {difference}" for difference in folder.conflicts(training_settings(config, seed))]
        if steps is not None and done > steps:
            found.append(f"{name}: trained for {done:,} steps already, train.max_steps={steps:,} now")
    return found


def _is_done(config: SyntheticConfig, folder: Path) -> bool:
    path = folder / RESULT_FILE
    if not path.exists():
        return False
    result = read_record(path, SyntheticResult, "the result of a training", f"Delete {folder} and train again.")
    return result["stopped_early"] or result["steps"] == config.train.max_steps


def _train_seed(config: SyntheticConfig, seed: int, path: Path, overrides: Sequence[str]) -> SyntheticResult:
    """Trains one seed, or goes on with it; returns its result."""
    description = f"{config.task.name}, {config.label}, seed {seed}"
    train, folder = config.train, TrainingFolder(path)
    assert train.max_steps is not None
    data = build_task(config.task, seed)
    module = build_module(config, data, seed)
    resume = folder.load_newest()
    first_step = resume.step if resume else 0
    if resume:
        module.on_load_checkpoint(resume.state)
        say(f"{description}: going on from step {first_step:,}")
    say(
        f"{description}: {module.model.num_parameters:,} parameters, {train.max_steps:,} steps of "
        f"{train.batch_sequences} × {data.num_tokens:,} tokens"
    )
    if not module.stopped_early:
        batches = training_batches(data, train.batch_sequences, seed, first_step)
        callback = RunCallback(path, train, first_step, description, validates_last=True)
        options = TrainerOptions(train.max_steps, train.eval_every, path)
        try:
            with convolution_path(config):
                fit(module, batches, scored_batches(data), options, callback, resume)
        except NonFiniteError as error:
            raise UserError(
                f"{description}: {error}. Lower train.learning_rate (it is {train.learning_rate:g}) under another "
                "name=NAME; the last checkpoint is kept"
            ) from None
    return _result(config, seed, data, module, path, overrides)


def _result(
    config: SyntheticConfig,
    seed: int,
    data: TaskData,
    module: SyntheticModule,
    folder: Path,
    overrides: Sequence[str],
) -> SyntheticResult:
    scores = [row for row in read_jsonl(folder / METRICS_FILE, dict[str, Any]) if "test_accuracy" in row]
    learnt = [row["step"] for row in scores if row["test_accuracy"] >= LEARNT]
    step_s = torch.tensor(module.step_s)
    return {
        "task": config.task.name,
        "model": config.label,
        "seed": seed,
        "steps": len(step_s),
        "stopped_early": module.stopped_early,
        "accuracy": scores[-1]["test_accuracy"],
        "test_loss": scores[-1]["test_loss"],
        "best_accuracy": max(row["test_accuracy"] for row in scores),
        "learnt_at_step": learnt[0] if learnt else None,
        "passes": len(step_s) * config.train.batch_sequences / len(data.train),
        "majority_accuracy": float((data.test.answers == np.bincount(data.train.answers).argmax()).mean()),
        "test_sequences": len(data.test),
        "num_tokens": data.num_tokens,
        "vocab_size": data.vocab_size,
        "settings": training_settings(config, seed),
        "parameters": module.model.num_parameters,
        "command": list(overrides),
        "timing": {
            "training_s": float(step_s.sum()),
            "median_step_s": float(step_s.median()),
            "threads": torch.get_num_threads(),
        },
    }


def plan(config: SyntheticConfig) -> list[str]:
    """What the command would do, for ``--dry-run``; a step's time is measured on a few that are thrown away."""
    train, steps = config.train, config.train.max_steps
    assert steps is not None
    check_one_process("lst synthetic")
    check_synthetic(config)
    data = build_task(config.task, config.seeds[0])
    num_to_do = sum(not _is_done(config, seed_folder(config, seed)) for seed in config.seeds)
    step_s = seconds_a_step(config, data)
    num_parameters = build_module(config, data, 0).model.num_parameters
    num_tokens = train.batch_sequences * data.num_tokens
    flops = model_flops(
        config.model, data.vocab_size, typical_workload(config.model, num_tokens, num_tokens, data.num_tokens)
    )
    disk = num_parameters * BYTES_A_CHECKPOINT_PARAMETER + steps * BYTES_A_METRICS_ROW
    return [
        f"task {config.task.name}: {len(data.train):,} training and {len(data.test):,} test sequences of "
        f"{data.num_tokens:,} tokens, vocabulary {data.vocab_size}; chance is {config.task.chance:.1%}",
        f"model {config.label}: {num_parameters:,} parameters",
        f"  {num_to_do} of {len(config.seeds)} seeds to train, {steps:,} steps of {train.batch_sequences} sequences "
        f"({num_tokens:,} tokens), {flops.training / 1e9:,.2f} GFLOP a step",
        f"  into {config.run_dir}; disk about {size_text(max(1, num_to_do) * disk)}; time about "
        f"{duration_text(num_to_do * steps * step_s)} ({1000 * step_s:,.1f} ms a step just now)",
    ]
