"""Two processes that stay, and fork one that trains whenever they are told to: everything is imported once.

So what a call changes in its process, or that it is killed there, matters to no other call. Both are forked commands:
``python two_ranks.py ADDRESS RANK`` serves at the other end of a connection.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any, NoReturn

import forked
from repository import ROOT

from lst.errors import LstError

# Within which all processes of a training end, whatever stops one of them.
MOST_STOP_S = 60
# For imports and for a whole training, over which a machine with much else to do may take long.
MOST_S = 300


class TwoRanks:
    """Processes 0 and 1; ``call`` runs a function in both."""

    def __init__(self) -> None:
        paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        self.ours, self.processes = [], []
        for rank in range(2):
            with Listener(family="AF_UNIX") as listener:
                command = [sys.executable, __file__, str(listener.address), str(rank)]
                self.processes.append(forked.Popen(command, cwd=ROOT, env=environment))
                self.ours.append(listener.accept())
        self.starting = list(self.ours)

    def call(
        self, work: Callable[..., Any], *arguments: Any, num_nodes: int = 1, size: int = 2, most_s: float = MOST_S
    ) -> list[Any]:
        """What ``work(*arguments)`` returns on each rank, the text of its ``LstError``, or how its process ended.

        Args:
            work: a function of a module.
            arguments: of it.
            num_nodes: machines that the ranks take themselves to be on.
            size: 1 calls it in one process, which trains alone.
            most_s: within which all must have ended.
        """
        while self.starting:
            connection = self.starting.pop()
            assert connection.poll(MOST_S), f"a process has not started after {MOST_S} s"
            connection.recv()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        for connection in self.ours[:size]:
            connection.send((work, arguments, port, num_nodes, size))
        for connection in self.ours[:size]:
            assert connection.poll(most_s), f"a process has not ended after {most_s} s"
        return [connection.recv() for connection in self.ours[:size]]

    def close(self) -> None:
        """Ends both."""
        for process in self.processes:
            process.kill()
            process.wait()


def _serve(rank: int, connection: Any) -> None:
    import torch

    # Optimisers import it at their first step, which takes seconds.
    import torch._dynamo

    import lst.recipes.training.train  # noqa: F401
    from lst.configs.compose import build_config

    # It reads the configuration for the first time.
    build_config(["experiment=smoke"])
    torch.set_num_threads(1)
    connection.send("started")
    while True:
        work, arguments, port, num_nodes, size = connection.recv()
        if size > 1:
            values = {
                "RANK": rank,
                "WORLD_SIZE": size,
                "LOCAL_RANK": rank // num_nodes,
                "LOCAL_WORLD_SIZE": size // num_nodes,
            }
            environment = {name: str(value) for name, value in values.items()}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        else:
            environment = {}
        if (child := os.fork()) == 0:
            _answer(connection, work, arguments, environment)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            connection.send(f"ended with status {status}")


def _answer(
    connection: Any, work: Callable[..., Any], arguments: tuple[Any, ...], environment: Mapping[str, str]
) -> NoReturn:
    """Does the work in this process, which ends."""
    os.environ.update(environment)
    try:
        connection.send(work(*arguments))
        os._exit(0)
    except LstError as error:
        connection.send(str(error))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


if __name__ == "__main__":
    _serve(int(sys.argv[2]), Client(sys.argv[1], family="AF_UNIX"))
