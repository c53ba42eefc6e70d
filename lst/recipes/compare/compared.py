"""Which model is better than which: tasks that several were asked, differences with intervals, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lst.errors import UserError, nearest
from lst.evaluation.accuracy import SIGNIFICANT, holm, mcnemar, paired_difference
from lst.evaluation.results import DIRECTIONS, NO_CLOZE, Direction
from lst.evaluation.summary import listed
from lst.recipes.compare.entries import Answers, Entry
from lst.recipes.compare.formats import RunComparison

# The normal distribution's 97.5 % point.
Z = 1.959964


@dataclass
class TaskGroup:
    """Models that were asked the same, or the like.

    Attributes:
        kind, title: of the first one's answers.
        members: models with their answers, in the order of the page.
    """

    kind: str
    title: str
    members: list[tuple[Entry, Answers]] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """For people."""
        names = {"questions": "Questions", "cloze": "Cloze items", "benchmark": "Benchmark"}
        return f"{names[self.kind]}: {self.title}"

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return self.members[0][1].chance

    @property
    def directions(self) -> list[Direction]:
        """Those that some model was asked in."""
        asked = {direction for _, answers in self.members for direction in answers.directions}
        return [direction for direction in DIRECTIONS if direction in asked]

    def answers_of(self, entry: Entry) -> Answers | None:
        """What a model answered; None where it was not asked."""
        return next((answers for member, answers in self.members if member is entry), None)

    def base(self, wanted: Entry) -> Entry:
        """The model that others are compared with: the one that is wanted, if it was asked."""
        members = [entry for entry, _ in self.members]
        return wanted if wanted in members else base_of(members, None)

    def takes(self, answers: Answers) -> bool:
        """Whether answers belong here: of the same items, or of a corpus or benchmark of the same name."""
        if answers.kind != self.kind:
            return False
        return answers.title == self.title or any(not _why_unpaired(own, answers) for _, own in self.members)


def group_tasks(entries: Sequence[Entry]) -> list[TaskGroup]:
    """The answers of all models by task. Cloze items count only where a model was asked no questions."""
    needs_cloze = any(
        not any(one.kind == "questions" for one in entry.answers) and any(one.kind == "cloze" for one in entry.answers)
        for entry in entries
    )
    groups: list[TaskGroup] = []
    for entry in entries:
        for answers in entry.answers:
            if answers.kind == "cloze" and not needs_cloze:
                continue
            group = next((one for one in groups if one.takes(answers) and one.answers_of(entry) is None), None)
            if group is None:
                groups.append(group := TaskGroup(answers.kind, answers.title))
            group.members.append((entry, answers))
    return groups


def base_of(entries: Sequence[Entry], wanted: str | None) -> Entry:
    """The model that others are compared with: the one of this name, else the first evaluated one without patches.

    Raises:
        UserError: no model, or more than one, has this name.
    """
    if wanted is None:
        asked = [entry for entry in entries if entry.answers] or list(entries)
        return next((entry for entry in asked if entry.line["strategy"] == "none"), asked[0])
    named = [entry for entry in entries if wanted in (entry.name, entry.line["name"])]
    if len(named) != 1:
        names = [entry.name for entry in entries]
        raise UserError(
            f"base={wanted}: {len(named)} models have this name{nearest(wanted, names)}; there are {', '.join(names)}"
        )
    return named[0]


def compare_all(groups: Sequence[TaskGroup], base: Entry, num_samples: int, seed: int) -> list[RunComparison]:
    """Every model against the base in each task and direction; p-values are corrected for all of them by Holm's method.

    In a task that the base was not asked, the first model without patches takes its place.
    """
    found: list[RunComparison] = []
    for group in groups:
        own_base = group.base(base)
        first = group.answers_of(own_base)
        assert first is not None
        for entry, second in group.members:
            if entry is own_base:
                continue
            for direction in group.directions:
                if first.credits.get(direction) and second.credits.get(direction):
                    compared = _compare(first, second, direction, num_samples, seed)
                    names = {
                        "task": group.heading,
                        "first": own_base.name,
                        "second": entry.name,
                        "direction": direction,
                    }
                    found.append({**names, **compared})  # type: ignore[typeddict-item]
    corrected = holm([one["p_value"] for one in found])
    return [{**one, "p_holm": p_value} for one, p_value in zip(found, corrected, strict=True)]


def _why_unpaired(first: Answers, second: Answers) -> str:
    """Why items of the same id need not be the same; empty where they are."""
    if first.data and first.data == second.data:
        return ""
    if first.items and first.items == second.items:
        return ""
    of = [f"{one.data[:12] or 'unknown'}" for one in (first, second)]
    if not (first.items and second.items):
        return f"the data differs ({of[0]}, {of[1]}) and the words of the items were not recorded: run lst eval again"
    return f"the items differ (data {of[0]}, {of[1]})"


def _compare(
    first: Answers, second: Answers, direction: Direction, num_samples: int, seed: int
) -> Mapping[str, object]:
    one, two = first.credits[direction], second.credits[direction]
    why = _why_unpaired(first, second)
    shared = [item for item in one if item in two]
    if not why and not shared:
        why = "no item is in both: other endings were drawn (eval.seed, eval.max_items)"
    if why:
        return {"is_paired": False, "why": why, **_unpaired(list(one.values()), list(two.values())), "p_holm": 1.0}
    before, after = (np.array([own[item] for item in shared]) for own in (one, two))
    found = paired_difference(before, after, num_samples, seed)
    return {
        "is_paired": True,
        "why": "",
        "num_items": len(shared),
        "difference": found["accuracy"],
        "low": found["low"],
        "high": found["high"],
        "p_value": mcnemar(before, after),
        "p_holm": 1.0,
    }


def _unpaired(first: Sequence[float], second: Sequence[float]) -> Mapping[str, float]:
    """Difference of two means of different items, by the normal approximation."""
    difference = float(np.mean(second) - np.mean(first))
    error = math.sqrt(float(np.var(first)) / len(first) + float(np.var(second)) / len(second))
    p_value = math.erfc(abs(difference) / error / math.sqrt(2)) if error else float(difference == 0)
    low, high = difference - Z * error, difference + Z * error
    count = min(len(first), len(second))
    return {"num_items": count, "difference": difference, "low": low, "high": high, "p_value": p_value}


def order_of(one: RunComparison) -> int:
    """1 where the model is surely better than the base, −1 where it is surely worse, 0 where that is not known."""
    if one["p_holm"] >= SIGNIFICANT or one["low"] <= 0 <= one["high"]:
        return 0
    return 1 if one["difference"] > 0 else -1


def verdict_lines(entries: Sequence[Entry], comparisons: Sequence[RunComparison]) -> list[str]:
    """A sentence for all, and one for each model and task, with the interval that says so."""
    alone = [entry for entry in entries if is_of_speech_alone(entry)]
    costs = listed([f"{entry.name} ({entry.line['bits_per_unit']:.3f} bits a unit)" for entry in alone])
    told = [f"{costs}: {NO_CLOZE}."] if alone else []
    if not any(entry.answers for entry in entries):
        return told or ["No model is evaluated: run lst eval run_dir=RUN for each run."]
    if not comparisons:
        return ["No two models were asked the same: nothing is compared.", *told]
    pairs: dict[tuple[str, str], list[RunComparison]] = {}
    for one in comparisons:
        pairs.setdefault((one["second"], one["task"]), []).append(one)
    lines = []
    for base in dict.fromkeys(one["first"] for one in comparisons):
        orders: dict[str, list[int]] = {}
        for one in comparisons:
            if one["first"] == base:
                orders.setdefault(one["second"], []).append(order_of(one))
        lines.append(f"Against {base}, {'; '.join(_in_short(own, name) for name, own in orders.items())}.")
    sentences = [f"{task}. {_sentence(name, own)}" for (name, task), own in pairs.items()]
    return [" ".join(lines), *sentences, *told]


def is_of_speech_alone(entry: Entry) -> bool:
    """Whether a model is evaluated on speech without words, of which nothing can be asked."""
    is_asked = any(answers.kind != "benchmark" for answers in entry.answers)
    return not is_asked and entry.line["is_evaluated"] and entry.line["bits_per_unit"] is not None


def _in_short(orders: Sequence[int], name: str) -> str:
    """``static is better in 3 of 4 comparisons``; ``static is not distinguishable`` where none tells them apart."""
    parts = [f"{word} in {orders.count(order)}" for word, order in (("better", 1), ("worse", -1)) if order in orders]
    told = f"{listed(parts)} of {len(orders)} comparisons" if parts else "not distinguishable"
    return f"{name} is {told}"


def _sentence(name: str, comparisons: Sequence[RunComparison]) -> str:
    base = comparisons[0]["first"]
    told = {
        order: [f"{one['direction']} ({_interval(one)})" for one in comparisons if order_of(one) == order]
        for order in (1, -1, 0)
    }
    where = "on" if told[1] or told[-1] else "in any direction:"
    parts = [
        *([f"beats {base} on {listed(told[1])}"] if told[1] else []),
        *([f"loses to {base} on {listed(told[-1])}"] if told[-1] else []),
        *([f"is not distinguishable from {base} {where} {listed(told[0])}"] if told[0] else []),
    ]
    why = "; ".join(dict.fromkeys(one["why"] for one in comparisons if one["why"]))
    counts = sorted({one["num_items"] for one in comparisons if one["is_paired"]})
    paired = f" Paired on {' or '.join(f'{count:,}' for count in counts)} items." if counts else ""
    return f"{name} {listed(parts)}.{paired}{f' Unpaired: {why}.' if why else ''}"


def _interval(one: RunComparison) -> str:
    """``+12.3 points, 8.1 to 16.4``."""
    low, high = (f"{100 * one[key]:+.1f}" for key in ("low", "high"))
    return f"{100 * one['difference']:+.1f} points, {low} to {high}".replace("-", "−")
