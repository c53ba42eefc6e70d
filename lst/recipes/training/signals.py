"""Signals that stop a training at the end of its step: Ctrl-C, ``kill``, and the warning that SLURM sends."""

from __future__ import annotations

import os
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

    Args:
        limit_s: the process ends if the block is not left so long after the first signal; None sets no limit.
        is_handed_on: whether another process hands the signals on, and ends this one by itself.

    Attributes:
        received: the first signal; None before it.
    """

    def __init__(self, limit_s: float | None = None, is_handed_on: bool = False) -> None:
        self.limit_s, self.is_handed_on = limit_s, is_handed_on
        self._timer: threading.Timer | None = None
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
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            # A signal to all processes of a job comes twice to one that is also handed it on.
            if self.is_handed_on:
                return
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = signal.Signals(number)
        if self.limit_s is not None:
            self._timer = threading.Timer(self.limit_s, self._end)
            self._timer.daemon = True
            self._timer.start()
        say(f"\n{self.received.name}: a checkpoint is saved at the end of this step; a second signal ends at once")

    def _end(self) -> None:
        assert self.received is not None
        say(
            f"{self.received.name}: no checkpoint was written within train.preempt_s={self.limit_s:g} s; the same "
            "command goes on from the one before"
        )
        # The main thread may wait for a device, or for other processes, and never look again.
        os._exit(128 + self.received)
