"""Whether the rate of ``model=family`` carries over from its smallest to its largest size: ``make bench-mup``.

::

    arm × depth × factor of the family's rate ──▶ a short training ──▶ mean loss of its last fifth
                                                                        │
    the factor with the least loss at each depth  ◀─────────────────────┘  agrees, if within a factor of two

All trainings of an arm see the same batches. They are short: the loss of a long one may prefer a lower rate.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import torch

from lst.configs.compose import build_config
from lst.data.prepare import prepare
from lst.model.checkpoint import load_model
from lst.recipes.training.train import train
from lst.runs import RunFolder
from lst.runs.formats import read_metrics
from lst.runs.preparing import prepare_options
from lst.storage import write_json, write_text

ARMS = {
    "baseline": ("model=family", "patching=none"),
    "static": ("model=family", "patching=static"),
    "hybrid": ("model=family_h3", "patching=none"),
}
DATA = (
    *("corpus=simulated", "data.stories=mini", "data.num_spoken_stories=300", "data.num_text_stories=300"),
    "data.num_questions=0",
)
# Factors that are neighbours in the default list differ by this: a finer optimum is noise.
AGREES_WITHIN = 2.0
FOLDER = Path("runs/bench")


class TransferRow(TypedDict):
    """A training: the factor of the family's rate, and its loss in nats a target."""

    arm: str
    depth: int
    factor: float
    learning_rate: float
    num_parameters: int
    loss: float


def main(words: Sequence[str] | None = None) -> None:
    """Trains, and writes ``runs/bench/mup.json`` and ``mup.md``."""
    options = _options(words)
    torch.set_num_threads(1)
    rows: list[TransferRow] = []
    with tempfile.TemporaryDirectory() as folder:
        prepared = build_config([f"run_dir={folder}", *DATA])
        prepare(RunFolder.of(prepared).data, prepare_options(prepared))
        for arm, depth, factor in itertools.product(options.arms, options.depths, options.factors):
            rows.append(_trained(Path(folder), arm, depth, factor, options.steps, options.words))
            print(f"{arm}, depth {depth}, {factor:g} × the rate: {rows[-1]['loss']:.4f}", flush=True)
    write_json(FOLDER / "mup.json", rows)
    write_text(FOLDER / "mup.md", transfer_table(rows))
    print(transfer_table(rows))


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--depths", nargs="+", type=int, default=[2, 6])
    parser.add_argument("--factors", nargs="+", type=float, default=[0.25, 0.5, 1.0, 2.0, 4.0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--words", nargs="*", default=[], help="options of lst train, such as train.rows=1")
    return parser.parse_args(words)


def _trained(root: Path, arm: str, depth: int, factor: float, steps: int, words: Sequence[str]) -> TransferRow:
    name = f"{arm}-{depth}-{factor:g}".replace(".", "_")
    own = [
        *(f"run_dir={root}", f"name={name}", f"model.depth={depth}", *ARMS[arm], *words),
        *(f"train.max_steps={steps}", f"train.eval_every={steps}", f"train.checkpoint_every={steps}"),
    ]
    rate = factor * build_config(own).train.learning_rate
    config = build_config([*own, f"train.learning_rate={rate}"])
    train(config)
    run = RunFolder.of(config)
    losses = [row["loss"] for row in read_metrics(run.model(name) / "metrics.jsonl")[0]]
    last = losses[-max(1, steps // 5) :]
    return TransferRow(
        arm=arm,
        depth=depth,
        factor=factor,
        learning_rate=rate,
        num_parameters=load_model(run.final(name))[0].num_parameters,
        loss=sum(last) / len(last),
    )


def transfer_table(rows: Sequence[TransferRow]) -> str:
    """Losses by factor and depth as Markdown, the least of each depth marked, and whether depths agree by arm."""
    factors = sorted({row["factor"] for row in rows})
    lines = [
        f"| arm | depth | parameters | {' | '.join(f'{factor:g} × rate' for factor in factors)} |",
        "|" + "---|" * (3 + len(factors)),
    ]
    best: dict[str, dict[int, float]] = {}
    groups = itertools.groupby(rows, key=lambda row: (row["arm"], row["depth"]))
    for (arm, depth), members in groups:
        losses = {row["factor"]: row for row in members}
        best.setdefault(arm, {})[depth] = least = min(losses, key=lambda factor: losses[factor]["loss"])
        cells = [
            f"**{losses[factor]['loss']:.3f}**" if factor == least else f"{losses[factor]['loss']:.3f}"
            for factor in factors
        ]
        lines.append(f"| {arm} | {depth} | {losses[least]['num_parameters']:,} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(_verdict(arm, found, factors) for arm, found in best.items())]) + "\n"


def _verdict(arm: str, best: Mapping[int, float], factors: Sequence[float]) -> str:
    shown = ", ".join(f"{factor:g} at depth {depth}" for depth, factor in best.items())
    told = f"{arm}: the best factors are {shown}"
    if max(best.values()) > AGREES_WITHIN * min(best.values()):
        return f"{told}: they DIFFER"
    if {*best.values()} & {factors[0], factors[-1]}:
        return f"{told}: not decided, as one is the least or the greatest that was tried"
    return f"{told}: they agree"


if __name__ == "__main__":
    main()
