"""The processors of this machine, and how many of them this process may use."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_SELF = Path("/proc/self")
_CPUINFO = Path("/proc/cpuinfo")


def usable_cpus() -> int:
    """Processors that this process may use: affinity, and the cgroups' limit where one is set."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup_cpus()
    return max(1, cpus if limit is None else min(cpus, limit))


def cgroup_cpus() -> int | None:
    """The limit of a container or a systemd unit in whole processors, rounded up; None where there is none.

    Inference libraries look at the affinity only. A limit of any group above counts too: the lowest one holds.
    """
    limits = [limit for folder in _own_cgroups(_SELF) if (limit := _limit_of(folder)) is not None]
    return min(limits, default=None)


def name_and_flags() -> tuple[str, frozenset[str]]:
    """What the processor is called, and what it can do ("avx2", "amx_bf16", …; empty where the system does not say)."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    known = name[1] if name else platform.processor() or platform.machine()
    return known, frozenset(flags[1].split() if flags else ())


def _own_cgroups(process: Path) -> Iterator[Path]:
    """Folders of the groups that limit this process's CPU time, from its own up to the highest that can be seen."""
    try:
        groups = (process / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in groups)}
    for mount in mounts:
        # "… ROOT POINT options … - TYPE source super-options"; a container sees only ROOT of the tree, at POINT.
        place, _, kind = mount.partition(" - ")
        root, point = place.split()[3:5]
        filesystem, _, options = kind.split(maxsplit=2)
        if filesystem == "cgroup2":
            own = paths.get("")
        elif filesystem == "cgroup" and "cpu" in options.split(","):
            own = next((path for names, path in paths.items() if "cpu" in names.split(",")), None)
        else:
            continue
        if own is not None:
            top = Path(point)
            folder = top.joinpath(*_below(own, root))
            yield from (one for one in (folder, *folder.parents) if one == top or top in one.parents)


def _below(path: str, root: str) -> tuple[str, ...]:
    """Parts of `path` under `root`; none where it is not seen from there, as in a container without its own view."""
    try:
        parts = PurePosixPath(path).relative_to(root).parts
    except ValueError:
        return ()
    return () if ".." in parts else parts


def _limit_of(folder: Path) -> int | None:
    """A group's own limit: v2's `cpu.max` ("QUOTA PERIOD", "max" for none) or v1's two files (-1 for none)."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = " ".join((folder / name).read_text(encoding="ascii") for name in names).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            return -(-quota // period)
    return None
