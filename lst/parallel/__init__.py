"""Work spread over processes of this machine or over a Ray cluster, with results that do not depend on where it ran.

::

    tasks ──run_tasks──▶ pool (processes here) or cluster (Ray) ──▶ results as they are ready
    items ──ordered_map──▶ results in the order of the items

A task (``work``) is a function of a module and a picklable argument. ``machine`` holds a process to one thread and
keeps the memory that it freed.
"""

from lst.parallel.machine import keep_freed_memory, one_thread
from lst.parallel.ordered import ordered_map
from lst.parallel.pool import end_with_parent, uninterrupted, warm_up_workers
from lst.parallel.tasks import run_tasks
from lst.parallel.work import Done, ExecutorOptions

__all__ = [
    "Done",
    "ExecutorOptions",
    "end_with_parent",
    "keep_freed_memory",
    "one_thread",
    "ordered_map",
    "run_tasks",
    "uninterrupted",
    "warm_up_workers",
]
