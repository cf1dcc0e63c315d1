"""What a process may take."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import ParameterError

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What one piece of work may take.

    Attributes:
        seconds: from its start.
        memory_bytes: on top of what the process has at its start. Only Linux keeps to it.

    Raises:
        ParameterError: a limit is not above 0.

    Example:
        >>> Limits(seconds=60, memory_bytes=1 << 30).seconds
        60
    """

    seconds: float
    memory_bytes: int

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not 0 < value < float("inf"):
                raise ParameterError(f"{name} is {value!r}, expected a number above 0")
        object.__setattr__(self, "memory_bytes", int(self.memory_bytes))


def peak_bytes() -> int:
    """The most memory that this process has ever had; 0 where the system does not say.

    Example:
        >>> peak_bytes() >= 0
        True
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass  # not Linux
    try:
        import resource
    except ImportError:
        return 0
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux that of a parent too, hence the above
    return kibibytes if sys.platform == "darwin" else kibibytes * 1024


def end_with(parent: int) -> None:
    """End this forked process when the thread that forked it ends, by a kill too. Linux only.

    It has inherited the locks of its parent, which would hold as long as it lives.

    Args:
        parent: number of the process that forked it.

    Example:
        >>> end_with(parent)  # doctest: +SKIP
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def end_first() -> None:
    """Let the system end this process before others when memory runs out, where it has such a setting."""
    with suppress(OSError):
        handle = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        try:
            os.write(handle, b"1000")
        finally:
            os.close(handle)


def limit_memory(memory_bytes: int) -> None:
    """Limit what this process takes on top of what it has already. Where the system has no such limit, there is none.

    Example:
        >>> limit_memory(1 << 30)  # doctest: +SKIP
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return
