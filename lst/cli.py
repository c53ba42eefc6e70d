"""The command line: ``lst check | prepare | card | train | eval | report | generate | export | …``.

Heavy imports wait until a command needs them, so that ``--help`` and mistakes answer at once.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lst import __version__
from lst.errors import LstError, UserError
from lst.storage import access, disk_full_error

if TYPE_CHECKING:
    from lst.configs.compose import Job
    from lst.configs.schema import Config
    from lst.configs.synthetic_schema import SyntheticConfig


USAGE_EXIT, INTERRUPT_EXIT, PIPE_EXIT = 2, 130, 141


def _check(config: Config, overrides: Sequence[str]) -> int:
    from lst.recipes.check import check

    return check(config, overrides)


def _prepare(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.prepare import prepare_run

    prepare_run(config)


def _card(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.corpus_card.card import card_of_run

    print(card_of_run(config, overrides))


def _train(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.training.train import train

    print(train(config))


def _eval(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.evaluate import evaluate, results_as_text

    print(results_as_text(evaluate(config)))


def _report(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.report.write import write_report

    print(write_report(config, overrides))


def _quickstart(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.quickstart import quickstart

    quickstart(overrides)


def _generate(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.generate import continue_prompt

    print(continue_prompt(config))


def _export(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.export import export

    print(export(config))


def _tokenizer(action: str) -> Callable[[Config, Sequence[str]], None]:
    def run(config: Config, overrides: Sequence[str]) -> None:
        from lst.recipes import tokenizer as unit_tools

        print(getattr(unit_tools, action)(config))

    return run


def _synthetic(config: SyntheticConfig, overrides: Sequence[str]) -> None:
    from lst.recipes.synthetic.synthetic import synthetic

    print(synthetic(config, overrides))


# What each command does, and the sections of the configuration it reads. A command may return its exit status.
COMMANDS: dict[str, tuple[Callable[[Any, Sequence[str]], int | None], str, tuple[str, ...]]] = {
    "check": (_check, "list every problem of corpus=, or of the prepared data in run_dir=", ("check", "data")),
    "prepare": (_prepare, "audio and transcripts to units, aligned words and shards", ("tokenizer", "data", "card")),
    "card": (_card, "the prepared corpus in numbers: one HTML page and JSON", ("data", "patching", "card")),
    "train": (_train, "train one model of the run", ("data", "patching", "model", "loss", "train")),
    "eval": (_eval, "cloze accuracy in four directions and bits, of every trained model", ("data", "eval", "train")),
    "report": (_report, "one HTML page of everything in the run", ("eval", "report")),
    "quickstart": (
        _quickstart,
        "all of the above: prepare, train each of arms, eval, report",
        ("tokenizer", "data", "patching", "model", "loss", "train", "eval", "report"),
    ),
    "generate": (_generate, "continue a spoken or written prompt", ("generate", "tokenizer")),
    "export": (_export, "prepared data in another format: .on_the_fly JSON lines, TextGrids, CTM", ("export",)),
    "synthetic": (
        _synthetic,
        "train a small model on a synthetic language or ListOps, and report all of them",
        ("task", "model", "train"),
    ),
    "tokenizer fit-units": (_tokenizer("fit_units"), "fit speech units to corpus=, write out=", ("tokenizer", "data")),
    "tokenizer score-units": (
        _tokenizer("score"),
        "what the units tokenizer.codebook= say about phones and speakers of corpus=",
        ("tokenizer", "data"),
    ),
    "tokenizer convert-units": (
        _tokenizer("convert_units"),
        "a published codebook, tokenizer.codebook=, and its model's weights to a units file, out=",
        ("tokenizer",),
    ),
    "tokenizer fit-text": (_tokenizer("fit_text"), "train text pieces on text= or corpus=, write out=", ("tokenizer",)),
    "tokenizer show": (
        _tokenizer("show"),
        "what a units file, tokenizer.codebook=, or tokenizer.text_model= holds",
        ("tokenizer",),
    ),
}
GROUP = "tokenizer"


def job_of(command: str) -> Job[Any]:
    """What configures a command: ``synthetic`` has options of its own, all others share theirs."""
    from lst.configs.compose import MAIN, SYNTHETIC

    return SYNTHETIC if command == "synthetic" else MAIN


def usage() -> str:
    """What ``lst --help`` prints."""
    lines = [
        f"lst {__version__}: pre-train and evaluate speech-text language models on latent patches",
        "",
        "usage: lst COMMAND [key=value …] [--dry-run] [--cfg job] [--help]",
        "",
        *(f"  {name:<23} {does}" for name, (_, does, _) in COMMANDS.items()),
        "",
        "  --dry-run   print sizes, FLOPs, disk and time without working",
        "  --cfg job   print the resolved configuration",
        "  --help      with a command: every option, its default and what it does",
        "",
        "Every command can be stopped at any moment and started again. First steps: lst quickstart",
        "On your own recordings: lst quickstart corpus=FOLDER run_dir=runs/mine",
    ]
    return "\n".join(lines)


def command_help(command: str) -> str:
    """What ``lst COMMAND --help`` prints: groups and options that the command reads."""
    from lst.configs.schema import describe_fields

    job, (_, does, sections) = job_of(command), COMMANDS[command]
    lines = [f"lst {command}: {does}", "", f"usage: lst {command} [key=value …] [--dry-run] [--cfg job]", ""]
    chosen = {name: files for name, files in job.groups().items() if name in sections or name == "experiment"}
    lines.append("whole groups (group=choice):")
    lines += [f"  {name:<12} {' | '.join(files)}" for name, files in chosen.items()]
    lines += ["", "options (key=default):"]
    for key, default, doc in describe_fields(job.build([])):
        section = key.partition(".")[0]
        if "." not in key or section in (*sections, "storage"):
            shown = "null" if default is None else "…" if isinstance(default, dict) else default
            lines.append(f"  {f'{key}={shown}':<44} {doc}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 where a check finds problems, 2 for a mistake of the user's, 130
    when interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if words[0] == GROUP and len(words) > 1 and words[1][:1] != "-" and "=" not in words[1]:
        words[:2] = [f"{GROUP} {words[1]}"]
    try:
        status = _run(words[0], words[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except LstError as error:
        print(f"lst {words[0]}: {error}", file=sys.stderr)
        return USAGE_EXIT
    except BrokenPipeError:
        # Whoever read (head, a pager that was left) has enough. Nothing more can be said on the way out.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_EXIT
    except OSError as error:
        full = disk_full_error(Path(error.filename or ".")) if error.errno == errno.ENOSPC else error
        print(f"lst {words[0]}: {full}", file=sys.stderr)
        return USAGE_EXIT
    except KeyboardInterrupt:
        print(f"\nlst {words[0]}: stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPT_EXIT


def _run(command: str, rest: list[str]) -> int:
    if command in ("-h", "--help", "help"):
        print(usage())
        return 0
    if command == "--version":
        print(f"lst {__version__}")
        return 0
    if command == GROUP:
        actions = [name.removeprefix(f"{GROUP} ") for name in COMMANDS if name.startswith(f"{GROUP} ")]
        raise UserError(f"say what to do: lst {GROUP} {' | '.join(actions)}. See lst {GROUP} fit-units --help")
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0.5)
        nearest = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"unknown command{nearest}; allowed are {', '.join(COMMANDS)}. See lst --help")
    if "--help" in rest or "-h" in rest:
        print(command_help(command))
        return 0
    shows_config = "--cfg" in rest
    if shows_config:
        place = rest.index("--cfg")
        if rest[place + 1 : place + 2] != ["job"]:
            raise UserError("--cfg shows the job's configuration: write --cfg job")
        del rest[place : place + 2]
    flags = [word for word in rest if word.startswith("-")]
    if unknown := [flag for flag in flags if flag != "--dry-run"]:
        from lst.configs.schema import describe_fields

        names = {flag.lstrip("-").partition("=")[0].replace("-", "_") for flag in unknown}
        keys = [
            key for key, _, _ in describe_fields(job_of(command).build([])) if {key, key.rpartition(".")[2]} & names
        ]
        options = f"; options are words: {', '.join(f'{key}=…' for key in keys[:5])}" if keys else ""
        raise UserError(f"unknown flag {', '.join(unknown)}; allowed are --dry-run, --cfg job, --help{options}")
    from lst.configs.compose import to_yaml

    overrides = [word for word in rest if word not in flags]
    # Composed before anything heavy is imported, so that mistakes are answered at once.
    config = job_of(command).build(overrides)
    _allow_places(config)
    if shows_config:
        print(to_yaml(config), end="")
    elif flags:
        print(describe(command, overrides))
    else:
        status = COMMANDS[command][0](config, overrides)
        # A part is no command that makes the data again; the one that joins them is.
        if command in ("prepare", "train", "eval") and (command != "prepare" or config.part is None):
            from lst.runs.folder import record_command

            record_command(config, command, overrides)
        return status or 0
    return 0


def describe(command: str, overrides: Sequence[str]) -> str:
    """The plan of a command as text; a faulty configuration or corpus raises as the command itself would."""
    from lst.configs.compose import SYNTHETIC, build_config
    from lst.recipes.prepare import prepare_plan
    from lst.recipes.synthetic.synthetic import plan as synthetic_plan
    from lst.recipes.tokenizer import plan as unit_plan
    from lst.recipes.training.plan import peak_flops, train_plan
    from lst.runs import RunFolder
    from lst.runs.folder import CARD_JSON, CARD_PAGE, arm_overrides

    lines = [f"lst {command} --dry-run: nothing is written"]
    if command == "synthetic":
        return "\n".join([*lines, *synthetic_plan(SYNTHETIC.build(overrides))])
    config = build_config(overrides)
    if command.startswith("tokenizer "):
        return "\n".join([*lines, *unit_plan(command.removeprefix("tokenizer "), config)])
    if command in ("prepare", "quickstart"):
        lines += prepare_plan(config)
    if command == "train":
        lines += train_plan(config, peak_flops())
    elif command == "quickstart":
        peak = peak_flops()
        for name in config.arms:
            lines += train_plan(build_config(arm_overrides(config, overrides, name)), peak)
    elif command == "card":
        data = RunFolder.of(config).data
        lines.append(f"card: would read {data} and write {data / CARD_PAGE} and {data / CARD_JSON}")
    elif command in ("eval", "report", "generate"):
        names = RunFolder.of(config).trained_models()
        lines.append(f"{command}: would read {config.run_dir}; trained models there: {', '.join(names) or 'none yet'}")
    return "\n".join(lines)


def _allow_places(config: Any) -> None:
    """Lets the command open what it names itself, and of what files name only what ``storage=`` allows."""
    from lst.configs.schema import describe_fields

    storage = getattr(config, "storage", None)
    named = [value for _, value, _ in describe_fields(config) if isinstance(value, str)]
    if storage is not None:
        access.allow(storage.allow_protocols, storage.allow_hosts, named)


if __name__ == "__main__":
    sys.exit(main())
