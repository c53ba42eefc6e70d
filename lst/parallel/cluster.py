"""Tasks on Ray: one machine, or the cluster at ``address=``. Imported only where it is asked for.

Ray keeps a worker's process from task to task, so what a task loads and keeps in its module is loaded once a worker. A
task whose worker or node dies is begun again by Ray on another one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any

from lst import __version__
from lst.errors import UserError
from lst.lazy import import_or_explain
from lst.parallel.work import MAX_RETRIES, Done, ExecutorOptions, work
from lst.progress import say
from lst.storage import access

# Enough tasks are on their way to keep every core busy; the others wait here, not in the cluster's memory.
TASKS_A_CORE = 3
# How long cancelled tasks are waited for: until they have ended, their workers may still write.
CANCEL_S = 60.0
CONNECT_S = 10.0
# How often the cluster is looked at anew while no task ends: its nodes come and go.
LOOK_S = 10.0
# Tasks and results are small: manifests' rows and receipts.
OBJECT_STORE_BYTES = 128 << 20


def run_on_ray(
    function: Callable[[Any], Any], tasks: Sequence[Any], options: ExecutorOptions
) -> Generator[Done, None, None]:
    """As ``lst.parallel.tasks.run_tasks``; starts Ray where it is not running and ends it then."""
    if not tasks:
        return
    ray = _import_ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        _start(ray, options)
    try:
        yield from _run(ray, function, tasks)
    finally:
        if is_ours:
            ray.shutdown()


def check_ray(options: ExecutorOptions) -> None:
    """Raises ``UserError`` where Ray is not installed, or nothing answers at the address."""
    ray = _import_ray()
    if options.address is not None and not ray.is_initialized():
        _start(ray, options)
        ray.shutdown()


def _import_ray() -> Any:
    return import_or_explain("ray", "executor=ray", "pip install 'latent-speech-text[ray]'")


def _start(ray: Any, options: ExecutorOptions) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if options.address is None:
            ray.init(address="local", num_cpus=options.num_workers, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        else:
            _check_answers(options.address)
            ray.init(address=options.address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        remedy = "Leave address= out to start Ray on this machine, or start a cluster with ray start --head."
        if "AuthenticationError" in f"{type(error)} {error.__cause__}":
            remedy = (
                "The cluster asks for a token: set RAY_AUTH_MODE=token here too, and give this machine the cluster's "
                "token (RAY_AUTH_TOKEN, or the file ~/.ray/auth_token)."
            )
        raise UserError(f"Ray at address={options.address} cannot be reached ({error}). {remedy}") from error


def _check_answers(address: str) -> None:
    """Raises ``OSError`` where nothing listens at HOST:PORT, which Ray itself would try for a long time."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


def _run(ray: Any, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Generator[Done, None, None]:
    # An error of the task itself would come again; only a lost worker's task is begun anew.
    remote = ray.remote(num_cpus=1, max_retries=MAX_RETRIES, retry_exceptions=False)(work)
    waiting = iter(tasks)
    running: set[Any] = set()
    is_told = False
    try:
        while True:
            num_cores = int(ray.cluster_resources().get("CPU", 0))
            room = TASKS_A_CORE * max(1, num_cores) - len(running)
            for task in islice(waiting, max(room, 0)):
                running.add(remote.remote(function, task, __version__, tuple(access.settings().items())))
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_S)
            is_idle = not done and num_cores == 0
            if is_idle and not is_told:
                say("no node of the Ray cluster has a core: waiting for one to join (ray start --address=...)")
            is_told = is_idle
            for reference in done:
                running.discard(reference)
                yield _result(ray, reference)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=CANCEL_S)


def _result(ray: Any, reference: Any) -> Done:
    try:
        done: Done = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ImportError):
            raise UserError(f"a node cannot import lst ({error.cause}): install version {__version__} there") from error
        raise
    except ray.exceptions.RayError as error:
        raise UserError(
            f"workers that did one task died {MAX_RETRIES + 1} times: {error}. Mostly a node's memory is too small for "
            "a process a core. Run the same command again to go on."
        ) from error
    return done
