"""Ending on a signal as on an exception. For commands only: a library must not handle the signals of its process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGTERM", "SIGHUP")  # not every system has SIGHUP


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit(128 + number), so that drafts are removed and models are closed.

    A second signal ends the process at once. A signal that is ignored (as with nohup) or already has a handler is left
    alone. Outside the main thread this does nothing.

    Example:
        >>> with exit_on_signals():
        ...     pass
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    numbers = []
    if threading.current_thread() is threading.main_thread():
        available = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
        numbers = [number for number in available if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
