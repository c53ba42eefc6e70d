"""What ``lst COMMAND --help`` prints: the options that most people change, then all that the command reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from lst.configs.command_line import FLAGS, MultirunOptions
from lst.configs.compose import Job
from lst.configs.reads import Reads
from lst.options import Option, list_options, needed_keys

_KEY_WIDTH = 44


def option_help(job: Job[Any], reads: Reads, first: Sequence[str]) -> list[str]:
    """Groups and options, one line each.

    Args:
        job: the options of the command.
        reads: those of them that it reads.
        first: keys of the options that most people change.
    """
    options = list_options(job.build([]))
    by_key = {option.key: option for option in options}
    groups = [
        f"  {name:<12} {' | '.join(files)}"
        for name, files in job.groups.items()
        if name in (*reads.sections, "experiment")
    ]
    lines = ["whole groups (group=choice, or group=/path/to/mine.yaml):", *groups, ""] if groups else []
    lines += ["most used options (key=default):", *(_line(by_key[key], reads) for key in first)]
    others = [option for option in options if option.key not in first and reads.has(option.key)]
    for section, members in groupby(others, key=_section):
        lines += ["", f"options of {section}:" if section else "general options:"]
        lines += [_line(option, reads) for option in members]
    # Where the command has options of the same names, these are meant.
    if of_multirun := [option for option in list_options(MultirunOptions()) if not reads.has(option.key)]:
        lines += ["", "options of --multirun:", *(_line(option, reads) for option in of_multirun)]
    return [*lines, "", "flags:", *flag_help()]


def flag_help() -> list[str]:
    """The flags that every command takes, one line each."""
    return [f"  {flag:<20} {does}" for flag, does in FLAGS.items()]


def _section(option: Option) -> str:
    return option.key.partition(".")[0] if "." in option.key else ""


def _line(option: Option, reads: Reads) -> str:
    shown = "null" if option.value is None else "…" if isinstance(option.value, dict) else option.value
    limits = option.limits
    # What the command does not read has one value there.
    if limits.needs and not all(map(reads.has, needed_keys(limits.needs))):
        limits = replace(limits, needs="")
    allowed = f" [{limits.help_text}]" if limits.help_text else ""
    return f"  {f'{option.key}={shown}':<{_KEY_WIDTH}} {option.doc}{allowed}"
