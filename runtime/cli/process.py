"""A command as a process: its exit code, its signals, and standard streams that are full, broken or closed."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import typer
from typer.core import TyperGroup

from ..batch.console import complain, printable, warnings_shown
from ..errors import FastSamError, opencv_fault
from ..system.signals import exit_on_signals

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FAILED = 2
"""Exit code of every expected failure."""

START_UP_OBJECTS = 200_000
"""What a command makes before Python looks for unused cycles; importing its libraries makes half of it."""

_STREAM_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


_CLICK_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""The base of errors about arguments, in every version of Typer."""


class CommandGroup(TyperGroup):
    """The commands of a program. Errors about arguments quote them: a file `--a.jpg` in a pattern may be anybody's.

    Example:
        >>> app = typer.Typer(cls=CommandGroup)
    """

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """See `click.Command.make_context`."""
        with _printable_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, *arguments: Any, **options: Any) -> Any:
        """See `click.Command.invoke`."""
        with _printable_errors():
            return super().invoke(*arguments, **options)


@contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except _CLICK_ERROR as error:
        error.message = printable(error.message)
        raise


def run_command(name: str, command: Callable[[], object]) -> int:
    """Run a command: exit code 0, or 2 with one line on standard error. A bug shows its traceback.

    Messages that cannot be written, because standard error is full or closed, do not stop the work. Results that cannot
    be written to standard output are an error.

    Args:
        name: of the command, for messages.
        command: raises FastSamError for an expected failure, or SystemExit.

    Example:
        >>> run_command("fastsam", lambda: None)
        0
    """
    _postpone_collections()
    with _usable_streams():
        try:
            with exit_on_signals(), warnings_shown(name):
                try:
                    command()
                finally:
                    if sys.stdout is not None:
                        sys.stdout.flush()
        except FastSamError as error:
            return _failed(name, str(error))
        except ImportError as error:
            fault = opencv_fault(error)
            if fault is None:
                raise
            return _failed(name, fault)
        except OSError as error:
            if error.errno not in _STREAM_ERRORS or error.filename is not None:
                raise
            _forget_output()
            return _failed(name, f"standard output: cannot be written ({error.strerror}); make room")
        return 0


def _failed(name: str, message: str) -> int:
    complain(name, message)
    return FAILED


def _postpone_collections() -> None:
    """Have Python search for unused cycles later: what libraries make while they are loaded is in use to the end.

    A short command ends before the first search. After it, Python searches as it always does. At the exit, which would
    begin with a search, there is none: Python ends its threads, and frees what its modules hold.
    """
    usual = gc.get_threshold()
    if usual[0] == START_UP_OBJECTS:
        return

    def go_on_as_usual(phase: str, _: object) -> None:
        if phase == "stop":
            gc.set_threshold(*usual)
            gc.callbacks.remove(go_on_as_usual)

    gc.callbacks.append(go_on_as_usual)
    gc.set_threshold(START_UP_OBJECTS, *usual[1:])
    atexit.register(_end_without_a_search)


def _end_without_a_search() -> None:
    """Leave nothing to search at the exit; but libraries bound by nanobind report what stays as leaked."""
    if not {"onnx", "torch", "triton"} & sys.modules.keys():
        gc.freeze()


def _forget_output() -> None:
    """Give up what is still to be written to standard output, so that its end is no second error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextmanager
def _usable_streams() -> Iterator[None]:
    """Standard error that never raises; and no file that is opened later gets the number of a closed stream."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: libraries that print to it would write into whatever file is opened next
            os.open(os.devnull, os.O_RDWR)
    before = sys.stderr
    if _is_replaced(before):
        yield
        return
    raw = _Unheard(2, "w", closefd=False)
    encoding = "utf-8" if before is None else before.encoding
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw, 1), encoding, "backslashreplace", write_through=True)
    try:
        yield
    finally:
        sys.stderr = before


def _is_replaced(stream: TextIO | None) -> bool:
    """Whether a program has put something else in the place of standard error."""
    try:
        return stream is not None and stream.fileno() != 2
    except (OSError, ValueError):
        return True


class _Unheard(io.FileIO):
    """A file that takes everything; what cannot be written is lost."""

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes
