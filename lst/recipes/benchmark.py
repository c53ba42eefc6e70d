"""``lst benchmark build NAME items=FILE out=FOLDER``: a benchmark of spoken items, or of text alone."""

from __future__ import annotations

from pathlib import Path

from lst.configs.schema import Config
from lst.errors import UserError
from lst.evaluation.benchmark import BuildPlan, build_benchmark, build_written, plan_build, plan_written
from lst.evaluation.benchmark.contexts import too_long
from lst.progress import say
from lst.recipes.benchmark_card.page import write_card_page
from lst.runs import RunFolder, open_data
from lst.storage import check_free_space


def build(config: Config) -> str:
    """Builds the benchmark and the page of its card; returns where that is.

    Raises:
        UserError: as ``plan_build``, ``plan_written`` and ``build_benchmark``.
    """
    _check_out(config)
    if config.benchmark.speech:
        plan, warnings = _planned(config)
        for line in warnings:
            say(line)
        return f"{write_card_page(build_benchmark(config, plan))}"
    return f"{write_card_page(build_written(config, plan_written(config)))}"


def build_plan(config: Config) -> list[str]:
    """Plan of the command, as lines of text; raises ``UserError`` for what the command would refuse."""
    _check_out(config)
    if config.benchmark.speech:
        plan, warnings = _planned(config)
        return [*plan.cost(config.num_workers), *warnings, f"  into {config.out}"]
    listed = plan_written(config)
    return [f"benchmark {config.benchmark.name}: {len(listed.items):,} items of text alone", f"  into {config.out}"]


def _check_out(config: Config) -> None:
    if config.out is None:
        raise UserError("out=FOLDER is missing: the folder that the benchmark goes into")


def _planned(config: Config) -> tuple[BuildPlan, list[str]]:
    """What would be built, and what models of the run could not read of it."""
    data = open_data(config)
    plan = plan_build(config, data)
    check_free_space(Path(str(config.out)), plan.num_bytes, "building")
    return plan, too_long(plan, RunFolder.of(config), data.vocabulary.unit_rate_hz)
