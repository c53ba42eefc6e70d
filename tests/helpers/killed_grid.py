"""Runs ``lst scale run`` again and again, each time killed at another moment of a model, and then to its end.

``python killed_grid.py WORD …``: words of the command. Each run is a fork of this process, which has imported all
and has trained nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import lst.recipes.scaling.cells as scaled_cells
import lst.recipes.training.train  # noqa: F401
from lst.cli import main
from lst.recipes.training.callbacks import RunCallback


def killed_after(owner: Any, name: str, count: int) -> None:
    """Lets the ``count``-th call of a function be this process's last."""
    before: Callable[..., Any] = getattr(owner, name)
    calls = []

    def called(*arguments: Any, **named: Any) -> Any:
        result = before(*arguments, **named)
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, called)


# In a model's training, after it, in and after its evaluation, and after its point.
MOMENTS = [
    (RunCallback, "_append", 1),
    (RunCallback, "_save", 1),
    (scaled_cells, "train", 1),
    (scaled_cells, "open_trained", 1),
    (scaled_cells, "evaluate_model", 1),
    (scaled_cells, "write_json", 1),
    (RunCallback, "_save", 4),
    (scaled_cells, "write_json", 3),
    (RunCallback, "_append", 5),
]


def run(words: Sequence[str], moment: tuple[Any, str, int] | None) -> int:
    """The exit status of a run, −9 where it was killed."""
    process = os.fork()
    if process == 0:
        if moment is not None:
            killed_after(*moment)
        os._exit(main(words))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    ended = [run(sys.argv[1:], moment) for moment in MOMENTS]
    print(ended)
    sys.exit(0 if set(ended) == {-signal.SIGKILL} and run(sys.argv[1:], None) == 0 else 1)
