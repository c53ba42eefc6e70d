"""Runs tasks on Ray: on this machine, or on the cluster at ``address=``. Only imported for ``executor=ray``.

A Ray worker runs many tasks in one process, so a task's module-level caches are loaded once a worker. If a worker or a
node dies, Ray starts its task again on another one.
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

# Submitted tasks a core: enough to keep every core busy. The others wait here, not in the cluster's memory.
TASKS_A_CORE = 3
# How long to wait for cancelled tasks; they may write files until they have ended.
CANCEL_S = 60.0
CONNECT_S = 10.0
# How often to count the cluster's cores while no task ends: nodes join and leave.
LOOK_S = 10.0
# Small, as tasks and results are small: rows of manifests, receipts.
OBJECT_STORE_BYTES = 128 << 20


def run_on_ray(
    function: Callable[[Any], Any], tasks: Sequence[Any], options: ExecutorOptions
) -> Generator[Done, None, None]:
    """``lst.parallel.tasks.run_tasks`` on Ray. If Ray is not running, starts it and ends it afterwards."""
    if not tasks:
        return
    ray = _import_ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        _start(ray, options)
    try:
        yield from _run(ray, function, tasks, options.cores_a_task)
    finally:
        if is_ours:
            ray.shutdown()


def check_ray(options: ExecutorOptions) -> None:
    """Raises ``UserError`` if Ray is not installed or nothing answers at the address."""
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
    """Raises ``OSError`` if nothing listens at HOST:PORT. Ray itself would keep trying for a long time."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


def _run(
    ray: Any, function: Callable[[Any], Any], tasks: Sequence[Any], cores_a_task: int = 1
) -> Generator[Done, None, None]:
    # Retries are for lost workers only: an error of the task itself would come again.
    remote = ray.remote(num_cpus=cores_a_task, max_retries=MAX_RETRIES, retry_exceptions=False)(work)
    waiting = iter(tasks)
    running: set[Any] = set()
    is_told = False
    try:
        while True:
            num_cores = int(ray.cluster_resources().get("CPU", 0))
            room = TASKS_A_CORE * max(1, num_cores // cores_a_task) - len(running)
            for task in islice(waiting, max(room, 0)):
                running.add(remote.remote(function, task, __version__, tuple(access.settings().items())))
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_S)
            is_idle = not done and _most_cores(ray) < cores_a_task
            if is_idle and not is_told:
                wanted = "a core" if cores_a_task == 1 else f"{cores_a_task} cores"
                say(f"no node of the Ray cluster has {wanted}: waiting for one to join (ray start --address=...)")
            is_told = is_idle
            for reference in done:
                running.discard(reference)
                yield _result(ray, reference)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=CANCEL_S)


def _most_cores(ray: Any) -> int:
    """Cores of the node that has most: a task runs on one node."""
    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return int(max((resources.get("CPU", 0) for resources in alive), default=0))


def _result(ray: Any, reference: Any) -> Done:
    try:
        done: Done = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ImportError):
            raise UserError(f"a node cannot import lst ({error.cause}): install version {__version__} there") from error
        raise
    except ray.exceptions.RayError as error:
        raise UserError(
            f"workers that did one task died {MAX_RETRIES + 1} times: {error}. Usually a node's memory is too small "
            "for a process a core. Run the same command again to go on."
        ) from error
    return done
