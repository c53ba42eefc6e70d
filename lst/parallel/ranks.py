"""The processes that train one model together: which one this is, and what they tell each other on the host.

::

    lst train train.devices=N ─┐
    torchrun ──────────────────┼─ environment ──Ranks.found──▶ Ranks ──joined──▶ gloo (host), nccl (GPUs)
    srun ──────────────────────┘

A process alone is a ``Ranks`` of size 1, whose methods do nothing but return what they were given.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from lst.errors import LstError, UserError

ResultT = TypeVar("ResultT")

# Longer than the first rank takes to fit a patching, for which the others wait.
TIMEOUT = timedelta(hours=2)
# Set by ``lst.parallel.supervise`` for the processes that it starts.
SUPERVISED = "LST_SUPERVISED"


class PeerLostError(UserError):
    """Another process of the training has ended. That one says why."""


def is_of_connection(error: BaseException) -> bool:
    """Whether an error says that the connection to another process is gone. A closed one has no type of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower() or "NCCL" in str(error)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local_rank, local_size: the same among those of this machine.
        is_supervised: whether ``lst train`` has started them, and ends them together.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    is_supervised: bool = False

    @classmethod
    def found(cls) -> Ranks:
        """What the launcher has put into the environment; a process alone without one."""
        environment = os.environ
        if {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"} <= environment.keys():
            return cls(
                int(environment["RANK"]),
                int(environment["WORLD_SIZE"]),
                int(environment["LOCAL_RANK"]),
                int(environment["LOCAL_WORLD_SIZE"]),
                SUPERVISED in environment,
            )
        # Of the step, which srun starts: the tasks of a job say nothing about this process.
        if {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"} <= environment.keys():
            # As many on each machine: "4(x2)", or "4".
            local_size = int(environment["SLURM_STEP_TASKS_PER_NODE"].partition("(")[0].partition(",")[0])
            size = int(environment["SLURM_STEP_NUM_TASKS"])
            return cls(int(environment["SLURM_PROCID"]), size, int(environment["SLURM_LOCALID"]), local_size)
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all have in common."""
        return self.rank == 0

    @contextlib.contextmanager
    def joined(self, on_gpu: bool) -> Iterator[None]:
        """Context manager: the processes are connected.

        Raises:
            PeerLostError: in place of the error of a connection that another process has closed.
        """
        if self.size == 1:
            yield
            return
        names = {"RANK": self.rank, "WORLD_SIZE": self.size, "LOCAL_RANK": self.local_rank}
        os.environ.update({name: str(value) for name, value in names.items()})
        if "MASTER_ADDR" not in os.environ:
            from lightning.fabric.plugins.environments import SLURMEnvironment

            slurm = SLURMEnvironment(auto_requeue=False)
            os.environ.update(MASTER_ADDR=slurm.main_address, MASTER_PORT=str(slurm.main_port))
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
        try:
            yield
        except RuntimeError as error:
            if is_of_connection(error):
                raise PeerLostError("another process of this training has ended; it says why") from error
            raise
        finally:
            dist.destroy_process_group()

    def gather(self, value: ResultT) -> list[ResultT]:
        """The values of all ranks, in their order. They are pickled, by processes of this training alone."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sums of the values over all ranks."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a number [] over all ranks, float64 where there are several. The host does not wait for it."""
        if self.size == 1:
            return value
        total = value.detach().double()
        dist.all_reduce(total)
        return total

    def largest(self, value: int) -> int:
        """The largest value of any rank."""
        if self.size == 1:
            return value
        found = torch.tensor(value)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def at_first(self, work: Callable[[], ResultT]) -> ResultT:
        """The first rank does the work, and all get its result or raise its ``LstError``."""
        if self.size == 1:
            return work()
        outcome: list[Any] = [None]
        with self.together():
            if self.is_first:
                outcome = [work()]
        dist.broadcast_object_list(outcome, 0)
        result: ResultT = outcome[0]
        return result

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Context manager: all ranks do the block, and where one of them raises an ``LstError``, all raise it."""
        if self.size == 1:
            yield
            return
        own: LstError | None = None
        try:
            yield
        except PeerLostError:
            raise
        except LstError as error:
            own = error
        raised = [error for error in self.gather(None if own is None else error_parts(own)) if error is not None]
        if raised:
            raise own or made_error(*raised[0])


# A process that trains by itself.
ALONE = Ranks()


def error_parts(error: LstError) -> tuple[type[LstError], tuple[Any, ...], dict[str, Any]]:
    """What ``made_error`` makes the error of again, in another process."""
    return type(error), error.args, error.__dict__


def made_error(kind: type[LstError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> LstError:
    """An error of another rank; ``kind`` is not called, as its arguments may be others."""
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(attributes)
    return error
