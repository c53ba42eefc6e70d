"""One training of the synthetic tasks: a loop over packed batches that can be stopped at any moment.

Each step is a function of the weights, the seed and its own number: order and dropout are drawn anew from those, so a
training resumed from a checkpoint ends with the same weights, bit for bit, as one that was never stopped.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lst.configs.synthetic_schema import SyntheticConfig, SyntheticTrainConfig
from lst.errors import UserError
from lst.model.batch import TEXT, Document, PackedBatch, pack_documents
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import parameter_groups
from lst.model.patching import unpatched
from lst.progress import Progress
from lst.recipes.synthetic.tasks import Split, TaskData
from lst.recipes.training.checkpoints import SafeCheckpointIO, checkpoint_folder, complete_checkpoints
from lst.storage import read_jsonl, write_jsonl

# Draws of their own, so that order, dropout and sequences of one seed are not correlated.
_ORDER_STREAM, _DROPOUT_STREAM = 0x0DE, 0xD20
METRICS_FILE = "metrics.jsonl"
# Tokens of an evaluation's batch at most; it keeps no activations, so more only cost memory.
EVAL_TOKENS = 16_384


class Batches:
    """Packed batches of sequences of one length: all but the ids is the same in each, so it is built once.

    Args:
        num_tokens: of every sequence.
        vocab_size: the ids lie below it.
    """

    def __init__(self, num_tokens: int, vocab_size: int) -> None:
        self.num_tokens, self.vocab_size = num_tokens, vocab_size
        self._templates: dict[int, PackedBatch] = {}

    def of(self, split: Split, rows: np.ndarray) -> PackedBatch:
        """The sequences of these rows [S], one a row of the batch."""
        batch = self._templates.get(len(rows)) or self._templates.setdefault(len(rows), self._template(len(rows)))
        return replace(
            batch,
            token_ids=torch.from_numpy(split.token_ids[rows].reshape(-1)),
            target_ids=torch.from_numpy(split.target_ids[rows].reshape(-1)),
        )

    def _template(self, num_sequences: int) -> PackedBatch:
        document = Document(
            "", np.zeros(self.num_tokens, np.int64), np.full(self.num_tokens, TEXT, np.uint8), final_target_id=0
        )
        row = [(document, unpatched(self.num_tokens))]
        # The greatest id that any of the batches may hold.
        return replace(pack_documents([row] * num_sequences, self.num_tokens), max_id=self.vocab_size - 1)


def rows_of_step(step: int, batch_size: int, num_sequences: int, seed: int) -> np.ndarray:
    """int64 [batch_size]: the sequences of a step (from 0), which goes through all of them in a new order each pass.

    A batch may hold the end of a pass and the start of the next, so that every batch is full.
    """
    places = step * batch_size + np.arange(batch_size)
    passes, within = np.divmod(places, num_sequences)
    orders = {
        number: np.random.default_rng([_ORDER_STREAM, seed, number]).permutation(num_sequences)
        for number in np.unique(passes).tolist()
    }
    return np.array([orders[number][place] for number, place in zip(passes.tolist(), within.tolist(), strict=True)])


def seed_of_step(seed: int, step: int) -> int:
    """What torch's generator is seeded with before a step."""
    return int(np.random.SeedSequence([_DROPOUT_STREAM, seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def learning_rate_share(step: int, config: SyntheticTrainConfig) -> float:
    """Share of the rate at a step (from 0): a linear warm-up, constant after it, and at the end a linear decay."""
    assert config.max_steps is not None
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    decay_steps = config.decay_share * config.max_steps
    return warm * (min(1.0, (config.max_steps - step) / decay_steps) if decay_steps else 1.0)


@torch.no_grad()
def evaluate_split(model: LatentSpeechTextModel, split: Split, batches: Batches) -> dict[str, float]:
    """Accuracy of the answers, and their mean cross-entropy in nats, without dropout."""
    size = max(1, EVAL_TOKENS // batches.num_tokens)
    num_right, nats = 0, 0.0
    was_training = model.training
    model.eval()
    for start in range(0, len(split), size):
        rows = np.arange(start, min(start + size, len(split)))
        hidden_ND = model.hidden(batches.of(split, rows))
        places = torch.from_numpy(np.arange(len(rows)) * batches.num_tokens + split.answer_positions[rows])
        logits_SV = model.head(hidden_ND[places]).float()
        answers_S = torch.from_numpy(split.answers[rows])
        num_right += int((logits_SV.argmax(dim=-1) == answers_S).sum())
        nats += float(torch.nn.functional.cross_entropy(logits_SV, answers_S, reduction="sum"))
    model.train(was_training)
    return {"test_accuracy": num_right / len(split), "test_loss": nats / len(split)}


@dataclass
class Outcome:
    """How a training ended.

    Attributes:
        step: steps taken.
        stopped_early: ``train.stop_at`` was reached.
        step_s: float32 [step], the seconds of each step.
    """

    step: int
    stopped_early: bool
    step_s: torch.Tensor


class Training:
    """A training's model, optimiser and place, and the files that it leaves in ``folder``.

    Args:
        config: without problems.
        seed: the one to train with.
        data: the task's sequences.
        folder: where metrics and checkpoints are.
        description: for the progress bar.
    """

    def __init__(self, config: SyntheticConfig, seed: int, data: TaskData, folder: Path, description: str) -> None:
        self.options, self.seed, self.data = config.train, seed, data
        self.metrics_path, self.checkpoints = folder / METRICS_FILE, folder / "checkpoints"
        self.description = description
        self.model = build_model(config, data, seed)
        groups = parameter_groups(self.model, self.options.learning_rate, self.options.weight_decay)
        self.optimiser = torch.optim.AdamW(
            [{**group, "peak_lr": group["lr"]} for group in groups],
            lr=self.options.learning_rate,
            betas=(self.options.beta1, self.options.beta2),
            fused=True,
        )
        self.batches = Batches(data.num_tokens, data.vocab_size)
        self.step = 0
        self.stopped_early = False
        self.step_s: list[float] = []

    def restore(self) -> None:
        """Goes to the newest whole checkpoint, if there is one, and forgets the metrics after it."""
        found = complete_checkpoints(self.checkpoints)
        if found:
            saved = SafeCheckpointIO().load_checkpoint(found[-1])
            self.model.load_state_dict(saved["model"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.step, self.stopped_early = saved["step"], saved["stopped_early"]
            self.step_s = saved["step_s"].tolist()
        rows = [row for row in read_jsonl(self.metrics_path, dict[str, Any]) if row["step"] <= self.step]
        # A shorter training ended with an accuracy that a longer one does not take.
        write_jsonl(self.metrics_path, [row for row in rows if "loss" in row or self._evaluates_at(row["step"])])

    def _evaluates_at(self, step: int) -> bool:
        return step % self.options.eval_every == 0 or step == self.options.max_steps

    def run(self) -> Outcome:
        """Trains to the last step, or to the accuracy that ends it early.

        Raises:
            UserError: the loss is no number.
        """
        last = self.options.max_steps
        assert last is not None
        self.model.train()
        with (
            open(self.metrics_path, "a", encoding="utf-8") as metrics,
            Progress(last, self.description, "step", initial=self.step) as progress,
        ):
            while self.step < last and not self.stopped_early:
                row = self._take_step()
                metrics.write(json.dumps(row) + "\n")
                if self._evaluates_at(self.step):
                    scores = evaluate_split(self.model, self.data.test, self.batches)
                    metrics.write(json.dumps({"step": self.step, **scores}) + "\n")
                    progress.note = f"test accuracy {scores['test_accuracy']:.1%}"
                    self.stopped_early = bool(self.options.stop_at and scores["test_accuracy"] >= self.options.stop_at)
                if self.step % self.options.checkpoint_every == 0 or self.step == last or self.stopped_early:
                    # Before the checkpoint: what it has passed is not written again.
                    metrics.flush()
                    os.fsync(metrics.fileno())
                    self._save()
                progress.advance()
        return Outcome(self.step, self.stopped_early, torch.tensor(self.step_s))

    def _take_step(self) -> dict[str, float]:
        """One step; returns its row of the metrics."""
        started_s = time.perf_counter()
        share = learning_rate_share(self.step, self.options)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak_lr"] * share
        rows = rows_of_step(self.step, self.options.batch_sequences, len(self.data.train), self.seed)
        torch.manual_seed(seed_of_step(self.seed, self.step))
        self.optimiser.zero_grad()
        loss = self.model.loss(self.batches.of(self.data.train, rows))
        loss.backward()
        self.optimiser.step()
        value = float(loss.detach())
        self.step += 1
        if not math.isfinite(value):
            raise UserError(
                f"the training loss is {value} at step {self.step}: lower train.learning_rate (it is "
                f"{self.options.learning_rate}) or raise train.warmup_steps; the last checkpoint is kept"
            )
        self.step_s.append(time.perf_counter() - started_s)
        return {"step": self.step, "loss": value, "learning_rate": self.options.learning_rate * share}

    def _save(self) -> None:
        saved = {
            "step": self.step,
            "stopped_early": self.stopped_early,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step_s": torch.tensor(self.step_s),
        }
        io = SafeCheckpointIO()
        io.save_checkpoint(saved, checkpoint_folder(self.checkpoints, self.step))
        for old in complete_checkpoints(self.checkpoints)[:-1]:
            io.remove_checkpoint(old)


def build_model(config: SyntheticConfig, data: TaskData, seed: int) -> LatentSpeechTextModel:
    """The model of a task: its context, and so a table of positions, is as long as the sequences."""
    return LatentSpeechTextModel(replace(config.model, max_patches=data.num_tokens), data.vocab_size, seed)


@contextlib.contextmanager
def reproducible() -> Iterator[None]:
    """Sums are taken in one order while this lasts; torch's settings and generator are put back afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    state = torch.get_rng_state()
    torch.use_deterministic_algorithms(True)
    # Determinism is of sums; that fresh memory is filled before it is written would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.set_rng_state(state)


@contextlib.contextmanager
def convolution_path(config: SyntheticConfig) -> Iterator[None]:
    """Lets state-space models convolve as ``convolution=`` asks."""
    if config.convolution != "plain":
        yield
        return
    from lst.kernels.ssm import forced_path

    with forced_path("convolution"):
        yield


def seconds_a_step(config: SyntheticConfig, data: TaskData, repeats: int = 2) -> float:
    """The shortest of some real steps, after one that is not counted; nothing is written."""
    with reproducible(), convolution_path(config):
        training = Training(config, 0, data, Path(), "")
        training.model.train()
        for _ in range(1 + repeats):
            training._take_step()
    return min(training.step_s[1:])


def steps_of(rows: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> int | None:
    """The first step whose row is as wanted, or None."""
    return next((row["step"] for row in rows if wanted(row)), None)
