"""The command line: ``lst check | prepare | card | train | eval | report | generate | export | …``.

Heavy imports wait until a command needs them, so that ``--help`` and mistakes answer at once.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lst import __version__
from lst.commands import COMMANDS, DEFAULT_ACTIONS, GROUPS, job_of
from lst.errors import LstError, StoppedError, UserError, nearest, one_line, printable
from lst.storage import access, disk_full_error

if TYPE_CHECKING:
    from lst.configs.command_line import CommandWords


USAGE_EXIT, SIGNAL_EXIT, INTERRUPT_EXIT, PIPE_EXIT = 2, 128, 130, 141


def _show(result: object) -> None:
    print(printable(str(result)))


def usage() -> str:
    """What ``lst --help`` prints."""
    lines = [
        f"lst {__version__}: pre-train and evaluate speech-text language models on latent patches",
        "",
        "usage: lst COMMAND [key=value …] [flags]",
        "",
        *(f"  {name:<23} {command.does}" for name, command in COMMANDS.items()),
        "",
        "flags:",
        "  --dry-run            print sizes, FLOPs, disk and time without working",
        "  --cfg job            print the resolved configuration",
        "  -m, --multirun       run every combination of values, such as train.learning_rate=1e-3,3e-3",
        "  --config-dir DIR     your own YAML files",
        "  --help               with a command: its options, their defaults and what they do",
        "",
        "Every command can be stopped at any moment and started again. First steps: lst quickstart",
        "On your own recordings: lst quickstart corpus=FOLDER run_dir=runs/mine",
    ]
    return "\n".join(lines)


def command_help(command: str) -> str:
    """What ``lst COMMAND --help`` prints: groups and options that the command reads."""
    from lst.configs.help import option_help
    from lst.configs.reads import READS

    what = COMMANDS[command]
    is_list = job_of(command).is_path_list(what.named)
    named = "" if not what.named else "FOLDER… " if is_list else "NAME "
    usage = f"usage: lst {command} {named}[key=value …] [flags]"
    lines = [f"lst {command}: {what.does}", "", usage, ""]
    return "\n".join([*lines, *option_help(job_of(command), READS[command], what.first.split())])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 where a check finds problems, 2 for a mistake of the user's, 130
    when interrupted, 128 and its number for another signal.
    """
    _show_any_text()
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    words = _with_action(words)
    try:
        _check_encoding(words)
        if sys.stdout is None:
            # Python would drop all that is printed, without a word.
            raise UserError("standard output is closed: send it somewhere, to > /dev/null if nobody reads it")
        status = _run(words[0], words[1:])
        sys.stdout.flush()
        return status
    except StoppedError as error:
        _complain(f"stopped; {error}", words, before="\n")
        return SIGNAL_EXIT + error.signal_number
    except BrokenPipeError:
        # The reader (head, a pager) has ended.
        _drop_output()
        return PIPE_EXIT
    except KeyboardInterrupt:
        _complain("stopped; the same command goes on from here", words, before="\n")
        return INTERRUPT_EXIT
    except LstError as error:
        _complain(str(error), words)
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:
            _drop_output()
            _complain("the output cannot be written: the disk that it goes to is full", words)
        else:
            full = disk_full_error(Path(error.filename)) if error.errno == errno.ENOSPC else error
            _complain(one_line(str(full)), words)
    return USAGE_EXIT


def _with_action(words: list[str]) -> list[str]:
    """The words with a group and its action as one command: ``scale fit``. Without an action, a group may have one."""
    group, *rest = words
    has_action = bool(rest) and rest[0][:1] != "-" and "=" not in rest[0]
    if group in DEFAULT_ACTIONS and not (has_action and f"{group} {rest[0]}" in COMMANDS):
        return [f"{group} {DEFAULT_ACTIONS[group]}", *rest]
    return [f"{group} {rest[0]}", *rest[1:]] if group in GROUPS and has_action else words


