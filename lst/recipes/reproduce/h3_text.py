"""``lst reproduce h3_text``: language models of text alone with equal parameters, tokens and schedule, on one page.

::

    out/stories.txt                the text, where text= names none
    out/run/                       a run: prepared text, models, and their perplexities
    out/run/models/sweep-MODEL-RATE    a quarter of the length: they choose the rate of each model
    out/run/models/MODEL-seed-SEED     the trainings that are compared
    out/logs/NAME.log              output of each training
    out/h3_text.json, h3_text.html the page, and its numbers; written last

Every second held-out text chooses the rates; all else is measured on the others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lst.configs.compose import MAIN
from lst.configs.reads import READS, reads_of
from lst.configs.reproduce_schema import ReproduceConfig
from lst.configs.schema import Config, name_problems
from lst.data.prepared import PreparedData
from lst.data.synthesis import generate_stories
from lst.errors import ProblemsError, raise_problems
from lst.evaluation.perplexity import TextRow, read_text_result
from lst.parallel.commands import ChildCommand, jobs_and_threads, run_commands
from lst.progress import say
from lst.recipes.evaluate_text import score_models
from lst.recipes.prepare import prepare_plan, prepare_run
from lst.recipes.reproduce.formats import H3TextFile, SweepRecord, TextModelRecord
from lst.recipes.reproduce.grids import data_folder, raise_failures
from lst.recipes.reproduce.h3_text_page import summary, write_h3_text_page
from lst.recipes.reproduce.text_pairs import PUBLISHED, TextGroup, pairs_of
from lst.recipes.training.cluster_plan import peak_flops
from lst.recipes.training.plan import train_plan
from lst.recipes.training.train import train
from lst.runs import RunFolder, is_trained
from lst.runs.formats import TrainingSettings, read_metrics, read_record
from lst.storage import exists, read_jsonl, write_json, write_text

H3_TEXT_FILE = "h3_text.json"


@dataclass(frozen=True)
class Training:
    """One training of the plan.

    Attributes:
        model: its name in the plan.
        rate: its learning rate.
        config: of ``lst train``, from ``words``.
    """

    model: str
    rate: float
    config: Config
    words: list[str]

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.config.name

    @property
    def is_finished(self) -> bool:
        """Whether its model is there."""
        return is_trained(RunFolder.of(self.config).final(self.name))

    @property
    def is_scored(self) -> bool:
        """Whether its perplexities are there, too."""
        return self.is_finished and RunFolder.of(self.config).eval_text(self.name).exists()


@dataclass
class _Work:
    """What is done in one call: how children run, and which trainings have failed, a line each."""

    config: ReproduceConfig
    failed: dict[str, str] = field(default_factory=dict)
    started_s: float = field(default_factory=time.monotonic)

    def is_early(self, _: Any = None) -> bool:
        """Whether another training may begin."""
        hours = self.config.hours
        return hours is None or time.monotonic() - self.started_s < 3600 * hours

    def train(self, trainings: Sequence[Training]) -> None:
        """Trains what is not finished, a child process a training, and scores what is."""
        config = self.config
        to_do = [] if config.page_only else [one for one in trainings if not one.is_finished]
        if config.jobs == 0:
            for one in filter(self.is_early, to_do):
                train(one.config)
        else:
            jobs, threads = jobs_and_threads(config.jobs, config.threads)
            commands = [
                ChildCommand(
                    one.name,
                    (sys.executable, "-m", "lst", "train", *one.words),
                    Path(config.out) / "logs" / f"{one.name}.log",
                )
                for one in to_do
            ]
            for done in run_commands(commands, jobs, threads, self.is_early):
                if done.exit_code != 0:
                    name = done.command.label
                    told = f"{name}: exit status {done.exit_code}: {done.last_line}; its output: {done.command.log}"
                    self.failed[name] = told
        if names := [one.name for one in trainings if one.is_finished]:
            _, failed = score_models(run_config(config), names)
            self.failed |= {line.partition(":")[0]: line for line in failed}


def h3_text(config: ReproduceConfig) -> str:
    """Trains what is not trained, and writes the page of what there is; returns a summary.

    Raises:
        UserError: the plan is wrong, or trainings have failed; the page has all others.
    """
    check_plan(config)
    if not config.page_only:
        prepare_run(_prepare_config(config))
    data = PreparedData(data_folder(config) / "data")
    work = _Work(config)
    sweep = list(sweep_trainings(config))
    work.train(sweep)
    rates = {name: rate for name in config.h3_text.models if (rate := chosen_rate(name, sweep, work)) is not None}
    # Those of an earlier call are shown, too, where a rate of the sweep has failed then.
    names = {model: rates.get(model, config.h3_text.rates[0]) for model in config.h3_text.models}
    finals = list(final_trainings(config, names))
    work.train([one for one in finals if one.model in rates])
    found = _found(config, data, sweep, finals)
    out = Path(config.out)
    write_h3_text_page(out, found)
    write_json(out / H3_TEXT_FILE, found)
    raise_failures(list(work.failed.values()))
    return summary(found, out / H3_TEXT_FILE)


def h3_text_plan(config: ReproduceConfig) -> list[str]:
    """The plan of ``lst reproduce h3_text``, as lines of text."""
    check_plan(config)
    if config.text is None and not exists(_stories_file(config)):
        lines = [f"prepare: {config.h3_text.num_stories:,} stories of this project in {_stories_file(config)}"]
    else:
        lines = prepare_plan(_prepare_config(config))
    plan = config.h3_text
    num_sweep, num_finals = len(plan.models) * len(plan.rates), len(plan.models) * len(plan.seeds)
    lines.append(f"{num_sweep} short trainings choose the rates, {num_finals} are compared; of each model's:")
    peak = peak_flops()
    for one in final_trainings(config, dict.fromkeys(plan.models, plan.rates[0])):
        if one.config.seed == plan.seeds[0]:
            lines += train_plan(one.config, peak)
    return lines


def check_plan(config: ReproduceConfig) -> None:
    """Raises ``ProblemsError`` naming everything that is wrong with the plan; nothing has begun by then."""
    plan = config.h3_text
    problems = [] if plan.models else ["h3_text.models: there is none"]
    for name in plan.models:
        problems += [f"h3_text.models: {wrong}" for wrong in name_problems(name)]
        try:
            next(final_trainings(config, {name: plan.rates[0]}))
        except ProblemsError as error:
            problems += [f"h3_text.models.{name}: {problem}" for problem in error.problems]
    try:
        MAIN.build(_prepare_words(config), READS["prepare"])
    except ProblemsError as error:
        problems += [f"h3_text.prepare: {problem}" for problem in error.problems]
    raise_problems("the plan", problems, "Nothing has begun.")


def run_config(config: ReproduceConfig) -> Config:
    """The run that all models are in; intervals of its evaluations have the seed of the command."""
    return MAIN.build([f"run_dir={data_folder(config)}", f"seed={config.seed}"])


def _stories_file(config: ReproduceConfig) -> Path:
    return Path(config.out) / "stories.txt"


def _prepare_words(config: ReproduceConfig) -> list[str]:
    text = config.text or str(_stories_file(config))
    return [*config.h3_text.prepare, "corpus=none", f"text={text}", f"run_dir={data_folder(config)}"]


def _prepare_config(config: ReproduceConfig) -> Config:
    """The configuration of ``lst prepare``; the text is written first where none is named."""
    place = _stories_file(config)
    if config.text is None and not place.exists():
        stories = generate_stories(config.h3_text.num_stories, config.seed, "wide")
        write_text(place, "".join(f"{story.text}\n" for story in stories))
    return MAIN.build(_prepare_words(config), READS["prepare"])


def _training(config: ReproduceConfig, model: str, rate: float, seed: int, name: str, *more: str) -> Training:
    plan = config.h3_text
    words = [*plan.common, *plan.models[model], f"train.learning_rate={rate:g}", f"seed={seed}", *more]
    words += [f"run_dir={data_folder(config)}", f"name={name}"]
    return Training(model, rate, MAIN.build(words, reads_of("train")), words)


def sweep_trainings(config: ReproduceConfig) -> Iterator[Training]:
    """The short trainings that choose the rate of each model."""
    plan = config.h3_text
    for model in plan.models:
        whole = _training(config, model, plan.rates[0], plan.seeds[0], "whole")
        steps = max(1, round(plan.sweep_share * whole.config.train.max_steps))
        for rate in plan.rates:
            name = f"sweep-{model}-{rate:g}".replace(".", "_")
            yield _training(config, model, rate, plan.seeds[0], name, f"train.max_steps={steps}")


def final_trainings(config: ReproduceConfig, rates: dict[str, float]) -> Iterator[Training]:
    """The trainings that are compared, of the models whose rate is chosen; seed by seed, so that pairs are early."""
    for seed in config.h3_text.seeds:
        for model, rate in rates.items():
            yield _training(config, model, rate, seed, f"{model}-seed-{seed}")


def chosen_rate(model: str, sweep: Sequence[Training], work: _Work) -> float | None:
    """The rate with the least perplexity on the texts that choose; None while trainings of the model are missing.

    A rate whose training has failed in this call, because numbers were not finite, is not taken.
    """
    own = [one for one in sweep if one.model == model]
    if any(not one.is_scored and one.name not in work.failed for one in own):
        return None
    scored = [(_group([one], chooses=True).nats_a_token, one.rate) for one in own if one.is_scored]
    if not scored:
        return None
    rate = min(scored)[1]
    say(f"{model}: the sweep chooses train.learning_rate={rate:g}")
    return rate


def _rows(one: Training) -> list[TextRow]:
    return list(read_jsonl(RunFolder.of(one.config).eval_text_rows(one.name), TextRow))


def _group(trainings: Sequence[Training], chooses: bool) -> TextGroup:
    """Scores of finished trainings on every second text: those that choose the rate, or the others."""
    rows = [_rows(one)[0 if chooses else 1 :: 2] for one in trainings]
    tokens = np.array([row["num_tokens"] for row in rows[0]], float)
    return TextGroup(np.array([[row["nats"] for row in own] for own in rows]), tokens)


def _found(
    config: ReproduceConfig, data: PreparedData, sweep: Sequence[Training], finals: Sequence[Training]
) -> H3TextFile:
    """The numbers of the page."""
    plan = config.h3_text
    done = {model: [one for one in finals if one.model == model and one.is_scored] for model in plan.models}
    groups = {model: _group(own, chooses=False) for model, own in done.items() if own}
    rows = next((_rows(own[0])[1::2] for own in done.values() if own), [])
    num_bytes = sum(row["num_bytes"] for row in rows)
    complete = {name: group for name, group in groups.items() if len(done[name]) == len(plan.seeds)}
    return H3TextFile(
        version=1,
        corpus=data.index["description"],
        num_choosing=len(data.valid) - len(data.valid) // 2,
        num_texts=len(data.valid) // 2,
        num_tokens=sum(row["num_tokens"] for row in rows),
        num_bytes=num_bytes,
        missing=[one.name for one in (*sweep, *finals) if not one.is_scored],
        models=[_record(model, done[model], group, num_bytes) for model, group in groups.items()],
        pairs=pairs_of(complete),
        sweep=[_sweep_record(one) for one in sweep if one.is_scored],
    )


def _record(model: str, own: Sequence[Training], group: TextGroup, num_bytes: int) -> TextModelRecord:
    run = RunFolder.of(own[0].config)
    steps, _ = read_metrics(run.model(own[0].name) / "metrics.jsonl")
    rates = {_trained_rate(run, one.name) for one in own}
    return TextModelRecord(
        model=model,
        perplexity=group.perplexity(),
        bits_per_byte=float(group.nats.sum(axis=1).mean() / np.log(2) / num_bytes),
        by_seed={str(one.config.seed): value for one, value in zip(own, group.by_seed, strict=True)},
        rate=rates.pop() if len(rates) == 1 else None,
        parameters=read_text_result(run.eval_text(own[0].name))["num_parameters"],
        tokens=steps[-1]["tokens"],
        training_flops=steps[-1]["training_flops"],
        published=PUBLISHED.get(model),
    )


def _trained_rate(run: RunFolder, name: str) -> float:
    """The rate that a model was trained with."""
    place = run.model(name) / "settings.json"
    remedy = f"Delete {place.parent} and train again."
    settings: Any = read_record(place, TrainingSettings, "the record of a training's settings", remedy)
    return float(settings["train"]["learning_rate"])


def _sweep_record(one: Training) -> SweepRecord:
    return SweepRecord(
        model=one.model,
        rate=one.rate,
        steps=one.config.train.max_steps,
        perplexity=_group([one], chooses=True).by_seed[0],
    )
