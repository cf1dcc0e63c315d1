"""The parent's side: a process with limits, that is asked over a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from ..errors import FastSamError
from ..system.fork import tell_of_forks
from .limits import Limits
from .messages import read_bytes, read_header, write_message

START_S = 60.0
"""Allowed on top until the first answer, before which Python and its libraries are loaded."""

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""One arena for each thread would take 64 MiB of address space, which is what is limited."""


class LimitedProcess:
    """A process of this Python that runs one function. It ends with `stop`, or when nobody holds this object any more.

    Example:
        >>> process = LimitedProcess("fastsam_deploy.runtime.stages.isolated", [2**31])    # doctest: +SKIP
        >>> process.ask({"name": "x.jpg", "bytes": len(content)}, content)                 # doctest: +SKIP
        >>> process.answer(deadline=monotonic() + 20)                                      # doctest: +SKIP
        {'log': [], 'hw': [400, 600]}
    """

    def __init__(self, module: str, arguments: list[Any]) -> None:
        """
        Args:
            module: whose function `serve` runs, see `Questions`.
            arguments: of that function; numbers and texts.

        Raises:
            FastSamError: no Python was found.
        """
        code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import serve; serve(*{arguments!r})"
        self._popen: subprocess.Popen[bytes] = subprocess.Popen(
            [_python(), "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **_ENVIRONMENT},
        )
        self.pid = self._popen.pid
        self._is_ready = False
        self._end = weakref.finalize(self, _end, self._popen)
        tell_of_forks(self)

    @property
    def is_running(self) -> bool:
        """Whether it can be asked by this process: a forked child has no part in it."""
        return self._end.alive and self._popen.poll() is None

    def ask(self, question: dict[str, Any], content: bytes | memoryview = b"") -> None:
        """Send a question, once the process is ready. Raises: see `wait_until_ready`; OSError if it has ended."""
        self.wait_until_ready()
        write_message(self._popen.stdin, question, content)

    def wait_until_ready(self) -> None:
        """Wait until it reads questions: what it takes to start is no part of what an answer takes.

        Raises:
            TimeoutError, OSError, ValueError: see `read_header`.
        """
        if not self._is_ready:
            self.answer(monotonic() + START_S)
            self._is_ready = True

    def answer(self, deadline: float, most_bytes: int | None = None) -> dict[str, Any]:
        """The header of the next answer.

        Args:
            deadline: when it must be there, by `time.monotonic`.
            most_bytes: limit of `resident_bytes` until then, for a process that is not told of one: some libraries do
                without what they are refused, and do otherwise where they are not.

        Raises:
            MemoryError: the limit is exceeded.
            TimeoutError, OSError, ValueError: see `read_header`.
        """

        def look() -> None:
            if most_bytes is not None and self.resident_bytes > most_bytes:
                raise MemoryError

        return read_header(self._popen.stdout, deadline, None if most_bytes is None else look)

    @property
    def resident_bytes(self) -> int:
        """Memory that it has now; 0 where the system does not say."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def read(self, size: int, deadline: float) -> bytearray:
        """Bytes that follow a header. Raises: see `read_bytes`."""
        return read_bytes(self._popen.stdout, size, deadline)

    def stop(self) -> None:
        """End it, whatever it does. May be called twice."""
        self._end()

    def after_fork(self) -> None:
        """See `Inherited.after_fork`: it is the other process's."""
        if self._end.detach() is not None:
            _close_pipes(self._popen)

    @contextmanager
    def within(
        self, limits: Limits, source: str, verb: tuple[str, str], advice: str, error: type[FastSamError]
    ) -> Iterator[None]:
        """Ask and read the answer in the block. If that fails the process is ended: an answer may be under way.

        Args:
            limits: for the message.
            source: what the message calls the file.
            verb: such as ("decoding", "decodes").
            advice: what the user can do.
            error: class of the error.

        Raises:
            What `error` says: a limit was exceeded, or the process has ended.
        """
        try:
            yield
        except FastSamError:  # which may be a ValueError too
            self.stop()
            raise
        except TimeoutError:
            self.stop()
            raise error(f"{source}: {verb[0]} it takes more than {limits.seconds:g} s; {advice}") from None
        except MemoryError:
            self.stop()
            raise error(f"{source}: {verb[0]} it takes more than {limits.memory_bytes >> 20} MiB; {advice}") from None
        except (OSError, LookupError, TypeError, ValueError) as fault:  # the pipe has ended, or something writes to it
            self.stop()
            raise error(
                f"{source}: the process that {verb[1]} it has ended; the file is damaged or needs more than "
                f"{limits.memory_bytes >> 20} MiB; {advice}"
            ) from fault
        except BaseException:  # an answer that nobody reads must not be taken for that to the next question
            self.stop()
            raise


def _end(popen: subprocess.Popen[bytes]) -> None:
    popen.kill()
    popen.wait()
    _close_pipes(popen)


def _close_pipes(popen: subprocess.Popen[bytes]) -> None:
    for stream in (popen.stdin, popen.stdout):
        if stream is not None:
            stream.close()


def _python() -> str:
    """The interpreter; in programs that embed Python, the one of its installation."""
    embedding = Path(sys.executable or "-")
    beside = Path(sys.prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    for path in (embedding, beside):
        if path.name.startswith("python") and path.is_file():
            return str(path)
    raise FastSamError(
        f"no Python was found for a process of its own (looked at {embedding} and {beside}); leave out what limits "
        "time and memory"
    )