def _show_any_text() -> None:
    """Lets output hold any character: those that the terminal's encoding lacks are written as escapes (``\\xe9``)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _check_encoding(words: Sequence[str]) -> None:
    """Raises ``UserError`` for words that are not UTF-8: configurations and file formats cannot hold them."""
    if wrong := [word for word in words if any("\ud800" <= character <= "\udfff" for character in word)]:
        raise UserError(f"{wrong[0]} is not UTF-8: write it in UTF-8, and rename files whose names are not")


def _drop_output() -> None:
    """Sends what is left of the output nowhere: flushing it at exit would fail again."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, words: Sequence[str], before: str = "") -> None:
    print(f"{before}lst {one_line(words[0])}: {message}", file=sys.stderr)


def _run(command: str, rest: list[str]) -> int:
    if command in ("-h", "--help", "help") and rest and rest[0] in COMMANDS:
        command, rest = rest[0], ["--help"]
    if command in ("-h", "--help", "help"):
        print(usage())
        return 0
    if {command, *rest} & {"-V", "--version"} or command == "version":
        print(f"lst {__version__}")
        return 0
    if command.startswith("-") or "=" in command:
        raise UserError(f"the command comes first: lst COMMAND {command} …; commands are {', '.join(COMMANDS)}")
    if command in GROUPS:
        actions = [name.removeprefix(f"{command} ") for name in COMMANDS if name.startswith(f"{command} ")]
        raise UserError(f"say what to do: lst {command} {' | '.join(actions)}. See lst {command} {actions[0]} --help")
    if command not in COMMANDS:
        allowed = list(COMMANDS)
        raise UserError(f"unknown command{nearest(command, allowed)}; allowed are {', '.join(allowed)}. See lst --help")
    from lst.configs.command_line import split_words

    words = split_words(job_of(command), rest, COMMANDS[command].named)
    if words.wants_help:
        print(command_help(command))
        return 0
    return _run_many(command, words) if words.is_multirun else _run_once(command, words)


def _run_once(command: str, words: CommandWords) -> int:
    # Composed before anything heavy is imported, so that mistakes are answered at once.
    from lst.configs.reads import reads_of

    config = job_of(command).build(words.overrides, reads_of(command, words.is_dry_run))
    _allow_places(config)
    if words.shows_config:
        from lst.configs.compose import to_yaml

        print(to_yaml(config), end="")
        return 0
    if words.is_dry_run:
        _show(describe(command, words.overrides, config))
        return 0
    result = COMMANDS[command].run(config, words.overrides)
    if COMMANDS[command].shows and result is not None and not isinstance(result, int):
        _show(result)
    # A part alone does not make the data again: the command that joins the parts is recorded.
    is_of_the_run = command == "eval" and config.eval.benchmark is None and config.eval.task == "scores"
    is_recorded = is_of_the_run or command in ("prepare", "train")
    if is_recorded and (command != "prepare" or config.part is None):
        from lst.runs.folder import record_command

        record_command(config, command, words.overrides)
    return result if isinstance(result, int) else 0


def _run_many(command: str, words: CommandWords) -> int:
    from lst.recipes.multirun import SweptCommand, multirun, plan_runs

    what = COMMANDS[command]
    swept = SweptCommand(command, job_of(command), what.output, what.reads_run)
    if words.is_dry_run:
        print("\n".join(shlex.join(["lst", *child.words[3:]]) for child in plan_runs(swept, words.overrides)))
        return 0
    return multirun(swept, words.overrides, words.multirun)


def describe(command: str, overrides: Sequence[str], config: Any = None) -> str:
    """The plan of a command as text; a faulty configuration or input raises as the command itself would.

    Args:
        command: a name of ``COMMANDS``.
        overrides: words of the command line.
        config: their configuration, where it was built already.
    """
    config = job_of(command).build(overrides) if config is None else config
    lines = COMMANDS[command].plan(config, overrides)
    return "\n".join([f"lst {command} --dry-run: nothing is written", *lines])


def _allow_places(config: Any) -> None:
    """Allows every place that the command line names, and of the places that files name those of ``storage.…``."""
    from lst.options import list_options

    named = [option.value for option in list_options(config) if isinstance(option.value, str)]
    if (storage := getattr(config, "storage", None)) is not None:
        access.allow(storage.allow_protocols, storage.allow_hosts, named, storage.max_file_bytes)


if __name__ == "__main__":
    sys.exit(main())
