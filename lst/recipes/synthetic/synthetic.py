"""Synthetic languages and ListOps: what ``lst synthetic`` runs. Stopped at any moment and run again, it goes on.

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

from lst.configs.compose import to_yaml
from lst.configs.synthetic_schema import SyntheticConfig
from lst.errors import UserError, raise_problems
from lst.model.flops import model_flops, typical_workload
from lst.parallel import keep_freed_memory
from lst.progress import say
from lst.recipes.synthetic.report import RESULT_FILE, found_results, results_as_text, write_synthetic_report
from lst.recipes.synthetic.tasks import TaskData, build_task
from lst.recipes.synthetic.training import (
    METRICS_FILE,
    Outcome,
    Training,
    convolution_path,
    reproducible,
    seconds_a_step,
    steps_of,
)
from lst.recipes.training.checkpoints import complete_checkpoints
from lst.runs.folder import versions
from lst.storage import differing_settings, read_json, read_jsonl, write_json, write_text

# The accuracy at which a task counts as learnt, for the steps that the report states.
LEARNT = 0.99
BYTES_A_CHECKPOINT_PARAMETER, BYTES_A_METRICS_ROW = 12, 90


def synthetic(config: SyntheticConfig, overrides: Sequence[str]) -> str:
    """Trains the model with each seed, skipping what is done, and writes the report of everything in the run.

    Returns:
        The results as text, with the report's path.

    Raises:
        UserError: a seed was begun with other settings, or trained for more steps than are asked for now.
    """
    run = Path(config.run_dir)
    folders = {seed: seed_folder(config, seed) for seed in config.seeds}
    settings = {seed: training_settings(config, seed) for seed in config.seeds}
    # All seeds first, so that a conflict of the last one shows before the first is trained.
    problems = [problem for seed in config.seeds for problem in _conflicts(config, folders[seed], settings[seed])]
    raise_problems(
        f"{run} holds other trainings under these names",
        problems,
        f"Use the same settings, train under another name=NAME or run_dir=FOLDER, or delete {run / config.task.name}.",
    )
    keep_freed_memory()
    for seed, folder in folders.items():
        if _is_done(config, folder):
            say(f"{config.task.name}, {config.label}, seed {seed} is trained: nothing to do ({folder})")
            continue
        write_json(folder / "settings.json", settings[seed])
        write_text(folder / "config.yaml", to_yaml(config))
        write_json(folder / "versions.json", versions())
        write_json(folder / RESULT_FILE, _train_seed(config, seed, folder, overrides))
    report = write_synthetic_report(run)
    return f"{results_as_text(found_results(run))}\nreport: {report.resolve()}"


def seed_folder(config: SyntheticConfig, seed: int) -> Path:
    """Where a training of one seed leaves its files."""
    return Path(config.run_dir) / config.task.name / config.label / f"seed-{seed}"


def training_settings(config: SyntheticConfig, seed: int) -> dict[str, Any]:
    """All that decides weights and metrics: a training goes on only with the same.

    Not the number of steps, unless the rate depends on it: a longer training then begins as a shorter one.
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
        "model": asdict(config.model),
        "train": train,
    }


def _conflicts(config: SyntheticConfig, folder: Path, settings: dict[str, Any]) -> list[str]:
    path = folder / "settings.json"
    if not path.exists():
        return []
    before = read_json(
        path, dict[str, Any], "the record of the training's settings", f"Delete {folder} and train again."
    )
    found = [f"{folder.name}: {difference}" for difference in differing_settings(before, settings)]
    done = _steps_done(folder)
    if config.train.max_steps is not None and done > config.train.max_steps:
        found.append(
            f"{folder.name}: trained for {done:,} steps already, train.max_steps={config.train.max_steps:,} now"
        )
    return found


def _steps_done(folder: Path) -> int:
    checkpoints = complete_checkpoints(folder / "checkpoints")
    return int(checkpoints[-1].name.rpartition("-")[2]) if checkpoints else 0


def _is_done(config: SyntheticConfig, folder: Path) -> bool:
    if not (folder / RESULT_FILE).exists():
        return False
    result = read_json(
        folder / RESULT_FILE, dict[str, Any], "the result of a training", f"Delete {folder} and train again."
    )
    return bool(result["stopped_early"] or result["steps"] == config.train.max_steps)


