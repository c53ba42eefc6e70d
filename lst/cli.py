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
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lst import __version__
from lst.configs.commands import Command
from lst.errors import LstError, StoppedError, UserError, nearest, one_line, printable
from lst.storage import access, disk_full_error

if TYPE_CHECKING:
    from lst.configs.command_line import CommandWords
    from lst.configs.compose import Job
    from lst.configs.scaling_schema import ScalingConfig
    from lst.configs.schema import Config
    from lst.configs.synthetic_schema import SyntheticConfig


USAGE_EXIT, SIGNAL_EXIT, INTERRUPT_EXIT, PIPE_EXIT = 2, 128, 130, 141


def _show(result: object) -> None:
    print(printable(str(result)))


def _check(config: Config, overrides: Sequence[str]) -> int:
    from lst.recipes.check import check

    return check(config, overrides)


def _prepare(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.prepare import prepare_run

    prepare_run(config)


def _card(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.corpus_card.card import card_of_run

    _show(card_of_run(config, overrides))


def _train(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.training.train import train

    _show(train(config))


def _eval(config: Config, overrides: Sequence[str]) -> None:
    if config.eval.benchmark is not None:
        from lst.recipes.evaluate_benchmark import evaluate_benchmark

        _show(evaluate_benchmark(config))
        return
    from lst.recipes.evaluate import FailedModelsError, evaluate, found_ceilings, results_as_text, verdict_of

    try:
        results = evaluate(config)
        _show(f"{results_as_text(results, found_ceilings(config, results))}\n\n{verdict_of(config, results)}")
    except FailedModelsError as error:
        if error.results:
            _show(results_as_text(error.results, found_ceilings(config, error.results)))
        raise


def _benchmark_build(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.benchmark import build

    _show(build(config))


def _report(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.report.write import write_report

    _show(write_report(config, overrides))


def _quickstart(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.quickstart import quickstart

    quickstart(overrides)


def _generate(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.generate import continue_prompt

    _show(continue_prompt(config))


def _export(config: Config, overrides: Sequence[str]) -> None:
    from lst.recipes.export import export

    _show(export(config))


def _tokenizer(action: str) -> Callable[[Config, Sequence[str]], None]:
    def run(config: Config, overrides: Sequence[str]) -> None:
        from lst.recipes import tokenizer as unit_tools

        _show(getattr(unit_tools, action)(config))

    return run


def _synthetic(config: SyntheticConfig, overrides: Sequence[str]) -> None:
    from lst.recipes.synthetic.synthetic import synthetic

    _show(synthetic(config, overrides))


def _of_scaling(module: str, name: str) -> Any:
    return getattr(import_module(f"lst.recipes.scaling.{module}"), name)


def _scale(module: str, name: str, takes_words: bool = False) -> Callable[[ScalingConfig, Sequence[str]], None]:
    def run(config: ScalingConfig, overrides: Sequence[str]) -> None:
        _show(_of_scaling(module, name)(config, *([overrides] if takes_words else [])))

    return run


_UNITS = "tokenizer.kind tokenizer.num_units tokenizer.frame_rate_hz tokenizer.weights tokenizer.layer"
_TRAIN = "train.max_steps train.learning_rate train.rows train.row_patches"
COMMANDS = {
    "check": Command(
        _check,
        "list every problem of corpus=, or of the prepared data in run_dir=",
        "run_dir corpus layout data_dir check.decode check.examples check.json data.min_duration_s data.max_duration_s",
        "check.json",
    ),
    "prepare": Command(
        _prepare,
        "audio and transcripts to units, aligned words and shards",
        "run_dir corpus layout data_dir num_workers on_error seed tokenizer.kind tokenizer.num_units data.align.method",
        "run_dir",
    ),
    "card": Command(
        _card,
        "the prepared corpus in numbers: one HTML page and JSON",
        "run_dir data_dir card.title card.licence card.max_utterances seed patching.static_size patching.max_patch "
        "patching.deduplicate data.mix.by",
        "run_dir",
        reads_run=True,
    ),
    "train": Command(
        _train,
        "train one model of the run",
        f"run_dir name seed {_TRAIN} train.precision train.accelerator patching.static_size",
        "name",
    ),
    "eval": Command(
        _eval,
        "cloze accuracy in four directions and bits, of every trained model",
        "run_dir data_dir seed eval.benchmark eval.max_items eval.context_share eval.min_words eval.rows_a_batch "
        "eval.bootstrap_samples train.row_patches",
        "run_dir",
        reads_run=True,
    ),
    "benchmark build": Command(
        _benchmark_build,
        "a spoken benchmark of a text one: NAME items=FILE out=FOLDER",
        "items out run_dir data_dir benchmark.max_items data.voice data.num_speakers num_workers on_error seed",
        "out",
        named="benchmark.name",
    ),
    "report": Command(
        _report,
        "one HTML page of everything in the run",
        "run_dir data_dir report.num_audio",
        "run_dir",
        reads_run=True,
    ),
    "quickstart": Command(
        _quickstart,
        "all of the above: prepare, train each of arms, eval, report",
        f"run_dir corpus text arms num_workers seed {_TRAIN}",
        "run_dir",
    ),
    "generate": Command(
        _generate,
        "continue a spoken or written prompt",
        "run_dir name seed generate.text generate.audio generate.modality generate.max_new_tokens generate.temperature "
        "generate.top_k generate.top_p",
    ),
    "export": Command(
        _export,
        "prepared data in another format: .on_the_fly JSON lines, TextGrids, CTM",
        "run_dir data_dir export.format export.folder",
        "export.folder",
    ),
    "synthetic": Command(
        _synthetic,
        "train a small model on a synthetic language or ListOps, and report all of them",
        "run_dir seeds convolution task.length task.vocabulary train.max_steps train.learning_rate "
        "train.batch_sequences train.stop_at model.global_dim",
        "run_dir",
    ),
    "scale plan": Command(
        _scale("plan", "scale_plan"),
        "steps, FLOPs and time of every model of a grid, scale=FILE.yaml, before the first is trained",
        "out data_dir scale.budgets scale.budget scale.control scale.seeds scale.max_hours",
        "out",
    ),
    "scale run": Command(
        _scale("run", "scale_run", takes_words=True),
        "train and evaluate the models of a plan, some at a time; their table is for lst scale fit",
        "out data_dir jobs threads slurm cells",
        "out",
    ),
    "scale fit": Command(
        _scale("fit", "scale_fit"),
        "the law of losses over parameters and data, from a table of trained models, points=",
        "points out seed fit.delta fit.bootstrap_samples fit.size fit.base_arm fit.flops_factor fit.loss_unit",
        "out",
    ),
    "scale plot": Command(
        _scale("page", "scale_plot"),
        "draw the page of a fit in out= again",
        "out fit.loss_unit",
        "out",
        reads_run=True,
    ),
    "tokenizer fit-units": Command(
        _tokenizer("fit_units"),
        "fit speech units to corpus=, write out=",
        f"corpus layout out {_UNITS} tokenizer.device num_workers",
        "out",
    ),
    "tokenizer score-units": Command(
        _tokenizer("score"),
        "what the units tokenizer.codebook= say about phones and speakers of corpus=",
        "corpus layout tokenizer.codebook out tokenizer.weights tokenizer.device num_workers",
        "out",
    ),
    "tokenizer convert-units": Command(
        _tokenizer("convert_units"),
        "a published codebook, tokenizer.codebook=, and its model's weights to a units file, out=",
        "tokenizer.codebook out tokenizer.kind tokenizer.frame_rate_hz tokenizer.weights tokenizer.layer "
        "tokenizer.trust",
        "out",
    ),
    "tokenizer fit-text": Command(
        _tokenizer("fit_text"),
        "train text pieces on text= or corpus=, write out=",
        "text corpus out tokenizer.text_model_type tokenizer.text_vocab_size tokenizer.normalization "
        "tokenizer.lowercase tokenizer.character_coverage tokenizer.text_max_lines seed",
        "out",
    ),
    "tokenizer show": Command(
        _tokenizer("show"),
        "what a units file, tokenizer.codebook=, or tokenizer.text_model= holds",
        "tokenizer.codebook tokenizer.text_model",
    ),
}
GROUPS = ("benchmark", "scale", "tokenizer")


def job_of(command: str) -> Job[Any]:
    """Where a command takes its configuration from: some have options of their own, all others share theirs."""
    from lst.configs.compose import MAIN, SCALING, SYNTHETIC

    return SCALING if command.startswith("scale ") else SYNTHETIC if command == "synthetic" else MAIN


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
    usage = f"usage: lst {command} {'NAME ' * bool(what.named)}[key=value …] [flags]"
    lines = [f"lst {command}: {what.does}", "", usage, ""]
    return "\n".join([*lines, *option_help(job_of(command), READS[command], what.first.split())])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 where a check finds problems, 2 for a mistake of the user's, 130
    when interrupted, 128 and its number for another signal.
    """
    _show_any_text()
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if words[0] in GROUPS and len(words) > 1 and words[1][:1] != "-" and "=" not in words[1]:
        words[:2] = [" ".join(words[:2])]
    try:
        _check_encoding(words)
        status = _run(words[0], words[1:])
        if sys.stdout is not None:
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

    if (option := COMMANDS[command].named) and rest and "=" not in rest[0] and not rest[0].startswith("-"):
        rest = [f"{option}={rest[0]}", *rest[1:]]
    words = split_words(job_of(command), rest)
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
    status = COMMANDS[command].run(config, words.overrides)
    # A part alone does not make the data again: the command that joins the parts is recorded.
    is_recorded = command in ("prepare", "train") or (command == "eval" and config.eval.benchmark is None)
    if is_recorded and (command != "prepare" or config.part is None):
        from lst.runs.folder import record_command

        record_command(config, command, words.overrides)
    return status or 0


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
    return "\n".join([f"lst {command} --dry-run: nothing is written", *_plan(command, config, overrides)])


def _plan(command: str, config: Any, overrides: Sequence[str]) -> list[str]:
    if command == "prepare":
        from lst.recipes.prepare import prepare_plan as plan
    elif command == "train":
        from lst.recipes.training.plan import peak_flops, train_plan

        return train_plan(config, peak_flops())
    elif command == "benchmark build":
        from lst.recipes.benchmark import build_plan as plan
    elif command == "eval" and config.eval.benchmark is not None:
        from lst.recipes.evaluate_benchmark import benchmark_plan as plan
    elif command == "eval":
        from lst.recipes.evaluate import evaluation_plan as plan
    elif command == "generate":
        from lst.recipes.generate import generation_plan as plan
    elif command == "export":
        from lst.recipes.export import export_plan as plan
    elif command == "synthetic":
        from lst.recipes.synthetic.synthetic import plan  # type: ignore[assignment]
    elif command.startswith("scale "):
        plans = {"fit": ("fit", "fit_plan"), "plot": ("page", "plot_plan")}
        return list(_of_scaling(*plans.get(command.split()[1], ("run", "run_plan")))(config))
    elif command.startswith("tokenizer "):
        from lst.recipes.tokenizer import plan as unit_plan

        return unit_plan(command.removeprefix("tokenizer "), config)
    else:
        return _plan_of_words(command, config, overrides)
    return plan(config)


def _plan_of_words(command: str, config: Config, overrides: Sequence[str]) -> list[str]:
    """The plan of a command that needs the words that gave its configuration."""
    if command == "check":
        from lst.recipes.check import check_plan as plan
    elif command == "card":
        from lst.recipes.corpus_card.card import card_plan as plan
    elif command == "report":
        from lst.recipes.report.write import report_plan as plan
    else:
        from lst.recipes.quickstart import quickstart_plan as plan
    return plan(config, overrides)


def _allow_places(config: Any) -> None:
    """Allows every place that the command line names, and of the places that files name those of ``storage.…``."""
    from lst.options import list_options

    named = [option.value for option in list_options(config) if isinstance(option.value, str)]
    if (storage := getattr(config, "storage", None)) is not None:
        access.allow(storage.allow_protocols, storage.allow_hosts, named, storage.max_file_bytes)


if __name__ == "__main__":
    sys.exit(main())
