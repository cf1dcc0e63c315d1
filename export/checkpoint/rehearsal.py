"""Work on files of strangers, tried in a forked child first, whose time and memory are limited.

A pickle of a few bytes can ask for hours or for all memory: keys whose hashes collide, nested tuples, numbers of a
million digits, sizes that no tensor has. No list of such tricks is complete. So the work is done in a child first; what
ends there within the limits takes no more the second time, and what ends the child ends nothing else.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

import torch

from ...runtime.errors import FastSamError
from ...runtime.isolation.limits import Limits, end_with, limit_memory
from ..errors import ExportError

_LARGEST_ANSWER = 1 << 16


def limits_for(path: Path) -> Limits:
    """Generous limits for a checkpoint of that size: an honest one takes a tenth of them.

    Example:
        >>> limits_for(Path("absent.pt"))
        Limits(seconds=60.0, memory_bytes=2147483648)
    """
    size = path.stat().st_size if path.is_file() else 0
    return Limits(seconds=60.0 + size / 10e6, memory_bytes=2**31 + 8 * size)


def rehearse(work: Callable[[], object], path: Path, limits: Limits) -> None:
    """Do the work in a forked child, and forget what it returns. Without `fork` (on Windows) this does nothing.

    Args:
        work: reads `path`; it must not write, print, or need other threads.
        path: for messages.
        limits: see `limits_for`.

    Raises:
        ExportError: what the work raises, or it exceeds a limit, or it ends its process.

    Example:
        >>> rehearse(lambda: None, Path("weights.pt"), Limits(60, 1 << 30))
        >>> import time
        >>> rehearse(lambda: time.sleep(60), Path("weights.pt"), Limits(0.1, 1 << 30))
        Traceback (most recent call last):
        ...
        fastsam_deploy.export.errors.ExportError: weights.pt: reading it takes more than 0.1 s, which no checkpoint of \
its size needs; it is damaged, or made to do harm; use another file
    """
    if not hasattr(os, "fork"):
        return
    receiving, sending = os.pipe()
    sys.stdout.flush()
    parent = os.getpid()
    child = os.fork()
    if not child:
        os.close(receiving)
        _perform(work, sending, limits, parent)
    os.close(sending)
    try:
        answer = _answer(receiving, limits.seconds)
    finally:
        os.close(receiving)
        os.kill(child, signal.SIGKILL)  # it may have ended, but is still there to be waited for
        os.waitpid(child, 0)
    error = _error(answer, path, limits)
    if error is not None:
        raise ExportError(error)


def _perform(work: Callable[[], object], sending: int, limits: Limits, parent: int) -> None:
    """What the child does. It never returns, and runs no handler that its parent has set up."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        end_with(parent)
        torch.set_num_threads(1)  # a fork has none of the threads of OpenMP
        _limit(limits)
        answer = _outcome(work)
        os.write(sending, json.dumps(answer).encode())
    finally:
        os._exit(0)


def _outcome(work: Callable[[], object]) -> dict[str, str]:
    try:
        work()
    except MemoryError:
        return {"limit": "memory"}
    except FastSamError as error:
        return {"error": str(error)[: _LARGEST_ANSWER // 8]}
    except BaseException as error:  # noqa: BLE001 - there is nobody to raise it to
        return {"raised": type(error).__name__}
    return {}


def _answer(receiving: int, seconds: float) -> dict[str, str]:
    """What the child has to say; nothing in time, or nothing at all, is an answer too."""
    deadline, content = monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(receiving, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - monotonic())):
                return {"limit": "time"}
            part = os.read(receiving, _LARGEST_ANSWER)
            if not part:
                break
            content += part
    answer: dict[str, str] = json.loads(content) if content else {"limit": "ended"}
    return answer


def _error(answer: dict[str, str], path: Path, limits: Limits) -> str | None:
    if "error" in answer:
        return answer["error"]
    if not answer:
        return None
    exceeded = {
        "time": f"takes more than {limits.seconds:.3g} s",
        "memory": f"takes more than {limits.memory_bytes / 1e9:.1f} GB of memory",
        "ended": "ends the process",
    }.get(answer.get("limit", ""), f"raises {answer.get('raised')}")
    return (
        f"{path.name}: reading it {exceeded}, which no checkpoint of its size needs; it is damaged, or made to do "
        "harm; use another file"
    )


def _limit(limits: Limits) -> None:
    """Where the system has no such limits, there are none."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        seconds = int(limits.seconds) + 5  # for a child whose parent was killed
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    limit_memory(limits.memory_bytes)
