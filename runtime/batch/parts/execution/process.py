"""A child process that gets a job, then requests as lines of JSON, and answers in lines of JSON."""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ..job import Job

Message = dict[str, Any]

_TOLD_TO_END = (0, -signal.SIGTERM)


class ChildProcess:
    """A child that runs a function of this package, named by module and name.

    The child ends when this process does, however that ends: its standard input is then at its end.

    Example:
        >>> child = ChildProcess("fastsam_deploy.runtime.batch.parts.execution.local:serve", job, 1)  # doctest: +SKIP
        >>> child.send({"number": 3})  # doctest: +SKIP
        >>> next(child.messages())  # doctest: +SKIP
        {'images': 1}
    """

    def __init__(self, target: str, job: Job, threads: int | None) -> None:
        """
        Args:
            target: "package.module:function"; the function gets the job, the threads, an iterator of requests, and a
                function that answers.
            job, threads: for it.
        """
        module, name = target.split(":")
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({module!r}, {name!r})"
        few = {} if threads is None else {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **few},
            start_new_session=True,  # Ctrl-C is for the driver, which lets its workers finish
        )
        self.send({"job": b64encode(pickle.dumps((job, threads))).decode()})

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send a request. A child that is dead gets nothing; its messages then end."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def messages(self) -> Iterator[Message]:
        """Its answers, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith(b"\n"):
                return  # it was killed while it wrote
            yield json.loads(line)

    def how_it_ended(self) -> str:
        """Waits until it has ended, and says how, in words."""
        code = self._process.wait()
        if code < 0:
            with suppress(ValueError):
                name = signal.Signals(-code).name
                return f"{name}: out of memory, or killed by somebody" if name == "SIGKILL" else name
        return f"exit code {code}"

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def serve(module: str, name: str) -> None:
    """The child's side. What libraries print goes to standard error.

    Args:
        module, name: of the function.

    Example:
        >>> serve("fastsam_deploy.runtime.batch.parts.execution.local", "serve")  # doctest: +SKIP
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # the driver decides
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    first: Message = json.loads(sys.stdin.buffer.readline() or b"null") or sys.exit(0)
    from importlib import import_module

    function: Callable[..., None] = getattr(import_module(module), name)
    job, threads = pickle.loads(b64decode(first["job"]))
    requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()

    def answer(message: Message) -> None:
        try:
            answers.write(json.dumps(message).encode() + b"\n")
            answers.flush()
        except OSError:  # nobody is there any more
            os._exit(0)

    function(job, threads, iter(requests.get, None), answer)


def _read_requests(requests: queue.SimpleQueue[Message]) -> None:
    for line in sys.stdin.buffer:
        requests.put(json.loads(line))
    os._exit(0)  # the driver is gone, also if it was killed
