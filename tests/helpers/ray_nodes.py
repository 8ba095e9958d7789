"""Ray clusters of several nodes on one machine."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from rounds.cluster import ray_cluster


def leave() -> None:
    """Leave the cluster, whose nodes this process's workers then make free for others."""
    import ray

    ray.shutdown()
    ray_cluster.join.cache_clear()


@contextlib.contextmanager
def started(nodes: int) -> Iterator[Any]:
    """Start nodes of one CPU each; the test is skipped where Ray is not installed.

    Yields:
        Ray's `Cluster`, which has an `address` and can lose nodes.
    """
    pytest.importorskip("ray", reason="needs Ray (pip install -e '.[cluster]')")
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", RAY_worker_niceness="0")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        yield cluster
    finally:
        leave()
        cluster.shutdown()
