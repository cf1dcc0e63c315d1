"""Images from strangers, decoded in a process of their own, whose time and memory are limited.

A file of a few hundred bytes may ask a decoder for seconds and gigabytes, within any limit of pixels that lets
photographs pass, and a decoder's bug may end the process that it runs in: here, one with nothing else in it.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import FastSamError, ImageError, ParameterError
from ..system.fork import ForkLock, tell_of_forks
from .image import MAX_PIXELS, ImageFile, ImageSource, load_image
from .reading.opening import file_content, is_encoded, source_name

_log = logging.getLogger(__name__)

_LENGTH_BYTES = 8
_LARGEST_HEADER = 1 << 20
_START_S = 60.0
"""Allowed on top for the first image, before which Python and NumPy are loaded."""


class IsolatedLoader:
    """Reads images as `load_image` does, in a child process with limits. Usable from many threads, one image at a time.

    The child starts with the first image (0.3 s) or with `start`, and again after one that has exceeded a limit. It
    costs 4 to 5 ms for each million pixels on a busy machine, and some 50 MB of memory. Linux keeps to both limits,
    other systems to the one of time.

    >>> with IsolatedLoader(seconds=5) as loader:                    # doctest: +SKIP
    ...     pixels = loader.load_image(uploaded)
    """

    def __init__(self, *, seconds: float = 20.0, memory_bytes: int = 2**31) -> None:
        """
        Args:
            seconds: that one image may take.
            memory_bytes: that decoding may take on top of what the child has at its start.

        Raises:
            ParameterError: a limit is not above 0.
        """
        for name, value in (("seconds", seconds), ("memory_bytes", memory_bytes)):
            if isinstance(value, bool) or not 0 < value < float("inf"):
                raise ParameterError(f"{name} is {value!r}, expected a number above 0")
        self._seconds, self._memory_bytes = seconds, int(memory_bytes)
        self._child: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._lock = ForkLock()
        tell_of_forks(self)

    def load_image(
        self, source: ImageSource, *, color: str = "RGB", max_pixels: int | None = MAX_PIXELS, name: str | None = None
    ) -> NDArray[np.uint8]:
        """See `load_image`. Arrays and PIL images are no files any more and are read here.

        Raises:
            ImageError: also for an image that exceeds a limit, or that ends the child.
        """
        file = source if isinstance(source, ImageFile) else None
        encoded = file.source if file is not None else source
        if isinstance(encoded, np.ndarray | Image.Image) or not is_encoded(encoded):
            return load_image(encoded, color=color, max_pixels=max_pixels, name=name)
        name = name or source_name(encoded)  # an `ImageFile` may name this loader: it is not asked again
        request = {"max_pixels": max_pixels, "name": name, **(file.selection.to_json() if file is not None else {})}
        content = file_content(encoded, name)
        with self._lock:
            answer, pixels = self._exchanged(request, content, name)
        for level, message in answer["log"]:
            _log.log(level, "%s", message)
        if pixels is None:
            raise ImageError(answer["error"])
        return pixels

    def start(self) -> None:
        """Start the child now, without waiting until it is ready: the first image need not wait for all of it."""
        with self._lock:
            self._start()

    def close(self) -> None:
        """End the child. The next image starts another one."""
        with self._lock:
            self._stop()

    def __enter__(self) -> IsolatedLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def after_fork(self) -> None:
        """See `Inherited.after_fork`: the child that decodes is the other process's."""
        child, self._child = self._child, None
        if child is not None:
            _close_pipes(child)

    def _exchanged(
        self, request: dict[str, Any], content: bytes, name: str
    ) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
        """The child's answer and the pixels; None where it has an error instead. A child that gives none is ended."""
        extra_s = self._start()
        assert self._child is not None
        try:
            deadline = monotonic() + self._seconds + extra_s
            _write(self._child.stdin, {**request, "bytes": len(content)}, content)
            answer = _header(self._child.stdout, deadline)
            self._is_ready = True
            if "error" in answer:
                return answer, None
            h, w = answer["hw"]
            pixels = np.frombuffer(_read(self._child.stdout, h * w * 3, deadline), np.uint8)
            return answer, pixels.reshape(h, w, 3)
        except TimeoutError:
            self._stop()
            raise ImageError(
                f"{name}: decoding it takes more than {self._seconds:g} s; make the image smaller or convert it to PNG"
            ) from None
        except (OSError, LookupError, TypeError, ValueError) as error:  # the pipe has ended, or something writes to it
            self._stop()
            raise ImageError(
                f"{name}: the process that decodes it has ended; the file is damaged or needs more than "
                f"{self._memory_bytes >> 20} MiB; make the image smaller or convert it to PNG"
            ) from error
        except BaseException:  # an answer that nobody reads must not be taken for that to the next question
            self._stop()
            raise

    def _start(self) -> float:
        """Make sure that a child of this process runs; the seconds that its start may still take."""
        if self._child is not None and self._child.poll() is None:
            return 0 if self._is_ready else _START_S
        self._stop()
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({self._memory_bytes})"
        self._child = subprocess.Popen(
            [_python(), "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        self._is_ready = False
        return _START_S

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            _close_pipes(child)


def _close_pipes(child: subprocess.Popen[bytes]) -> None:
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


def _python() -> str:
    """The interpreter; in programs that embed Python, the one of its installation."""
    embedding = Path(sys.executable or "-")
    beside = Path(sys.prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    for path in (embedding, beside):
        if path.name.startswith("python") and path.is_file():
            return str(path)
    raise ImageError(f"no Python was found to decode in (looked at {embedding} and {beside}); decode without limits")


def _write(stream: Any, header: dict[str, Any], content: bytes | memoryview = b"") -> None:
    text = json.dumps(header).encode()
    for part in (len(text).to_bytes(_LENGTH_BYTES, "big") + text, content):
        rest = memoryview(part)
        while rest:
            rest = rest[stream.write(rest) :]


def _header(stream: Any, deadline: float | None = None) -> dict[str, Any]:
    length = int.from_bytes(_read(stream, _LENGTH_BYTES, deadline), "big")
    if length > _LARGEST_HEADER:
        raise ValueError("no header")
    header: dict[str, Any] = json.loads(_read(stream, length, deadline))
    return header


def _read(stream: Any, size: int, deadline: float | None = None) -> bytearray:
    """Exactly so many bytes of a pipe without a buffer.

    Raises:
        TimeoutError: they are not there in time.
        BrokenPipeError: the stream has ended.
    """
    content = bytearray(size)
    rest = memoryview(content)
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while rest:
            if deadline is not None and not selector.select(max(0.0, deadline - monotonic())):
                raise TimeoutError
            count = stream.readinto(rest)
            if not count:
                raise BrokenPipeError("the stream has ended")
            rest = rest[count:]
    return content


def serve(memory_bytes: int) -> None:
    """What the child does: answer questions from standard input until it ends."""
    questions, answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)  # what libraries print is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # is the parent's to act on
    Image.init()
    _limit_memory(memory_bytes)
    said = _Kept()
    logger = logging.getLogger("fastsam_deploy")
    logger.addHandler(said)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    while True:
        try:
            question = _header(questions)
            content = _read(questions, question["bytes"])
        except BrokenPipeError:
            return
        said.records.clear()
        try:
            pixels = _decoded(question, content)
        except FastSamError as error:
            _write(answers, {"log": said.records, "error": str(error)})
        except MemoryError:
            text = f"{question['name']}: there is not enough memory to read it; make the image smaller"
            _write(answers, {"log": said.records, "error": text})
        else:
            _write(answers, {"log": said.records, "hw": pixels.shape[:2]}, pixels.data.cast("B"))


def _decoded(question: dict[str, Any], content: bytearray) -> NDArray[np.uint8]:
    value_range = question.get("range", "full")
    return load_image(
        content,
        max_pixels=question["max_pixels"],
        name=question["name"],
        page=question.get("page"),
        bands=question.get("bands"),
        range=tuple(value_range) if isinstance(value_range, list) else value_range,
    )


class _Kept(logging.Handler):
    """Keeps what is logged, for the parent to log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.levelno, record.getMessage()))


def _limit_memory(memory_bytes: int) -> None:
    """On top of what is taken already. Where the system has no such limit, there is none."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return
