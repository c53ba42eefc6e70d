"""Runs work in processes of this machine or on a Ray cluster. Results do not depend on where it ran.

::

    tasks ──run_tasks──▶ pool (processes here) or cluster (Ray) ──▶ results in the order of completion
    items ──ordered_map──▶ results in the order of the items

A task (``work``) is a module's function and a picklable argument. ``machine`` limits a process to one thread and makes
it keep the memory that it frees.
"""

from lst.parallel.machine import check_one_process, keep_freed_memory, one_thread, peak_memory_bytes
from lst.parallel.ordered import ordered_map
from lst.parallel.pool import end_with_parent, uninterrupted, warm_up_workers
from lst.parallel.ranks import ALONE, Ranks, is_of_connection
from lst.parallel.supervise import run_ranks
from lst.parallel.tasks import run_tasks
from lst.parallel.work import Done, ExecutorOptions

__all__ = [
    "ALONE",
    "Done",
    "ExecutorOptions",
    "Ranks",
    "check_one_process",
    "end_with_parent",
    "is_of_connection",
    "keep_freed_memory",
    "one_thread",
    "ordered_map",
    "peak_memory_bytes",
    "run_ranks",
    "run_tasks",
    "uninterrupted",
    "warm_up_workers",
]
