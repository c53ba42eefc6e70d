"""Calls a Python program again and again, each time in a process of its own; run as a script.

Starting Python takes as long as speaking a sentence. Here the program is imported once, and every call is a fork of
that process: its memory is what the import left, so results repeat, a fault ends one call alone, and it can be stopped.

The script imports the standard library alone. Its argument is the program: a module, or a file that ends in ``.py``;
both have a function ``main``. Standard input has a call a line: a JSON list of a folder, a time limit in seconds and
the arguments. The answer is a line, too: the exit status, -N where signal N ended the call, or ``late``. What the
program prints is in the file ``OUTPUT_FILE`` of the folder.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # The modules beside this script are not those that a program asks for.
    sys.path[:] = [place for place in sys.path if place != os.path.dirname(os.path.abspath(__file__))]

import contextlib
import importlib
import importlib.util
import json
import select
import signal
import traceback
from types import FrameType, ModuleType

OUTPUT_FILE, LATE = "output.txt", "late"
# Without a call for so long it ends, also where a process that was forked of its parent still holds the pipe.
IDLE_S = 20.0


def _loaded(program: str) -> ModuleType:
    if not program.endswith(".py"):
        return importlib.import_module(program)
    spec = importlib.util.spec_from_file_location("program", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _call(program: ModuleType, folder: str, arguments: list[str]) -> int:
    """The call itself, in the forked process; returns its exit status."""
    os.chdir(folder)
    output = os.open(OUTPUT_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(old, new)
    sys.argv[1:] = arguments
    try:
        return int(program.main() or 0)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _answer(program: ModuleType, folder: str, limit_s: float, arguments: list[str]) -> str:
    process = os.fork()
    if process == 0:
        status = 1
        try:
            status = _call(program, folder, arguments)
        finally:
            os._exit(status)
    late = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal late
        late = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    status = os.waitpid(process, 0)[1]
    signal.setitimer(signal.ITIMER_REAL, 0)
    return LATE if late else str(os.waitstatus_to_exitcode(status))


def main() -> None:
    """Answers calls until there are no more."""
    # Ctrl-C ends it without a word: what asked for the call says what happened.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    program = _loaded(sys.argv[1])
    while select.select([sys.stdin], [], [], IDLE_S)[0] and (line := sys.stdin.readline()):
        folder, limit_s, arguments = json.loads(line)
        print(_answer(program, folder, limit_s, arguments), flush=True)


if __name__ == "__main__":
    main()
