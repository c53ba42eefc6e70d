"""Single items to read and hear, with what each model chose, where a run holds its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lst.data.audio import audio_exists, read_row_audio
from lst.data.prepared import PreparedData, speech_name
from lst.data.utterance import Utterance
from lst.errors import LstError
from lst.evaluation.benchmark import Benchmark
from lst.evaluation.cloze import ClozeItem, ending_start
from lst.evaluation.controls import items_of_cloze
from lst.evaluation.items import Item, question_items
from lst.evaluation.results import DIRECTIONS, ClozeRow, Direction, ItemRow
from lst.recipes.compare.compared import TaskGroup
from lst.recipes.compare.entries import Answers
from lst.recipes.report.benchmark_items import browsed_items
from lst.recipes.report.page import Section
from lst.recipes.report.questions import (
    LETTERS,
    STRATUM_NAMES,
    Answer,
    BrowsedQuestion,
    SpokenParts,
    answer_of,
    drawn_questions,
    rows_by_item,
)


@dataclass(frozen=True)
class OpenedData:
    """Prepared data of a run, whose audio is heard."""

    data: PreparedData

    @property
    def speech(self) -> str:
        """What its speech is called."""
        return speech_name(self.data.index)

    @cached_property
    def valid(self) -> Mapping[str, Utterance]:
        """Held-out utterances by id."""
        return {utterance.id: utterance for utterance in self.data.valid}

    def has_audio(self, utterance: Utterance) -> bool:
        """Whether the audio of an utterance is where the manifest says."""
        row = self.data.manifest.get(utterance.id)
        return row is not None and audio_exists(row.audio_ref)

    def waveform_of(self, utterance: Utterance) -> npt.NDArray[np.float32]:
        """The audio of an utterance, float32 [num_samples] at 16 kHz."""
        return read_row_audio(self.data.manifest[utterance.id])


@dataclass(frozen=True, kw_only=True)
class ItemsSection(Section):
    """Items of one task.

    Attributes:
        lead: what they are of.
        questions: to read and hear.
        num_all: how many there are.
        problem: why none are shown; empty where some are.
        silence: why some have no sound.
        is_decoded: whether sounds are decoded from units.
    """

    lead: str
    questions: Sequence[BrowsedQuestion] = ()
    num_all: int = 0
    problem: str = ""
    silence: str = ""
    is_decoded: bool = False
    directions: Sequence[str] = DIRECTIONS
    letters: str = LETTERS


def items_section(group: TaskGroup, number: int, count: int, seed: int) -> ItemsSection:
    """Some items of a task, drawn from the seed, with what each model chose; or why they cannot be shown."""
    name, title, template = f"items-{number}", "Items, one by one", "compare_items.html"
    if not count:
        return ItemsSection(name, title, template=template, lead=group.heading)
    if group.kind == "benchmark":
        return _of_benchmark(group, ItemsSection(name, title, template=template, lead=group.heading), count, seed)
    found, problem = _opened(group)
    if found is None:
        return ItemsSection(name, title, template=template, lead=group.heading, problem=problem)
    source, answers = found
    same = [(entry, own) for entry, own in group.members if own.data == answers.data]
    drawn, num_all = _drawn(source, answers, count, seed)
    sounds = SpokenParts(source)
    questions = [
        BrowsedQuestion(
            item.id,
            STRATUM_NAMES.get(item.stratum, item.stratum or "cloze"),
            sounds.part(item.context),
            [sounds.part(ending, place == item.label) for place, ending in enumerate(item.endings)],
            [(entry, _chosen(own, item)) for entry, own in same],
        )
        for item in drawn
    ]
    return ItemsSection(
        name,
        title,
        template=template,
        lead=f"{group.heading} ({source.speech})",
        questions=questions,
        num_all=num_all,
        silence=sounds.problem,
        is_decoded=sounds.is_decoded,
    )


def _of_benchmark(group: TaskGroup, section: ItemsSection, count: int, seed: int) -> ItemsSection:
    """The section with items of the benchmark's folder, or why they cannot be shown."""
    benchmark, problem = _scored_benchmark(group)
    if benchmark is None:
        return replace(section, problem=problem)
    same = [(entry, own) for entry, own in group.members if own.data == benchmark.fingerprint]
    try:
        questions, silence = browsed_items(
            benchmark, count, seed, lambda item: [(entry, _asked(own, item, group.directions)) for entry, own in same]
        )
    except LstError as error:
        return replace(section, problem=str(error))
    return replace(
        section,
        lead=f"{group.heading} ({benchmark.card['speech']})",
        questions=questions,
        num_all=len(benchmark.questions),
        silence=silence,
        directions=group.directions,
    )


