"""The processors of this machine, and the number that this process may use."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

_SELF = Path("/proc/self")
_CPUINFO = Path("/proc/cpuinfo")

_ADDS_BYTES_IN_32_BITS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})


def usable_cpus() -> int:
    """Number of processors that this process may use, by its affinity and the limits of its cgroups.

    Example:
        >>> usable_cpus() >= 1
        True
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup_cpus()
    return max(1, cpus if limit is None else min(cpus, limit))


def cgroup_cpus() -> int | None:
    """Limit of a container or a systemd unit in whole processors, rounded up; None if there is no limit.

    Inference libraries look at the affinity only. The groups above may have limits too; the lowest one applies.

    Example:
        >>> cgroup_cpus()  # doctest: +SKIP
        4
    """
    limits = [limit for folder in _cgroup_folders(_SELF) if (limit := _limit_of(folder)) is not None]
    return min(limits, default=None)


def name_and_flags() -> tuple[str, frozenset[str]]:
    """Name and features of the processor ("avx2", "amx_bf16", …; empty if the system does not list them).

    Example:
        >>> name, flags = name_and_flags()
        >>> "avx2" in flags  # doctest: +SKIP
        True
    """
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    model = name[1] if name else platform.processor() or platform.machine()
    return model, frozenset(flags[1].split() if flags else ())


def adds_bytes_in_16_bits(flags: Collection[str]) -> bool:
    """Whether products of bytes are added in 16 bits, two at a time: with weights of 8 bits these sums overflow.

    Args:
        flags: see `name_and_flags`.

    Example:
        >>> adds_bytes_in_16_bits({"avx2"}), adds_bytes_in_16_bits({"avx2", "avx512_vnni"})
        (True, False)
    """
    return "avx2" in flags and _ADDS_BYTES_IN_32_BITS.isdisjoint(flags)


def _cgroup_folders(process: Path) -> Iterator[Path]:
    """Folders of the groups that limit this process's CPU time, from its own group up to the highest visible one."""
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
            group = paths.get("")
        elif filesystem == "cgroup" and "cpu" in options.split(","):
            group = next((path for names, path in paths.items() if "cpu" in names.split(",")), None)
        else:
            continue
        if group is not None:
            top = Path(point)
            lowest = top.joinpath(*_below(group, root))
            yield from (folder for folder in (lowest, *lowest.parents) if folder == top or top in folder.parents)


def _below(path: str, root: str) -> tuple[str, ...]:
    """Parts of `path` below `root`; none if it is not visible from there, as in some containers."""
    try:
        parts = PurePosixPath(path).relative_to(root).parts
    except ValueError:
        return ()
    return () if ".." in parts else parts


def _limit_of(folder: Path) -> int | None:
    """The limit of a group: `cpu.max` of v2 ("QUOTA PERIOD", "max" for none) or the two files of v1 (-1 for none)."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = " ".join((folder / name).read_text(encoding="ascii") for name in names).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            return -(-quota // period)
    return None
