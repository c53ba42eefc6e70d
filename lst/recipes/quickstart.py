"""The whole pipeline by one command: prepare, train each arm and a voice, evaluate, report."""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lst.configs.compose import MAIN, build_config, to_yaml
from lst.configs.reads import words_read_by
from lst.configs.schema import Config
from lst.data.config import NO_VOICE, SIMULATED
from lst.data.prepare import prepare
from lst.data.prepared import PreparedData
from lst.data.shards import INDEX_FILE
from lst.data.synthesis import choose_engine
from lst.errors import UserError, raise_problems
from lst.evaluation import cloze_items
from lst.parallel import check_one_process
from lst.parallel.commands import ChildCommand, run_commands
from lst.progress import say, show
from lst.recipes.corpus_card.card import card_after_prepare
from lst.recipes.evaluate import evaluate, found_ceilings, found_contamination, results_as_text, verdict_of
from lst.recipes.prepare import prepare_options, prepare_plan
from lst.recipes.report.write import write_report
from lst.recipes.training.cluster_plan import peak_flops
from lst.recipes.training.control import Spent, accounting, controlled, spent, with_steps
from lst.recipes.training.plan import train_plan
from lst.recipes.training.train import check_training
from lst.recipes.voice.quick import quick_voice_command, quick_voice_plan
from lst.runs import RunFolder, is_trained, open_data
from lst.runs.fitted_patching import fit_ahead, hand_over
from lst.runs.folder import arm_overrides, record_command
from lst.runs.formats import ControlRecord, SpentRecord, read_record, versioned
from lst.storage import exists, fingerprint, write_json, write_text


def with_a_voice(config: Config, overrides: Sequence[str]) -> list[str]:
    """The options, with simulated speech where stories are to be read aloud and no speech engine is installed."""
    if config.corpus is not None or config.data.voice != "auto":
        return list(overrides)
    try:
        choose_engine("auto")
    except UserError:
        say("no speech engine is installed: speech is simulated (units without sound); see docs/guides/simulated.md")
        return [*overrides, f"data.voice={SIMULATED}"]
    return list(overrides)


def check_arm_groups(config: Config, overrides: Sequence[str]) -> None:
    """Raises ``UserError`` for what arms choose themselves: the user's choice would be lost without a word."""
    chosen = {override.partition("=")[0] for override in overrides}
    own = {word.partition("=")[0] for words in config.arms.values() for word in words}
    if lost := sorted(chosen & own):
        raise UserError(
            f"{', '.join(lost)}: each arm of quickstart chooses its own. Set the arms, as in "
            "'arms.wide=[model=lst_quickstart,patching=aligned]', or train one model with lst train"
        )


def checked_arms(config: Config, overrides: Sequence[str]) -> dict[str, Config]:
    """The configuration of each arm: all before the first is trained, so that mistakes of the last one show too.

    Raises:
        UserError: an option of an arm is wrong, or is one that the arms choose themselves.
    """
    arms = {name: build_config(arm_overrides(config, overrides, name)) for name in config.arms}
    check_arm_groups(config, overrides)
    if config.data.voice == NO_VOICE:
        raise UserError(
            "corpus=none: quickstart compares models of speech; for text alone run lst prepare, lst train and lst eval"
        )
    if config.control != "steps":
        check_controlled(arms, config)
    return arms


def check_controlled(arms: Mapping[str, Config], config: Config) -> None:
    """Raises ``UserError`` for arms whose number of steps cannot follow from the first one's."""
    first, *others = arms
    problems = [
        f"arms.{name}: it sets train.max_steps, which follows from {first}"
        for name in others
        if any(word.startswith("train.max_steps=") for word in config.arms[name])
    ]
    raise_problems(f"control={config.control}", problems, "Use control=steps, or change the arms.")


