"""The whole pipeline by one command: prepare, train each arm, evaluate, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lst.configs.compose import build_config, to_yaml
from lst.configs.schema import Config
from lst.data.prepare import prepare
from lst.data.shards import INDEX_FILE
from lst.errors import UserError
from lst.evaluation import cloze_items
from lst.parallel import check_one_process
from lst.progress import say, show
from lst.recipes.corpus_card.card import card_after_prepare
from lst.recipes.evaluate import evaluate, found_ceilings, results_as_text
from lst.recipes.prepare import prepare_options, prepare_plan
from lst.recipes.report.write import write_report
from lst.recipes.training.plan import peak_flops, train_plan
from lst.recipes.training.train import train
from lst.runs import RunFolder, open_data
from lst.runs.folder import arm_overrides, record_command
from lst.storage import exists, write_text


def check_arm_groups(config: Config, overrides: Sequence[str]) -> None:
    """Raises ``UserError`` for a group that arms choose themselves: the user's choice would be lost without a word."""
    chosen = {override.partition("=")[0] for override in overrides} & {"model", "patching"}
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
    return arms


def quickstart_plan(config: Config, overrides: Sequence[str]) -> list[str]:
    """Plan of all stages, as lines of text; raises ``UserError`` for what the command itself would refuse."""
    check_one_process("lst quickstart")
    arms = checked_arms(config, overrides)
    lines, peak = prepare_plan(config), peak_flops()
    for arm in arms.values():
        lines += train_plan(arm, peak)
    if exists(RunFolder.of(config).data / INDEX_FILE):
        cloze_items(list(open_data(config).valid), config.eval, config.seed)
    return lines


def quickstart(overrides: Sequence[str]) -> Path:
    """Runs every stage; each is skipped where it is done. Returns the report's path.

    Raises:
        UserError: an option is wrong (also one of an arm), or a stage's input is.
    """
    check_one_process("lst quickstart")
    started_s = time.monotonic()
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
    for arm in arms.values():
        train(arm)
    say("3/4 evaluate")
    results = evaluate(config)
    record_command(config, "quickstart", overrides)
    say("4/4 report")
    report = write_report(config, overrides)
    show(results_as_text(results, found_ceilings(config, results)))
    say(f"done in {(time.monotonic() - started_s) / 60:.1f} minutes")
    show(f"report: {report.resolve()}")
    return report
