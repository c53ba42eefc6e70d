"""Forks ``python`` commands with everything imported; ``forked.py`` asks for them.

``python fork_server.py DESCRIPTOR``: of the socket on which jobs come. Each job is done by a fork that leaves ``serve``
and ends as any interpreter does, so what a command does at its exit is done too. The fork's parent ends at once, and
the fork becomes a child of the process that asked, which adopts it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import runpy
import signal
import socket
import struct
import sys
import time
from types import ModuleType

import forked

# Imported by commands when they need it; optimisers import the first at their first step, which takes seconds.
MODULES = (
    *("torch._dynamo", "torchaudio.functional", "torchaudio.transforms", "matplotlib.figure", "sklearn.cluster"),
    *("pocketsphinx", "sentencepiece", "webdataset"),
)


def import_all() -> None:
    """Imports what commands import, and lets the configuration be read for the first time."""
    from lst.commands import COMMANDS, recipe_of
    from lst.configs.compose import build_config

    for module in MODULES:
        importlib.import_module(module)
    for command in COMMANDS.values():
        recipe_of(command.recipe)
        recipe_of(command.plan_recipe)
    build_config(["experiment=smoke"])


def serve(link: socket.socket) -> forked.Job:
    """Forks for every job. Returns in each fork, with its job; the server itself ends when nobody can ask any more."""
    pid = struct.Struct("!I")
    while (asked := forked.read_job(link)) is not None:
        job, files = asked
        ours, theirs = os.pipe()
        if (between := os.fork()) == 0:
            between = os.getpid()
            if os.fork():
                os._exit(0)
            os.setsid() if job["group"] == 0 else os.setpgid(0, job["group"])
            os.write(theirs, pid.pack(os.getpid()))
            os.close(ours)
            os.close(theirs)
            link.close()
            while os.getppid() == between:
                time.sleep(0.001)
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            return job
        os.close(theirs)
        number = pid.unpack(os.read(ours, pid.size))[0]
        os.waitpid(between, 0)
        for file in (ours, *files):
            os.close(file)
        forked.write_number(link, number)
    os._exit(0)


def set_up(job: forked.Job) -> None:
    """Makes this process what a new interpreter would be."""
    import torch

    # Those of the server know of its files whether they can seek.
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(os.fdopen(0, "rb", closefd=False))
    for name, number in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        made = io.TextIOWrapper(
            os.fdopen(number, "wb", closefd=False), before.encoding, before.errors, line_buffering=number == 2
        )
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    paths = job["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in paths if path and path not in sys.path]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))


def run(words: list[str]) -> None:
    """Does what the interpreter does with these words."""
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), sys.modules["__main__"].__dict__)
    else:
        sys.argv, sys.path[0] = words, os.path.dirname(os.path.abspath(words[0]))
        runpy.run_path(words[0], run_name="__main__")


def main(link: socket.socket) -> None:
    """Serves; does the job of each fork."""
    # Called last of all at the exit: it was registered first.
    atexit.register(end_by_signal)
    import_all()
    # What is here stays: no fork looks through it for rubbish, and so none copies it.
    gc.freeze()
    job = serve(link)
    set_up(job)
    while os.environ.pop(forked.NESTED, None):
        above, below = socket.socketpair()
        if os.fork():
            below.close()
            forked.use(above)
            break
        # A server below the command, as new as the command is. It holds open no file of the command.
        above.close()
        os.setpgrp()
        for number in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        job = serve(below)
        set_up(job)
    try:
        run(job["words"])
    except KeyboardInterrupt:
        interrupted.append(True)
        raise


interrupted: list[bool] = []


def end_by_signal() -> None:
    """Ends a process that an interrupt has stopped as Python does: by the signal itself."""
    if interrupted:
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
