"""Signals that stop a training at the end of its step: Ctrl-C, ``kill``, and the warning that SLURM sends."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from lst.progress import say

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Context manager: notes the first signal once ``install`` was called; a second one ends the process at once.

    Handlers are those of the process, so nothing is installed outside its main thread. A signal that the process was
    started to ignore stays ignored. At the end, all handlers are as they were.

    Attributes:
        received: the first signal; None before it.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        return self

    def install(self) -> None:
        """Takes the signals over."""
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = signal.Signals(number)
        say(f"\n{self.received.name}: a checkpoint is saved at the end of this step; a second signal ends at once")
