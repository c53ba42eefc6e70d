"""Results as plain text, for the terminal."""

from __future__ import annotations

from typing import Any

from lst.configs.schema import DIRECTIONS


def results_as_text(results: dict[str, dict[str, Any]]) -> str:
    """A line a model: accuracies in per cent, length-normalised and summed, and bits."""
    first = next(iter(results.values()))
    num_items = first["cloze"][DIRECTIONS[0]]["num_items"]
    width = max(map(len, [*results, "model"]))
    header = (
        f"{'model':<{width}}  " + "  ".join(f"{direction:>17}" for direction in DIRECTIONS) + "   bits/unit  bits/byte"
    )
    lines = [
        f"cloze accuracy, % (mean log-likelihood a token [95 % interval] / summed), {num_items} items; chance is 50",
        header,
    ]
    for name, result in results.items():
        cells = [cloze_cell(result["cloze"][direction]) for direction in DIRECTIONS]
        bits = result["bits"]
        lines.append(
            f"{name:<{width}}  " + "  ".join(f"{cell:>17}" for cell in cells)
            + f"   {bits['bits_per_unit']:>9.3f}  {bits['bits_per_byte']:>9.3f}"
        )  # fmt: skip
    counts = {name: result["bits"]["num_units"] for name, result in results.items()}
    if len(set(counts.values())) > 1:
        once = ", ".join(name for name, count in counts.items() if count < max(counts.values()))
        lines.append(
            f"bits/unit of {once} are of units read once (patching.deduplicate=true): these and others do not compare"
        )
    return "\n".join(lines)


def cloze_cell(cell: dict[str, Any]) -> str:
    """``61.2 [55–67]/58.0``: mean-normalised accuracy with its interval, then the summed one."""
    mean, total = cell["mean"], cell["sum"]
    return (
        f"{100 * mean['accuracy']:.1f} [{100 * mean['low']:.0f}–{100 * mean['high']:.0f}]/{100 * total['accuracy']:.1f}"
    )
