"""Ending on a signal as on an exception. For commands only: a library must not handle the signals of its process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGTERM", "SIGHUP")  # not every system has SIGHUP
_AGAIN_S = 0.05


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit(128 + number), so that drafts are removed and models are closed.

    A second signal ends the process at once. A signal that is ignored (as with nohup) or already has a handler is left
    alone. Outside the main thread this does nothing.

    A signal that arrives in a destructor, or in a function that C code calls, raises where Python ignores exceptions.
    It is then sent again, and so is Ctrl-C. One that arrives while C code is imported becomes an ImportError there,
    which becomes what it was.

    Example:
        >>> with exit_on_signals():
        ...     pass
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise _SignalExit(number)

    def lost(ignored: Any) -> None:
        if isinstance(ignored.exc_value, _SignalExit):
            signal.signal(ignored.exc_value.number, leave)
            _send_again(ignored.exc_value.number)
        elif isinstance(ignored.exc_value, KeyboardInterrupt):
            _send_again(signal.SIGINT)
        else:
            report(ignored)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    available = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    numbers = [number for number in available if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, leave)
    report, sys.unraisablehook = sys.unraisablehook, lost
    try:
        yield
    except Exception as error:
        ending = _ending_behind(error)
        if ending is None:
            raise
        raise ending from error
    finally:
        sys.unraisablehook = report
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def stop_on_signals(stop: Callable[[int], None]) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM call a function in place of ending the process; the second one ends it.

    Outside the main thread this does nothing.

    Args:
        stop: sets a flag. It is called with the number of the signal, between two steps of the program, wherever that
            is.

    Example:
        >>> with stop_on_signals(lambda _: None):
        ...     pass
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def first(number: int, _frame: FrameType | None) -> None:
        restore()
        stop(number)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, first)
    try:
        yield
    finally:
        restore()


class _SignalExit(SystemExit):
    """The end of the process on a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def _ending_behind(error: BaseException | None) -> BaseException | None:
    """The end of the process that C code has turned into this error; None: it is an error of its own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, _SignalExit | KeyboardInterrupt):
            return error.with_traceback(None)
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _send_again(number: int) -> None:
    """A moment later, when the code that ignores exceptions has been left."""
    timer = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def end_with_parent() -> None:
    """Send SIGTERM to this process when its standard input ends: when its parent does, however it ends.

    For a process that was started with a pipe for its standard input, which nothing is written to.

    Example:
        >>> end_with_parent()  # doctest: +SKIP
    """

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
