"""Accuracies as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lst.evaluation.accuracy import ALL, SIGNIFICANT, headline_accuracy
from lst.evaluation.ceilings_results import OracleScore
from lst.evaluation.results import Accuracy, ControlScore, DirectionScore, ItemKind


def percent(found: Accuracy) -> str:
    """``61.2 [55–67]``: an accuracy with its interval, in per cent."""
    return f"{100 * found['accuracy']:.1f} [{100 * found['low']:.0f}–{100 * found['high']:.0f}]"


def headline_cell(score: DirectionScore, stratum: str) -> str:
    """The headline accuracy with its interval, and the one by the mean a token behind it."""
    mean = score["strata"][stratum]["mean"]
    return f"{percent(headline_accuracy(score, stratum))}/{100 * mean['accuracy']:.1f}".rjust(19)


def oracles_as_text(oracles: Sequence[OracleScore]) -> list[str]:
    """A line for each oracle: its headline accuracy of each stratum, in the directions that it knows."""
    if not oracles:
        return []
    lines = ["", "what oracles reach on the same questions: accuracy, %"]
    width = max(len(oracle["name"]) for oracle in oracles)
    for oracle in oracles:
        for direction, score in oracle["questions"].items():
            found = {stratum: headline_accuracy(score, stratum)["accuracy"] for stratum in score["strata"]}
            cells = [f"{stratum} {100 * share:.1f}" for stratum, share in found.items()]
            lines.append(f"{oracle['name']:<{width}}  {direction}  {', '.join(cells)}")
    return lines


def controls_as_text(controls: Mapping[ItemKind, Mapping[str, ControlScore]], chance: float = 0.5) -> list[str]:
    """A line for each control, with its accuracy on each kind of items; why those that miss items do."""
    kinds = list(controls)
    if not kinds:
        return []
    lines = [
        "",
        f"controls, which choose an ending without its content: accuracy, % [95 % interval]; chance is "
        f"{100 * chance:.3g}; * marks what is off it (p < {SIGNIFICANT} for all together)",
        "  ".join([f"{'control':<14}", *(f"{kind:>16}" for kind in kinds), "  chooses the ending"]),
    ]
    for name, first in controls[kinds[0]].items():
        cells = [_control_cell(controls[kind][name]) for kind in kinds]
        lines.append("  ".join([f"{name:<14}", *cells, f"  {first['chooses']}"]))
    reasons: dict[str, list[str]] = {}
    for kind in kinds:
        for name, score in controls[kind].items():
            if score["missing"]:
                reasons.setdefault(f"{kind}: {score['missing']}", []).append(name)
    return lines + [f"{', '.join(names)} of {reason}" for reason, names in reasons.items()]


def _control_cell(score: ControlScore) -> str:
    found = score["strata"].get(ALL)
    return (
        f"{percent(found)}{'*' if score['p_holm'] < SIGNIFICANT else ' '}".rjust(16) if found else "–".rjust(15) + " "
    )
