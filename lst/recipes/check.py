"""``lst check``: all problems of a raw corpus or of prepared data, with counts, examples and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lst.configs.schema import Config
from lst.data.checks import CheckReport, SharedContent, check_corpus, check_prepared, check_units
from lst.data.corpora import on_the_fly_files
from lst.data.shards import INDEX_FILE
from lst.data.text import normaliser
from lst.errors import LstError, UserError
from lst.evaluation.benchmark import gather_items
from lst.model.hashes import HASHES_FILE, check_hashes
from lst.progress import say, show
from lst.runs import RunFolder
from lst.storage import absolute, exists, list_files, locate, named_places, write_json

PROBLEMS_EXIT = 1


def check(config: Config, overrides: Sequence[str]) -> int:
    """Checks ``corpus=``, ``items=``, and prepared data and trained models of ``run_dir=``; prints a report of each.

    Returns:
        The exit status: 0, or 1 if there is a problem.
    """
    reports: list[CheckReport] = []
    options = config.check
    data, places = config.data, named_places(config.corpus or "")
    files = on_the_fly_files(config.corpus) if "" in places else []
    if files:
        reports.append(
            check_units(
                files,
                config.tokenizer.frame_rate_hz,
                data.min_duration_s,
                data.max_duration_s,
                data.on_the_fly_units,
                options.examples,
            )
        )
    elif config.corpus is not None:
        shared = SharedContent()
        reports += [
            check_corpus(
                locate(place),
                config.layout,
                data.min_duration_s,
                data.max_duration_s,
                options.decode,
                options.examples,
                data.align,
                config.num_workers,
                data,
                data.language,
                partial(shared.add, name) if len(places) > 1 else None,
            )
            for name, place in places.items()
        ]
        if len(places) > 1:
            reports.append(shared.report(options.examples))
    if config.items is not None:
        reports.append(_check_items(config))
    if _checks_prepared(config, overrides):
        run = RunFolder.of(config)
        reports.append(check_prepared(run.data, config.data.verify == "hash", options.examples))
        if names := run.trained_models():
            reports.append(_check_models(run, names, options.examples))
    for report in reports:
        show(report.as_text())
    if options.json is not None:
        records = [report.to_record() for report in reports]
        num_problems = sum(report.num_problems for report in reports)
        write_json(Path(options.json), {"version": 1, "num_problems": num_problems, "reports": records})
        say(f"written to {options.json}")
    return PROBLEMS_EXIT if any(report.num_problems for report in reports) else 0


def _check_items(config: Config) -> CheckReport:
    """Reads the items of a benchmark as ``lst benchmark build`` does, and lists all that it would refuse."""
    report = CheckReport(f"items {config.items} as {config.benchmark.name}", config.check.examples)
    try:
        listed = gather_items(config, normaliser(config.benchmark.normaliser).apply)
    except UserError as error:
        report.extend("items", getattr(error, "problems", [str(error)]))
        return report
    for problem in listed.problems:
        report.add(problem.kind, str(problem))
    report.statistics = {"items": len(listed.items), "recordings": len(listed.recordings)}
    return report


def _check_models(run: RunFolder, names: Sequence[str], max_examples: int) -> CheckReport:
    """Compares the files of trained models with their hashes."""
    report = CheckReport(f"models in {run.root / 'models'}", max_examples)
    for name in names:
        folder = run.final(name)
        try:
            check_hashes(folder, folder / HASHES_FILE)
        except LstError as error:
            report.extend("model", getattr(error, "problems", [str(error)]), name)
    report.statistics = {"models": len(names)}
    return report


def check_plan(config: Config, overrides: Sequence[str]) -> list[str]:
    """Plan of ``lst check``, as lines of text.

    Raises:
        UserError: the corpus cannot be listed.
    """
    lines = []
    if config.corpus is not None:
        depth = "decodes all of it" if config.check.decode else "headers of audio are read"
        for place in named_places(config.corpus).values():
            there = "" if list_files(absolute(place)).fingerprint is not None else ", which is not there"
            lines.append(f"check: {place}{there} ({config.layout} layout; {depth})")
    if config.items is not None:
        lines.append(f"check: items {config.items} as {config.benchmark.name}")
    if _checks_prepared(config, overrides):
        folder = RunFolder.of(config).data
        depth = "sizes and hashes" if config.data.verify == "hash" else "sizes"
        there = "" if exists(folder / INDEX_FILE) else ", where no data is prepared"
        lines.append(f"check: prepared data in {folder}{there} ({depth} of every sample)")
    return [*lines, *([f"  would write {config.check.json}"] if config.check.json else [])]


def _checks_prepared(config: Config, overrides: Sequence[str]) -> bool:
    return (config.corpus is None and config.items is None) or any(
        override.startswith(("run_dir=", "data_dir=")) for override in overrides
    )
