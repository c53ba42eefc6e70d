"""One HTML page of everything in a run: what ``lst report`` writes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from lst.configs.compose import MAIN, to_yaml
from lst.configs.reads import words_read_by
from lst.configs.schema import Config
from lst.evaluation.contamination import Contamination, contamination_of
from lst.evaluation.results import RunResults
from lst.recipes.report.adaptation import adaptation_of_run
from lst.recipes.report.audio import audio_section
from lst.recipes.report.benchmarks import benchmark_sections, contamination_sections
from lst.recipes.report.corpus import corpus_section, patches_section
from lst.recipes.report.page import Section, page
from lst.recipes.report.questions import browser_section, questions_section
from lst.recipes.report.record import RunRecord, read_run
from lst.recipes.report.results import cloze_section, cost_section, curves_section, results_section
from lst.recipes.report.spoken import spoken_section
from lst.recipes.report.text_alone import perplexity_section, text_curves_section, text_result
from lst.runs import RunFolder
from lst.runs.folder import arm_overrides
from lst.runs.versions import versions
from lst.storage import clear_partial_files, remove, write_json, write_text
from lst.storage.locks import folder_lock


class ReportedResults(RunResults, total=False):
    """``results.json``, with what of the held-out data occurs in the training where that was looked for."""

    contamination: Contamination


def write_report(config: Config, overrides: Sequence[str]) -> Path:
    """Writes ``RUN/report.html``: results, cost, curves, patches, items, audio, corpus, and how to make it all again.

    Of data that is text alone: perplexities and curves.

    Beside it, ``RUN/results.json`` holds the verdict and the numbers that it is made of, once a model is evaluated.

    Args:
        config: of the run.
        overrides: the ``key=value`` words that gave ``config``; the page repeats them in its commands.

    Returns:
        The page's path.

    Raises:
        UserError: no model is trained, or the data is not prepared or damaged.
    """
    run = read_run(config, overrides)
    if run.data.is_text_alone:
        sections = [perplexity_section(run), text_curves_section(run), reproduce_section(run)]
    else:
        sections = _speech_sections(run)
    with folder_lock(run.folder.root, work="reported", remedy="or report another run_dir=FOLDER"):
        clear_partial_files(run.folder.root)
        write_results(run)
        write_text(run.folder.report, report_page(run, sections))
    return run.folder.report


def _speech_sections(run: RunRecord) -> list[Section]:
    return [
        *([questions_section(run), browser_section(run)] if run.asks_questions else []),
        results_section(run),
        *benchmark_sections(run),
        *adaptation_of_run(run),
        *contamination_sections(run),
        cost_section(run),
        curves_section(run),
        patches_section(run),
        cloze_section(run),
        *([spoken] if (spoken := spoken_section(run)) is not None else []),
        audio_section(run),
        corpus_section(run),
        reproduce_section(run),
    ]


def write_results(run: RunRecord) -> None:
    """Writes ``RUN/results.json``; removes an earlier one where no model is evaluated any more."""
    if run.summary is None:
        remove(run.folder.results)
        return
    found: ReportedResults = {**run.summary}
    if (contamination := contamination_of(run.folder, run.data.fingerprint)) is not None:
        found["contamination"] = contamination
    write_json(run.folder.results, found)


def report_plan(config: Config, overrides: Sequence[str]) -> list[str]:
    """Plan of ``lst report``, as lines of text; raises ``UserError`` for what the command itself would refuse."""
    folder = RunFolder.of(config)
    if not folder.trained_models():
        return [f"report: it waits for trained models in {folder.root / 'models'}: none yet, run lst train"]
    run = read_run(config, overrides)
    lines = [f"report: would write {run.folder.report} of {', '.join(model.name for model in run.models)}"]
    waiting = [
        model.name
        for model in run.models
        if (text_result(run, model) if run.data.is_text_alone else model.result) is None
    ]
    return [*lines, *([f"  not evaluated: {', '.join(waiting)}"] if waiting else [])]


def report_page(run: RunRecord, sections: Sequence[Section]) -> str:
    """The HTML page of some sections of a run."""
    template = "text_report.html" if run.data.is_text_alone else "report.html"
    return page("lst.recipes.report", template, sections, run=run, written=datetime.now(timezone.utc))


@dataclass(frozen=True, kw_only=True)
class ReproduceSection(Section):
    """How to make a run again.

    Attributes:
        commands: quickstart, which does all; then prepare, train, eval and report, one after the other. Of text alone
            prepare, eval and report.
        own_configs: configuration files of the models that are not arms of the run, by name.
        of_other_data: models that were trained on other data than the run holds now.
        versions: package, its version now, and those of trainings that had another.
        config_yaml: the resolved configuration.
    """

    commands: Sequence[str]
    own_configs: Mapping[str, str]
    of_other_data: Sequence[str]
    versions: Sequence[tuple[str, str, Sequence[str]]]
    config_yaml: str


def reproduce_section(run: RunRecord) -> ReproduceSection:
    """Commands, dates, fingerprints, versions and the resolved configuration."""
    trains = [
        ["train", *arm_overrides(run.config, words_read_by("train", run.overrides, MAIN.options), name)]
        for name in run.config.arms
    ]
    whole, prepare, evaluate, report = (
        [command, *words_read_by(command, run.overrides, MAIN.options)]
        for command in ("quickstart", "prepare", "eval", "report")
    )
    data, arms = run.data.fingerprint, run.config.arms
    commands = [whole, prepare, *trains, evaluate, report]
    if run.data.is_text_alone:
        commands, arms = [prepare, evaluate, report], {}
    now = versions()
    return ReproduceSection(
        "reproduce",
        "Make it again",
        commands=[shlex.join(["lst", *words]) for words in commands],
        own_configs={
            model.name: str(run.folder.model(model.name) / "config.yaml")
            for model in run.models
            if model.name not in arms
        },
        of_other_data=[model.name for model in run.models if model.trained_on not in ("", data)],
        versions=[
            (package, now.get(package, "absent"), _other_versions(run, package, now.get(package)))
            for package in sorted({*now, *(name for model in run.models for name in model.versions)})
        ],
        config_yaml=to_yaml(run.config),
    )


def _other_versions(run: RunRecord, package: str, now: str | None) -> list[str]:
    """Versions of a package that trainings had, where they differ from the one that is installed now."""
    return sorted(
        f"{model.name}: {model.versions.get(package, 'absent')}"
        for model in run.models
        if model.versions and model.versions.get(package) != now
    )
