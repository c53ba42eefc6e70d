"""What the command line knows of a command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """What ``lst`` can do.

    Attributes:
        run: gets the configuration and the words that gave it; may return an exit status.
        does: one line for help.
        first: the options that most people change, at most ten.
        output: the option that names its results; empty where it prints them.
        reads_run: it writes into the run that it reads.
        named: the option that a first word without ``=`` gives.
    """

    run: Callable[[Any, Sequence[str]], int | None]
    does: str
    first: str
    output: str = ""
    reads_run: bool = False
    named: str = ""