def controlled_words(
    config: Config, arms: Mapping[str, Config], words: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    """The options of each arm with the steps that spend as much as the first arm; prints what each will use.

    The counts are kept in the run's folder, for a training that goes on.
    """
    data, run = open_data(config), RunFolder.of(config)
    counts = _kept_counts(config, arms, data)
    if counts is None:
        counts = _counted(config, arms, data, run.fitted)
        records = {
            name: SpentRecord(steps=one.steps, patches=one.patches, tokens=one.tokens, flops=one.flops)
            for name, one in counts.items()
        }
        made_from = _counts_made_from(config, arms, data)
        write_json(run.control, versioned(ControlRecord(made_from=made_from, control=config.control, spent=records)))
    for name, arm in arms.items():
        hand_over(arm, data, run.fitted, run.model(name))
    show("\n".join(accounting(counts, config.control)))
    return {name: [*own, f"train.max_steps={counts[name].steps}"] for name, own in words.items()}


def _counts_made_from(config: Config, arms: Mapping[str, Config], data: PreparedData) -> str:
    return fingerprint([data.fingerprint, config.control, *(to_yaml(arm) for arm in arms.values())])


def _kept_counts(config: Config, arms: Mapping[str, Config], data: PreparedData) -> dict[str, Spent] | None:
    """What the arms will use, where an earlier call has counted it."""
    place = RunFolder.of(config).control
    kept = read_record(place, ControlRecord, "the record of steps", f"Delete {place}.") if place.exists() else None
    if kept is None or kept["made_from"] != _counts_made_from(config, arms, data):
        return None
    return {name: Spent(**one) for name, one in kept["spent"].items()}


def _counted(config: Config, arms: Mapping[str, Config], data: PreparedData, fitted: Path) -> dict[str, Spent]:
    """What the arms will use; patchings that are fitted to the speech are kept in a folder."""
    first, *others = arms
    patchings = {name: fit_ahead(arm, data, fitted) for name, arm in arms.items()}
    reference = spent(arms[first], data, patchings[first])
    return {first: reference} | {
        name: controlled(arms[name], data, patchings[name], reference, config.control) for name in others
    }


def _arms_of_plan(config: Config, arms: dict[str, Config]) -> tuple[dict[str, Config], list[str]]:
    """The arms with the steps that ``control`` gives them, and lines that say what is not known yet; writes nothing.

    They are counted where a training has begun, which they must agree with.
    """
    first, *others = arms
    if config.control == "steps" or not others:
        return arms, []
    run, counts = RunFolder.of(config), None
    if exists(run.data / INDEX_FILE):
        data = open_data(config)
        counts = _kept_counts(config, arms, data)
        if counts is None and any(run.data_of_training(name) for name in others):
            with tempfile.TemporaryDirectory() as fitted:
                counts = _counted(config, arms, data, Path(fitted))
    if counts is None:
        return arms, [f"  steps of {', '.join(others)} will follow from {first} (control={config.control})"]
    return {name: with_steps(arm, counts[name].steps) for name, arm in arms.items()}, []


def quickstart_plan(config: Config, overrides: Sequence[str]) -> list[str]:
    """Plan of all stages, as lines of text; raises ``UserError`` for what the command itself would refuse."""
    check_one_process("lst quickstart")
    overrides = with_a_voice(config, overrides)
    config = build_config(overrides)
    arms = checked_arms(config, overrides)
    lines, peak = prepare_plan(config), peak_flops()
    arms, notes = _arms_of_plan(config, arms)
    for arm in arms.values():
        lines += train_plan(arm, peak)
    lines += notes + quick_voice_plan(config)
    if exists(RunFolder.of(config).data / INDEX_FILE):
        cloze_items(list(open_data(config).valid), config.eval, config.seed)
    return lines


def train_arms(words: Mapping[str, Sequence[str]], voice: ChildCommand | None = None) -> None:
    """Trains the arms as commands of their own, as many at a time as there are cores, with one thread each.

    Args:
        words: the options of each by its name.
        voice: trained with them, on the core that is free first; without it, models speak by mean spectra.

    Raises:
        UserError: an arm cannot be trained, and no training has begun; or a training failed, and the others have ended.
    """
    commands = []
    for name, own in words.items():
        arm = build_config(own)
        run = RunFolder.of(arm)
        check_training(arm, open_data(arm))
        if is_trained(run.final(name)):
            say(f"{name} is trained: nothing to do ({run.final(name)})")
        else:
            train_words = words_read_by("train", own, MAIN.options)
            log = run.root / "logs" / f"train-{name}.log"
            commands.append(ChildCommand(name, (sys.executable, "-m", "lst", "train", *train_words), log))
    threads = None if "OMP_NUM_THREADS" in os.environ else 1
    with_voice = commands if voice is None else [*commands, voice]
    failed = [done for done in run_commands(with_voice, os.cpu_count() or 1, threads) if done.exit_code != 0]
    told = {
        done.command: f"{done.command.label} (exit status {done.exit_code}): {done.last_line}; "
        f"its output: {done.command.log}"
        for done in failed
    }
    if voice in told:
        say(f"no voice of units, so models speak by mean spectra: {told.pop(voice)}")
    raise_problems(
        f"{len(told)} of {len(words)} trainings failed", list(told.values()), "The same command goes on from here."
    )


def quickstart(overrides: Sequence[str]) -> Path:
    """Runs every stage; each is skipped where it is done. Returns the report's path.

    Raises:
        UserError: an option is wrong (also one of an arm), or a stage's input is.
    """
    check_one_process("lst quickstart")
    started_s = time.monotonic()
    config = build_config(overrides)
    overrides = with_a_voice(config, overrides)
    config = build_config(overrides)
    arms = checked_arms(config, overrides)
    run = RunFolder.of(config)
    say(f"1/4 prepare: {run.data}")
    prepare(run.data, prepare_options(config))
    if config.card.after_prepare:
        card_after_prepare(config)
    write_text(run.root / "config.yaml", to_yaml(config))
    # Now, not after an hour of training: are there two held-out utterances to tell apart?
    cloze_items(list(open_data(config).valid), config.eval, config.seed)
    say(f"2/4 train: {', '.join(arms)}")
    words = {name: arm_overrides(config, overrides, name) for name in arms}
    if config.control != "steps":
        words = controlled_words(config, arms, words)
    train_arms(words, quick_voice_command(config))
    say("3/4 evaluate")
    results = evaluate(config)
    record_command(config, "quickstart", overrides)
    say("4/4 report")
    report = write_report(config, overrides)
    found = found_ceilings(config, results), found_contamination(config, results)
    show(f"{results_as_text(results, *found)}\n\n{verdict_of(config, results)}")
    say(f"done in {(time.monotonic() - started_s) / 60:.1f} minutes")
    show(f"report: {report.resolve()}")
    show("\n".join(["next:", *(f"  {line}" for line in next_commands(config))]))
    return report


def next_commands(config: Config) -> list[str]:
    """Commands to type next; the first makes the shell find ``lst`` where it does not."""
    scripts = Path(sysconfig.get_path("scripts"))
    activate = scripts / ("activate" if os.name == "posix" else "activate.bat")
    is_found = any(Path(place) == scripts for place in os.environ.get("PATH", "").split(os.pathsep))
    run = f"run_dir={shlex.quote(config.run_dir)}"
    return [
        *([f"source {shlex.quote(os.path.relpath(activate))}"] if activate.exists() and not is_found else []),
        f'lst generate {run} name={list(config.arms)[-1]} generate.text="Anna wanted to" generate.modality=speech',
        f"lst train {run} name=aligned patching=aligned && lst eval {run} && lst report {run}",
        "lst prepare corpus=FOLDER_OF_RECORDINGS run_dir=runs/mine --dry-run",
    ]
