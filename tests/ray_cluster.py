"""A real Ray cluster on this machine: a head without processors, and nodes with one each, which can be killed."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

_OBJECT_STORE_BYTES = 80 << 20
_PATIENCE_S = 120.0


def wait_until(condition: Callable[[], Any], patience_s: float = _PATIENCE_S) -> Any:
    """Ask until the answer is true, and return it; the test fails if that takes too long."""
    end = time.monotonic() + patience_s
    while not (answer := condition()):
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.05)
    return answer


class RayCluster:
    """A cluster that runs.

    Attributes:
        address: for `--ray`.
        environment: of its processes.
    """

    def __init__(self, cluster: Any, nodes: int) -> None:
        self._cluster, self.environment = cluster, dict(os.environ)
        self.address: str = cluster.address
        self._nodes = [self._add() for _ in range(nodes)]

    def actors(self) -> list[int]:
        """Numbers of the processes of workers that have their model or are about to open it."""
        raylets = {_pid_of_raylet(node) for node in self._nodes}
        return sorted(
            pid for pid, parent, name in _processes() if parent in raylets and name.startswith("ray::ChunkActor")
        )

    def kill_actor(self, choose: Callable[[list[int]], int] = lambda pids: pids[0]) -> None:
        """Kill a worker, if there is one."""
        pids = self.actors()
        if pids:
            _kill(choose(pids))

    def kill_node(self, index: int = 0) -> None:
        """Kill all processes of a node, as when a machine is switched off; another node comes in its place."""
        node = self._nodes.pop(index)
        raylet = _pid_of_raylet(node)
        for pid in [pid for pid, parent, _ in _processes() if parent == raylet]:
            _kill(pid)
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.append(self._add())

    def metric(self, name: str) -> float:
        """Sum over nodes and workers of a metric, read as Prometheus does."""
        total = 0.0
        for node in [self._cluster.head_node, *self._nodes]:
            text = urllib.request.urlopen(f"http://127.0.0.1:{node.metrics_export_port}/metrics", timeout=30).read()
            samples = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text.decode(), re.MULTILINE)
            total += sum(map(float, samples))
        return total

    def _add(self) -> Any:
        return _patiently(lambda: self._cluster.add_node(num_cpus=1, object_store_memory=_OBJECT_STORE_BYTES))


@contextmanager
def cluster_on_this_machine(nodes: int = 2) -> Iterator[RayCluster]:
    """A cluster until the block ends. Its processes get the environment of this one, and end with it.

    Example:
        with cluster_on_this_machine() as cluster:
            main(["batch", "photos", "--output", "out", "--ray", cluster.address])
    """
    pytest.importorskip("ray", reason="needs the extra [ray]")
    # Names of sockets are limited to 107 characters: the folder of a test may be too long.
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with tempfile.TemporaryDirectory(prefix="ray") as folder, mock.patch.dict(os.environ, quiet):
        from ray.cluster_utils import Cluster

        head = {
            **{"num_cpus": 0, "object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False},
            **{"temp_dir": folder, "_system_config": {"metrics_report_interval_ms": 500}},
        }
        _folder_of_ray().mkdir(parents=True, exist_ok=True)
        cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        try:
            yield RayCluster(cluster, nodes)
        finally:
            cluster.shutdown()


def _folder_of_ray() -> Path:
    """Where Ray notes the address of a cluster, whatever folder it is given; on a fresh machine there is none."""
    from ray._private.utils import get_ray_address_file

    return Path(get_ray_address_file(None)).parent


def _patiently(start: Callable[[], Any], tries: int = 3) -> Any:
    """Ray gives a node 30 s to start, and that cannot be changed; a busy machine may need another try."""
    for _ in range(tries - 1):
        with suppress(Exception):
            return start()
    return start()


def _pid_of_raylet(node: Any) -> int:
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


def _processes() -> Iterator[tuple[int, int, str]]:
    """Number, number of the parent, and command line of each process of this machine."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                yield int(folder.name), parent, (folder / "cmdline").read_bytes().decode(errors="replace")
            except (OSError, ValueError):  # it has ended meanwhile
                continue


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
