"""The child's side: questions from standard input, answers to standard output."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import FastSamError
from .messages import read_bytes, read_header, write_message

_GRACE_S = 60


class Questions:
    """What the parent asks. Iterating says first that this process is ready, with an empty answer. It ends when the
    parent has ended, or has closed the pipe.

    What libraries print goes to standard error. Ctrl-C is the parent's to act on.

    Example:
        >>> for question, content in (questions := Questions()):     # doctest: +SKIP
        ...     questions.answer({"bytes": len(content)})
    """

    def __init__(self) -> None:
        self._asked, self._answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
        os.dup2(2, 1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._said = _Kept()
        logger = logging.getLogger("fastsam_deploy")
        logger.addHandler(self._said)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def __iter__(self) -> Iterator[tuple[dict[str, Any], bytearray]]:
        self.answer({})
        while True:
            try:
                question = read_header(self._asked)
                content = read_bytes(self._asked, question.get("bytes", 0))
            except BrokenPipeError:
                return
            yield question, content

    def answer(self, header: dict[str, Any], content: bytes | memoryview = b"") -> None:
        """Answer with what was logged since the last answer. Raises OSError if the parent has ended."""
        said, self._said.records = self._said.records, []
        write_message(self._answers, {"log": said, **header}, content)

    @contextmanager
    def answered_errors(self, source: str, advice: str) -> Iterator[None]:
        """Errors of the block are the answer: what they say, and the name of their class.

        Args:
            source: what the message calls the file.
            advice: what the user can do where there is not enough memory.
        """
        try:
            yield
        except FastSamError as error:
            self.answer({"error": str(error), "kind": type(error).__name__})
        except MemoryError:
            self.answer({"error": f"{source}: there is not enough memory to read it; {advice}", "kind": "FastSamError"})


@contextmanager
def ends_after(seconds: float) -> Iterator[None]:
    """The system ends this process if the block takes much longer: its parent may have been killed.

    Example:
        >>> with ends_after(20):                                     # doctest: +SKIP
        ...     decode()
    """
    has_alarm = hasattr(signal, "alarm")
    if has_alarm:
        signal.alarm(min(math.ceil(seconds), 1 << 30) + _GRACE_S)
    try:
        yield
    finally:
        if has_alarm:
            signal.alarm(0)


class _Kept(logging.Handler):
    """Keeps what is logged, for the parent to log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.levelno, record.getMessage()))
