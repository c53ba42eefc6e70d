"""The rule for hostile and damaged input: an error in one line that names the place, or a right result.

::

    make test          300 examples a test, the same each time
    make test-fuzz     5,000 each, others each time; LST_FUZZ_EXAMPLES=N sets their number
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, settings

from lst.cli import main
from lst.errors import LstError

MAX_GROWTH_BYTES, MAX_MESSAGE = 1 << 30, 20_000
_ASKED = os.environ.get("LST_FUZZ_EXAMPLES")
# Other tests share the cores of `make test`.
HANG_S = 10 if _ASKED else 40
fuzzed = settings(
    max_examples=int(_ASKED or 300),
    derandomize=_ASKED is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if phase != Phase.explain],
)
# Calls of some hundredths of a second.
shorter = settings(fuzzed, max_examples=max(1, fuzzed.max_examples // 5))
# Whole commands, which take up to a second.
sampled = settings(fuzzed, max_examples=max(1, fuzzed.max_examples // 50))


class HangError(BaseException):
    """A call that took too long; no handler of errors holds it up."""


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        status: its exit status.
        out, err: what it wrote.
    """

    status: int
    out: str
    err: str


def run(words: Sequence[str], place: str | Path = "") -> Outcome:
    """Runs ``lst`` in this process; fails unless it keeps to the rule. ``place`` must stand in an error."""
    out, err = io.StringIO(), io.StringIO()
    with _guarded(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    found = Outcome(status, out.getvalue(), err.getvalue())
    assert status in (0, 1, 2), found
    assert "Traceback" not in found.err, found
    if status == 2:
        _check_message(found.err.rpartition("\nlst ")[2], str(place))
    return found


def told(call: Callable[[], object], place: str | Path) -> str:
    """The error of a call, one that names ``place``; empty where it has a result. Other exceptions are not held up."""
    with _guarded(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            call()
        except LstError as error:
            message = str(error)
        except OSError as error:
            # As the command line writes it.
            message = str(error)
        else:
            return ""
    _check_message(message, str(place))
    return message


def _check_message(message: str, place: str) -> None:
    assert message.strip()
    assert place in message, message
    assert len(message) < MAX_MESSAGE, message[:1_000]
    assert "\x1b" not in message, message


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Fails where a call takes too long or asks for a gigabyte; ends the process where even that is not obeyed."""
    with open("/proc/self/statm", encoding="ascii") as file:
        num_bytes = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, _stop)
    faulthandler.dump_traceback_later(3 * HANG_S, exit=True, file=sys.__stderr__)
    resource.setrlimit(resource.RLIMIT_AS, (num_bytes + MAX_GROWTH_BYTES, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    except HangError:
        raise AssertionError(f"it takes more than {HANG_S} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        faulthandler.cancel_dump_traceback_later()


def _stop(number: int, frame: FrameType | None) -> None:
    raise HangError
