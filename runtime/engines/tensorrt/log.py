"""TensorRT's messages: to Python's logging, and kept, because its calls only say that they failed and not why."""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque

import tensorrt as trt

_KEPT = 200
_SHOWN = 3

logger = logging.getLogger(__name__)


class TensorRTLog(trt.ILogger):  # type: ignore[misc,unused-ignore]
    """What TensorRT calls with every message, from any of its threads."""

    def __init__(self) -> None:
        super().__init__()
        severities = trt.ILogger.Severity
        self._levels = {
            severities.INTERNAL_ERROR: logging.CRITICAL,
            severities.ERROR: logging.ERROR,
            severities.WARNING: logging.WARNING,
            severities.INFO: logging.INFO,
            severities.VERBOSE: logging.DEBUG,
        }
        self._lock = threading.Lock()
        self._errors: deque[tuple[int, str]] = deque(maxlen=_KEPT)
        self._count = 0

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """One message."""
        level = self._levels.get(severity, logging.ERROR)
        if level >= logging.ERROR:
            with self._lock:
                self._count += 1
                self._errors.append((self._count, " ".join(msg.split())))
            # They are raised as an error of ours, with this text in it; whoever wants all of them sees them too.
            level = logging.INFO
        logger.log(level, "%s", msg)

    def mark(self) -> int:
        """To be given to `since`."""
        with self._lock:
            return self._count

    def since(self, mark: int) -> str:
        """The first errors after `mark`, as one line. TensorRT's first error is the cause, the last "it failed"."""
        with self._lock:
            found = [text for number, text in self._errors if number > mark]
        shown = " | ".join(found[:_SHOWN])
        more = f" | and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return shown + more or "TensorRT gave no reason"


@functools.cache
def tensorrt_log() -> TensorRTLog:
    """The one of this process: TensorRT keeps the first logger it is given for all that follows."""
    return TensorRTLog()
