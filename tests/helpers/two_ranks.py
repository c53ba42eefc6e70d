"""Two processes that stay, and fork one that trains whenever they are told to: everything is imported once.

So what a call changes in its process, or that it is killed there, matters to no other call.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from lst.errors import LstError

# Within which all processes of a training end, whatever stops one of them.
MOST_STOP_S = 60
# For imports and for a whole training, over which a machine with much else to do may take long.
MOST_S = 300


class TwoRanks:
    """Processes 0 and 1; ``call`` runs a function in both."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(2)]
        self.ours = [ours for ours, _ in pipes]
        # Torch's C++ gives advice about options that are meant; it reads this when it is imported.
        before = os.environ.get("TORCH_CPP_LOG_LEVEL")
        os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"
        self.processes = [
            context.Process(target=_serve, args=(rank, theirs), daemon=True) for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self.processes:
            process.start()
        if before is None:
            del os.environ["TORCH_CPP_LOG_LEVEL"]
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
            process.join()


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
