"""Shows progress with rate and remaining time: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import IO

from tqdm import tqdm

from lst.errors import one_line, printable

PLAIN_INTERVAL_S = 10.0
BAR_DELAY_S = 1.0
_is_quiet = False


class Progress:
    """Context manager: shows how much of ``total`` units of work is done. Call ``advance`` for each unit.

    Args:
        total: number of units; None if not known.
        description: of the work.
        unit: name of a unit, in the singular.
        initial: units done by an earlier run; they count as done, but not towards the rate.
        stream: where to write; default: standard error.
    """

    def __init__(
        self, total: int | None, description: str, unit: str = "item", initial: int = 0, stream: IO[str] | None = None
    ) -> None:
        self.total, self.description, self.unit = total, one_line(description), unit
        self.initial = self.done = initial
        self.stream = stream if stream is not None else sys.stderr
        self.started_s = self.printed_s = time.monotonic()
        self.note = ""
        self._bar: tqdm | None = None
        if self.stream.isatty():
            self._bar = tqdm(
                total=total,
                desc=self.description,
                unit=unit,
                initial=initial,
                file=self.stream,
                delay=BAR_DELAY_S,
                dynamic_ncols=True,
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Adds ``count`` units; ``note`` (for example a loss) is shown beside them."""
        self.done += count
        self.note = one_line(note) or self.note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self.printed_s >= PLAIN_INTERVAL_S:
            self._print_line()

    def _print_line(self) -> None:
        now_s = time.monotonic()
        self.printed_s = now_s
        elapsed_s = max(now_s - self.started_s, 1e-9)
        rate = (self.done - self.initial) / elapsed_s
        if self.total is None or self.done >= self.total:
            left = f"{elapsed_s:,.0f} s"
        else:
            left = f"{(self.total - self.done) / rate:,.0f} s left" if rate > 0 else "time left unknown"
        counted = f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"
        note = f", {self.note}" if self.note else ""
        print(
            f"{self.description}: {counted} {self.unit}s, {rate:,.1f} {self.unit}s/s, {left}{note}",
            file=self.stream,
            flush=True,
        )

    def close(self) -> None:
        """Ends the bar. Without a terminal, prints a last line if the work took more than two seconds."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif time.monotonic() - self.started_s > 2.0:
            self._print_line()


@contextlib.contextmanager
def quiet(is_quiet: bool = True) -> Iterator[None]:
    """Context manager: ``say`` prints nothing in it, for a process whose twin says the same."""
    global _is_quiet
    before, _is_quiet = _is_quiet, is_quiet
    try:
        yield
    finally:
        _is_quiet = before


def say(message: str) -> None:
    """Prints a line to standard error. Standard output is only for the result of a command."""
    if not _is_quiet:
        print(printable(message), file=sys.stderr, flush=True)


def show(result: object) -> None:
    """Prints the result of a command, which may hold names and texts of foreign files, to standard output."""
    print(printable(str(result)))


def duration_text(seconds: float) -> str:
    """A duration in the unit that reads best.

    >>> duration_text(656_000), duration_text(5_000), duration_text(12)
    ('7.6 days', '1.4 hours', '12 s')
    """
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:.0f} s"


def size_text(num_bytes: float) -> str:
    """A number of bytes in the unit that reads best.

    >>> size_text(41.2e9), size_text(5_300_000), size_text(20)
    ('41 GB', '5.3 MB', '20 bytes')
    """
    for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= size:
            shown = num_bytes / size
            return f"{shown:,.0f} {name}" if shown >= 10 else f"{shown:.1f} {name}"
    return f"{num_bytes:.0f} bytes"
