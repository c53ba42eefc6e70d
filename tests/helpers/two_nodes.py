"""Prepares a corpus on a Ray cluster of two nodes with a core each, of which one dies at its task.

A line of JSON in, ``{"folder", "options"}``; the number of shards that there were when the node died comes out.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from prepare_server import run
from processes import busy_ray_workers
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 128 << 20}
# A dead node is missed after two seconds instead of some fifteen.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


def kill_node(cluster: Any, node: Any, folder: Path, seen: list[int]) -> None:
    """Kills the node at its task once some shards are there, as a machine dies: with no word to anyone."""
    raylet = node.all_processes["raylet"][0].process.pid
    while len(list((folder / "shards").glob("*.json"))) < 4 or not busy_ray_workers(raylet):
        time.sleep(0.002)
    cluster.remove_node(node, allow_graceful=False)
    seen.append(len(list((folder / "shards").glob("*.json"))))


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    job = json.loads(sys.stdin.readline())
    # The head has no core, so that only the two nodes can do a task.
    head = {**NODE, "num_cpus": 0, "include_dashboard": False, "_system_config": HEALTH}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    job["options"]["address"] = cluster.address
    seen: list[int] = []
    thread = threading.Thread(target=kill_node, args=(cluster, nodes[0], Path(job["folder"]), seen), daemon=True)
    thread.start()
    try:
        run(job)
    finally:
        cluster.shutdown()
    print(seen[0])


if __name__ == "__main__":
    main()
