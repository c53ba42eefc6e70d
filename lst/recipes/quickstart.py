"""The whole pipeline by one command: prepare, train each arm, evaluate, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lst.configs.compose import build_config, to_yaml
from lst.data.prepare import prepare
from lst.files import write_text
from lst.progress import say
from lst.recipes.evaluate import evaluate
from lst.recipes.report import write_report
from lst.recipes.run import RunFolder, arm_overrides, prepare_options
from lst.recipes.tables import results_as_text
from lst.recipes.train import train


def quickstart(overrides: Sequence[str]) -> Path:
    """Runs every stage; each is skipped where it is done. Returns the report's path.

    Raises:
        UserError: an option is wrong (also one of an arm), or a stage's input is.
    """
    started_s = time.monotonic()
    config = build_config(overrides)
    # All arms are composed first, so that a mistake in the last one shows before the first is trained.
    arms = {name: build_config(arm_overrides(config, overrides, name)) for name in config.arms}
    run = RunFolder(Path(config.run_dir))
    write_text(run.root / "config.yaml", to_yaml(config))
    say(f"1/4 prepare: {run.data}")
    prepare(run.data, prepare_options(config))
    say(f"2/4 train: {', '.join(arms)}")
    for arm in arms.values():
        train(arm)
    say("3/4 evaluate")
    results = evaluate(config)
    say("4/4 report")
    report = write_report(config, overrides)
    print(results_as_text(results))
    say(f"done in {(time.monotonic() - started_s) / 60:.1f} minutes")
    print(f"report: {report.resolve()}")
    return report
