"""Two processes that stay, and train together whenever they are told to: they import everything once."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

from lst.errors import LstError


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

    def call(self, work: Callable[..., Any], *arguments: Any, num_nodes: int = 1) -> list[Any]:
        """What ``work(*arguments)`` returns on each rank, or the text of its ``LstError``.

        Args:
            work: a function of a module.
            arguments: of it.
            num_nodes: machines that the ranks take themselves to be on.
        """
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        for connection in self.ours:
            connection.send((work, arguments, port, num_nodes))
        return [connection.recv() for connection in self.ours]

    def close(self) -> None:
        """Ends both."""
        for process in self.processes:
            process.kill()
            process.join()


def _serve(rank: int, connection: Any) -> None:
    import torch

    torch.set_num_threads(1)
    while True:
        work, arguments, port, num_nodes = connection.recv()
        values = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank // num_nodes, "LOCAL_WORLD_SIZE": 2 // num_nodes}
        os.environ.update({name: str(value) for name, value in values.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        try:
            connection.send(work(*arguments))
        except LstError as error:
            connection.send(str(error))