def _scored_benchmark(group: TaskGroup) -> tuple[Benchmark | None, str]:
    """The first benchmark that a model was scored on and that is still in its folder; or why there is none."""
    problem = "the evaluations do not say where the benchmark lies: run lst eval eval.benchmark=FOLDER again"
    for _, answers in group.members:
        if not answers.folder:
            continue
        try:
            benchmark = Benchmark(Path(answers.folder), verify_hash=False)
            if benchmark.fingerprint == answers.data:
                return benchmark, ""
            problem = f"{answers.folder} holds another benchmark than the one that was scored"
        except LstError as error:
            problem = f"{error} Where it was moved, run lst eval eval.benchmark=FOLDER again"
    return None, problem


def _asked(answers: Answers, item: str, directions: Sequence[Direction]) -> list[Answer | None]:
    """What a model chose in some directions, by the headline score of each."""
    rows: list[ItemRow] = [row for row in answers.rows if row["item"] == item]  # type: ignore[typeddict-item, misc]
    found = rows_by_item(rows)
    scores = answers.directions
    return [
        answer_of(found[item, direction], scores[direction]["score"]) if direction in scores else None
        for direction in directions
    ]


def _opened(group: TaskGroup) -> tuple[tuple[OpenedData, Answers] | None, str]:
    """The data of the first run that holds that of its answers, with these; or why there is none."""
    problem = "no run holds the data that it was evaluated on (prepared elsewhere, with data_dir=)"
    for entry, answers in group.members:
        if not (entry.run / "data").is_dir():
            continue
        try:
            data = PreparedData(entry.run / "data")
            if data.fingerprint == answers.data:
                return (OpenedData(data), answers), ""
        except LstError as error:
            problem = str(error)
    return None, problem


def _drawn(source: OpenedData, answers: Answers, count: int, seed: int) -> tuple[list[Item], int]:
    """Some items, and how many there are."""
    data = source.data
    if answers.kind == "questions":
        chosen = drawn_questions(data.questions, count, seed)
        wanted = {name for question in chosen for name in question.utterances}
        return question_items(chosen, {one.id: one for one in data.question_parts if one.id in wanted}), len(
            data.questions
        )
    result = answers.result
    assert result is not None
    pairs: list[ClozeRow] = [row for row in answers.rows if row["direction"] == DIRECTIONS[0]]  # type: ignore[misc]
    order = np.random.default_rng([0xB0A, seed]).permutation(len(pairs))[:count]
    share = float(result["options"].get("context_share", 0.6))
    items = []
    for place in order:
        row = pairs[place]
        if row["utterance"] in source.valid and row["other"] in source.valid:
            own, other = source.valid[row["utterance"]], source.valid[row["other"]]
            items.append(ClozeItem(own, ending_start(own, share), other, ending_start(other, share)))
    return items_of_cloze(items), len(pairs)


def _chosen(answers: Answers, item: Item) -> list[Answer | None]:
    """What a model chose in each direction."""
    if answers.kind == "questions":
        return _asked(answers, item.id, DIRECTIONS)
    cloze: list[ClozeRow] = [row for row in answers.rows if row["utterance"] == item.id]  # type: ignore[typeddict-item, misc]
    by_direction = {row["direction"]: row for row in cloze}
    return [_of_cloze(by_direction[direction]) if direction in by_direction else None for direction in DIRECTIONS]


def _of_cloze(row: ClozeRow) -> Answer:
    true, false = row["true_nats"] / max(row["true_tokens"], 1), row["false_nats"] / max(row["false_tokens"], 1)
    margin = 0.0 if min(row["true_tokens"], row["false_tokens"]) == 0 else true - false
    return Answer("" if margin == 0 else LETTERS[margin < 0], margin > 0, margin)
