"""``lst benchmark build NAME items=FILE out=FOLDER``: makes a spoken benchmark of a text one."""

from __future__ import annotations

from pathlib import Path

from lst.configs.schema import Config
from lst.errors import UserError
from lst.evaluation.benchmark import BuildPlan, build_benchmark, plan_build
from lst.evaluation.benchmark.formats import PAGE_FILE
from lst.runs import open_data
from lst.storage import check_free_space


def build(config: Config) -> str:
    """Builds the benchmark; returns where its card is.

    Raises:
        UserError: as ``plan_build`` and ``build_benchmark``.
    """
    return f"{build_benchmark(config, _planned(config)) / PAGE_FILE}"


def build_plan(config: Config) -> list[str]:
    """Plan of the command, as lines of text; raises ``UserError`` for what the command would refuse."""
    return [*_planned(config).cost(config.num_workers), f"  into {config.out}"]


def _planned(config: Config) -> BuildPlan:
    if config.out is None:
        raise UserError("out=FOLDER is missing: the folder that the benchmark goes into")
    plan = plan_build(config, open_data(config))
    check_free_space(Path(config.out), plan.num_bytes, "building")
    return plan
