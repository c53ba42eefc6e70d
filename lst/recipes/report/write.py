"""One HTML page of everything in a run: what ``lst report`` writes. It needs no other file and no network."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from lst.configs.compose import to_yaml
from lst.configs.schema import Config
from lst.recipes.report.audio import audio_section
from lst.recipes.report.corpus import corpus_section, patches_section
from lst.recipes.report.page import Html, Section, bold, code, element, head, joined, page, paragraph, table
from lst.recipes.report.record import RunRecord, read_run, utc_text
from lst.recipes.report.results import cloze_section, cost_section, curves_section, results_section
from lst.runs.folder import arm_overrides, versions
from lst.storage import write_text


def write_report(config: Config, overrides: Sequence[str]) -> Path:
    """Writes ``RUN/report.html``: results, cost, curves, patches, items, audio, corpus, and how to make it all again.

    Args:
        config: of the run.
        overrides: the ``key=value`` words that gave ``config``; the page repeats them in its commands.

    Returns:
        The page's path.

    Raises:
        UserError: no model is trained, or the data is not prepared or damaged.
    """
    run = read_run(config, overrides)
    sections = [
        results_section(run),
        cost_section(run),
        curves_section(run),
        patches_section(run),
        cloze_section(run),
        audio_section(run),
        corpus_section(run),
        reproduce_section(run),
    ]
    name = run.folder.root.resolve().name
    bottom = joined(
        f"Written {utc_text(datetime.now(timezone.utc))} by ", code("lst report"), ". This page is one file."
    )
    write_text(run.folder.report, page(f"{name}: speech-text run", _top(run, name), sections, bottom))
    return run.folder.report


def _top(run: RunRecord, name: str) -> Html:
    models = ", ".join(model.name for model in run.models)
    plural = "s" if len(run.models) > 1 else ""
    provenance = (
        "All of its audio is synthesised speech: its numbers compare models with one another, and say little about "
        "recordings of people."
        if run.is_synthesised
        else "Its audio is recordings."
    )
    lead = paragraph(
        f"{len(run.models)} language model{plural} of speech units and text pieces ({models}), trained on ",
        bold(run.data.index["description"]),
        ", and asked which of two endings belongs to an utterance, heard or read. ",
        provenance,
        class_="lead",
    )
    return joined(paragraph("Latent speech-text models · run report", class_="eyebrow"), element("h1", name), lead)


def reproduce_section(run: RunRecord) -> Section:
    """Commands, dates, fingerprints, versions and the resolved configuration."""
    parts = [
        paragraph("All of it by one command, which skips what is done:"),
        _commands([["lst", "quickstart", *run.overrides]]),
        paragraph("Or step by step:"),
        _commands(step_commands(run)),
    ]
    if others := [model.name for model in run.models if model.name not in run.config.arms]:
        places = ", ".join(str(run.folder.model(name) / "config.yaml") for name in others)
        parts.append(
            paragraph(f"{', '.join(others)}: trained by a command of its own, with the options in ", code(places), ".")
        )
    changed = [
        model.name for model in run.models if model.settings.get("data", run.data.fingerprint) != run.data.fingerprint
    ]
    if changed:
        parts.append(
            paragraph(f"{', '.join(changed)}: trained on other data than lies here now; train again.", class_="note")
        )
    parts += [
        table([head("what"), head("which", class_="left")], _facts(run)),
        element("details", element("summary", "Versions"), _versions_table(run)),
        element("details", element("summary", "Resolved configuration"), element("pre", to_yaml(run.config))),
    ]
    return Section("reproduce", "Make it again", joined(*parts))


def step_commands(run: RunRecord) -> list[list[str]]:
    """The words of each command: prepare, train once an arm with the options that quickstart gives it, eval, report."""
    train = [["lst", "train", *arm_overrides(run.config, run.overrides, name)] for name in run.config.arms]
    before, after = (
        [["lst", command, *run.overrides] for command in commands] for commands in (["prepare"], ["eval", "report"])
    )
    return [*before, *train, *after]


def _commands(commands: Sequence[Sequence[str]]) -> Html:
    return element("pre", "\n".join(shlex.join(words) for words in commands), tabindex="0")


def _facts(run: RunRecord) -> list[list[Html]]:
    index, vocabulary = run.data.index, run.data.vocabulary
    facts = [
        ("seed", str(run.config.seed)),
        ("data fingerprint", run.data.fingerprint),
        ("codebook of speech units, SHA-256", index["units_sha256"]),
        ("text tokenizer, SHA-256", index["text_sha256"]),
        (
            "joint vocabulary",
            f"{vocabulary.fingerprint}: {vocabulary.num_text} text pieces, {vocabulary.num_units} units",
        ),
        ("aligner", index["aligner"]),
        ("prepared", utc_text(run.prepared)),
        *((f"trained {model.name}", utc_text(model.finished)) for model in run.models),
    ]
    return [[element("td", name), element("td", value, class_="wrap")] for name, value in facts]


def _versions_table(run: RunRecord) -> Html:
    """Versions now, and those of a training where they differ."""
    now = versions()
    rows = []
    for package in sorted({*now, *(name for model in run.models for name in model.versions)}):
        then = {
            f"{model.name}: {model.versions.get(package, 'absent')}"
            for model in run.models
            if model.versions and model.versions.get(package) != now.get(package)
        }
        rows.append(
            [
                element("td", package),
                element("td", now.get(package, "absent"), class_="left"),
                element("td", ", ".join(sorted(then)), class_="wrap"),
            ]
        )
    return table(
        [head("package"), head("this report", class_="left"), head("training, where other", class_="left")], rows
    )
