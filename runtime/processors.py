"""How many processors this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cpus() -> int:
    """Processors that this process may use: affinity, and the cgroup's limit where one is set."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _cgroup_cpus()
    return max(1, cpus if limit is None else min(cpus, limit))


def _cgroup_cpus() -> int | None:
    """A container's limit in whole processors, rounded up; ONNX Runtime does not look at it."""
    for quota_file, period_file in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = Path("/sys/fs/cgroup", quota_file).read_text(encoding="ascii").split()
            if period_file is not None:
                words += Path("/sys/fs/cgroup", period_file).read_text(encoding="ascii").split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0:
            return -(-quota // period)
    return None
