"""TensorRT's messages: to Python's logging, and kept, because its calls only say that they failed and not why."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...system.fork import ForkLock

_KEPT = 200
_SHOWN = 3

logger = logging.getLogger(__name__)


class TensorRTLog:
    """The messages of one library. An object of it that the library can call is made by `tensorrt_log`."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._errors: deque[tuple[int, str]] = deque(maxlen=_KEPT)
        self._count = 0
        self._recorders: list[tuple[str, list[str]]] = []

    def receive(self, level: int, message: str) -> None:
        """Take one message, from any thread of the library."""
        with self._lock:
            for beginning, messages in self._recorders:
                if message.startswith(beginning):
                    messages.append(message)
            if level >= logging.ERROR:
                self._count += 1
                self._errors.append((self._count, " ".join(message.split())))
                # They are raised as an error of ours, with this text in it; whoever wants all of them sees them too.
                level = logging.INFO
        logger.log(level, "%s", message)

    def mark(self) -> int:
        """To be given to `since`."""
        with self._lock:
            return self._count

    def since(self, mark: int) -> str:
        """The first errors after `mark`, as one line. TensorRT's first error is the cause, the last "it failed"."""
        with self._lock:
            errors = [text for number, text in self._errors if number > mark]
        shown = " | ".join(errors[:_SHOWN])
        more = f" | and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        return shown + more or "TensorRT gave no reason"

    @contextmanager
    def recorded(self, beginning: str) -> Iterator[list[str]]:
        """The messages with this beginning that arrive within the block."""
        messages: list[str] = []
        recorder = (beginning, messages)
        with self._lock:
            self._recorders.append(recorder)
        try:
            yield messages
        finally:
            with self._lock:
                self._recorders = [other for other in self._recorders if other is not recorder]


@functools.cache
def tensorrt_log(trt: Any) -> TensorRTLog:
    """The only one of this process for a library: it keeps the first logger that it is given for all that follows.

    Args:
        trt: the library's module, see `Library.load`.
    """
    severities = trt.ILogger.Severity
    levels = {
        severities.INTERNAL_ERROR: logging.CRITICAL,
        severities.ERROR: logging.ERROR,
        severities.WARNING: logging.WARNING,
        severities.INFO: logging.INFO,
        severities.VERBOSE: logging.DEBUG,
    }

    class Log(trt.ILogger, TensorRTLog):  # type: ignore[misc]
        """What the library calls."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            TensorRTLog.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            """One message."""
            self.receive(levels.get(severity, logging.ERROR), msg)

    return Log()