def _train_seed(config: SyntheticConfig, seed: int, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Trains one seed, or goes on with it; returns its result."""
    description = f"{config.task.name}, {config.label}, seed {seed}"
    data = build_task(config.task, seed)
    with reproducible(), convolution_path(config):
        training = Training(config, seed, data, folder, description)
        training.restore()
        if training.step:
            say(f"{description}: going on from step {training.step:,}")
        say(
            f"{description}: {training.model.num_parameters:,} parameters, {config.train.max_steps:,} steps of "
            f"{config.train.batch_sequences} × {data.num_tokens:,} tokens"
        )
        outcome = training.run()
    result = _result(config, seed, data, outcome, read_jsonl(folder / METRICS_FILE, dict[str, Any]))
    return {
        **result,
        "parameters": training.model.num_parameters,
        "command": list(overrides),
        "timing": _timing(outcome),
    }


def _result(
    config: SyntheticConfig, seed: int, data: TaskData, outcome: Outcome, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the report reads of a training, but its times."""
    scores = [row for row in rows if "test_accuracy" in row]
    commonest = np.bincount(data.train.answers).argmax()
    return {
        "task": config.task.name,
        "model": config.label,
        "seed": seed,
        "steps": outcome.step,
        "stopped_early": outcome.stopped_early,
        "accuracy": scores[-1]["test_accuracy"],
        "test_loss": scores[-1]["test_loss"],
        "best_accuracy": max(row["test_accuracy"] for row in scores),
        "learnt_at_step": steps_of(scores, lambda row: row["test_accuracy"] >= LEARNT),
        "passes": outcome.step * config.train.batch_sequences / len(data.train),
        "majority_accuracy": float((data.test.answers == commonest).mean()),
        "test_sequences": len(data.test),
        "num_tokens": data.num_tokens,
        "vocab_size": data.vocab_size,
        "settings": training_settings(config, seed),
    }


def _timing(outcome: Outcome) -> dict[str, Any]:
    """Seconds of the training steps, evaluations not counted; the median is what a step takes undisturbed."""
    return {
        "training_s": float(outcome.step_s.sum()),
        "median_step_s": float(outcome.step_s.median()),
        "threads": torch.get_num_threads(),
    }


def plan(config: SyntheticConfig) -> list[str]:
    """What the command would do, for ``--dry-run``; a step's time is measured on a few that are thrown away."""
    data = build_task(config.task, config.seeds[0])
    train, steps = config.train, config.train.max_steps
    assert steps is not None
    to_do = [seed for seed in config.seeds if not _is_done(config, seed_folder(config, seed))]
    conflicts = [
        line
        for seed in config.seeds
        for line in _conflicts(config, seed_folder(config, seed), training_settings(config, seed))
    ]
    if conflicts:
        raise UserError("; ".join(conflicts))
    with reproducible():
        step_s = seconds_a_step(config, data)
        num_parameters = Training(config, 0, data, Path(), "").model.num_parameters
    num_tokens = train.batch_sequences * data.num_tokens
    flops = model_flops(
        config.model, data.vocab_size, typical_workload(config.model, num_tokens, num_tokens, data.num_tokens)
    )
    disk = num_parameters * BYTES_A_CHECKPOINT_PARAMETER + steps * BYTES_A_METRICS_ROW
    return [
        f"task {config.task.name}: {len(data.train):,} training and {len(data.test):,} test sequences of "
        f"{data.num_tokens:,} tokens, vocabulary {data.vocab_size}; chance is {config.task.chance:.1%}",
        f"model {config.label}: {num_parameters:,} parameters",
        f"  {len(to_do)} of {len(config.seeds)} seeds to train, {steps:,} steps of {train.batch_sequences} sequences "
        f"({num_tokens:,} tokens), {flops.training / 1e9:,.2f} GFLOP a step",
        f"  into {config.run_dir}; disk about {max(1, len(to_do)) * disk / 1e6:,.1f} MB; time about "
        f"{len(to_do) * steps * step_s / 60:,.1f} minutes ({1000 * step_s:,.1f} ms a step just now)",
    ]
