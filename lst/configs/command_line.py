"""Splits the words after ``lst COMMAND`` into flags and ``key=value`` words, and knows the habits of other tools."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lst.configs.compose import HABITS, Job, is_file_name
from lst.configs.user_files import DIR_FLAG, NAME_FLAG
from lst.errors import UserError, raise_problems
from lst.options import Options, option

FLAGS = {
    "--dry-run": "print sizes, FLOPs, disk and time without working",
    "--cfg job": "print the resolved configuration",
    "--config-dir DIR": "a folder of your own YAML: DIR/model/mine.yaml is model=mine",
    "--config-name NAME": "start from DIR/NAME.yaml in place of the default configuration",
    "-m, --multirun": "run every combination of values: train.learning_rate=1e-3,3e-3 seed=range(3)",
    "--help": "with a command: its options, their defaults and what they do",
}
# Other spellings of flags that take a value.
_VALUE_FLAGS = {
    "--cfg": "--cfg",
    "-c": "--cfg",
    "--config-dir": "--config-dir",
    "-cd": "--config-dir",
    "--config-name": "--config-name",
    "-cn": "--config-name",
}


@dataclass
class MultirunOptions(Options):
    """Options of ``--multirun`` itself; they are no part of a run's configuration."""

    jobs: int | None = option(None, "runs at the same time; without, 1, or all of a SLURM array", low=1)
    threads: int | None = option(None, "threads of each run; without, OMP_NUM_THREADS, or 1", low=1)
    slurm: str | None = option(None, "write a SLURM array script to this file and run nothing", path="file")


@dataclass
class CommandWords:
    """What a user wrote after the command.

    Attributes:
        overrides: ``key=value`` words, and ``--config-dir=`` and ``--config-name=`` with their values.
        is_dry_run, shows_config, is_multirun, wants_help: the flags that were given.
        multirun: options of ``--multirun``.
    """

    overrides: list[str] = field(default_factory=list)
    is_dry_run: bool = False
    shows_config: bool = False
    is_multirun: bool = False
    wants_help: bool = False
    multirun: MultirunOptions = field(default_factory=MultirunOptions)


def split_words(job: Job[Any], words: Sequence[str], named: str = "") -> CommandWords:
    """Sorts the words of a command.

    Args:
        job: the command's options.
        words: after the command.
        named: the option that a first word without ``=`` gives; every such word, if the option is a list of paths.

    Raises:
        UserError: a flag is unknown or lacks its value; every problem is named, with the right spelling.
    """
    found, problems, rest = CommandWords(), [], list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("-"):
            problems += _take_flag(job, found, word, rest)
        elif named and "=" not in word and (job.is_path_list(named) or not found.overrides):
            found.overrides.append(f"{named}={word}")
        else:
            found.overrides.append(word)
    problems += _take_multirun(job, found)
    if found.is_multirun and found.shows_config:
        problems.append("--cfg job shows the configuration of one run: leave -m out")
    if len(problems) == 1 and not found.wants_help:
        raise UserError(problems[0])
    if not found.wants_help:
        raise_problems("flags", problems)
    found.overrides = [_with_absolute_file(job, word) for word in found.overrides]
    return found


def _take_flag(job: Job[Any], found: CommandWords, word: str, rest: list[str]) -> list[str]:
    """Notes one flag and takes its value from ``rest``; returns problems."""
    name, equals, value = word.partition("=")
    if name in _VALUE_FLAGS:
        return _take_value(found, _VALUE_FLAGS[name], value if equals or not rest else rest.pop(0))
    if word == "--dry-run":
        found.is_dry_run = True
    elif word in ("-m", "--multirun"):
        found.is_multirun = True
    elif word in ("-h", "--help"):
        found.wants_help = True
    else:
        if not equals and rest and not rest[0].startswith("-") and "=" not in rest[0]:
            value = rest.pop(0)
        return [f"unknown flag {word}{_right_spelling(job, name, value)}"]
    return []


def _take_value(found: CommandWords, flag: str, value: str) -> list[str]:
    if flag == "--cfg":
        found.shows_config = True
        return [] if value == "job" else ["--cfg shows the job's configuration: write --cfg job"]
    if not value or value.startswith("-"):
        return [f"{flag} needs a value: write {flag} {flag.rpartition('-')[2].upper()}"]
    is_dir = f"{flag}=" == DIR_FLAG
    found.overrides.append(f"{DIR_FLAG}{_absolute(value)}" if is_dir else f"{NAME_FLAG}{value}")
    return []


def _right_spelling(job: Job[Any], flag: str, value: str) -> str:
    """How a flag of another tool is written here: ``: write seed=3``; lists flags where nothing is like it."""
    name = flag.lstrip("-").replace("-", "_")
    if close := difflib.get_close_matches(flag, [text.split()[0] for text in FLAGS], n=1, cutoff=0.8):
        return f": did you mean {close[0]}?"
    keys = [key for key in [*job.groups, *job.options] if name in (key, key.rpartition(".")[2])]
    keys = keys or [key for habit, key in HABITS.items() if habit == name and key in job.options]
    advice = ": write " if keys else ": options are words, did you mean "
    keys = keys or difflib.get_close_matches(name, [*job.groups, *job.options], n=1, cutoff=0.7)
    if not keys:
        return f"; flags are {', '.join(FLAGS)}, and options are words: key=value"
    is_switch = keys[0] in job.options and job.options[keys[0]].kind == "bool"
    shown = value or ("true" if is_switch else "…")
    return advice + " or ".join(f"{key}={shown}" for key in keys[:3]) + ("?" if advice.endswith("mean ") else "")


def _take_multirun(job: Job[Any], found: CommandWords) -> list[str]:
    """Moves ``jobs=``, ``threads=`` and ``slurm=`` from the overrides to the options of the multirun.

    Without ``--multirun`` they stay where the job has options of these names.
    """
    names, problems, kept = ("jobs", "threads", "slurm"), [], []
    for word in found.overrides:
        name, _, value = word.partition("=")
        if name not in names or (name in job.options and not found.is_multirun):
            kept.append(word)
        elif not found.is_multirun:
            problems.append(f"{word} is an option of --multirun: add -m")
        elif name == "slurm":
            found.multirun.slurm = value
        elif value.isascii() and value.isdigit():
            setattr(found.multirun, name, int(value))
        else:
            problems.append(f"{word}: must be a whole number")
    found.overrides = kept
    return problems + found.multirun.problems()


def _with_absolute_file(job: Job[Any], word: str) -> str:
    """A word whose file can be found from any folder: the words of a run are kept, to build its configuration again."""
    key, _, value = word.partition("=")
    is_path = job.is_group(key) and is_file_name(value) and "," not in value and "(" not in value
    return f"{key}={_absolute(value)}" if is_path else word


def _absolute(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())
