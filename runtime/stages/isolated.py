"""Images from strangers, decoded in a process of their own, whose time and memory are limited.

A file of a few hundred bytes may ask a decoder for seconds and gigabytes, within any limit of pixels that lets
photographs pass, and a decoder's bug may end the process that it runs in: here, one with nothing else in it.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from ..isolation.limits import Limits, limit_memory
from ..isolation.process import LimitedProcess
from ..isolation.questions import Questions, ends_after
from ..system.fork import ForkLock
from .image import MAX_PIXELS, ImageFile, ImageSource, load_image
from .reading.opening import file_content, is_encoded, source_name

_log = logging.getLogger(__name__)

_VERB, _ADVICE = ("decoding", "decodes"), "make the image smaller or convert it to PNG"


class IsolatedLoader:
    """Reads images as `load_image` does, in a child process with limits. Usable from many threads, one image at a time.

    The child starts with the first image (0.3 s) or with `start`, and again after one that has exceeded a limit. It
    costs up to 3 ms of a processor for each million pixels (benchmarks/isolation.py), and some 50 MB of memory. Linux
    keeps to both limits, other systems to the one of time.

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
        self._limits = Limits(seconds, memory_bytes)
        self._child: LimitedProcess | None = None
        self._lock = ForkLock()

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
            child, self._child = self._child, None
            if child is not None:
                child.stop()

    def __enter__(self) -> IsolatedLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchanged(
        self, request: dict[str, Any], content: bytes, name: str
    ) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
        """The child's answer and the pixels; None where it has an error instead. A child that gives none is ended."""
        child = self._start()
        with child.within(self._limits, name, _VERB, _ADVICE, ImageError):
            child.ask({**request, "bytes": len(content)}, content)
            deadline = monotonic() + self._limits.seconds
            answer = child.answer(deadline)
            if "error" in answer:
                return answer, None
            h, w = answer["hw"]
            return answer, np.frombuffer(child.read(h * w * 3, deadline), np.uint8).reshape(h, w, 3)

    def _start(self) -> LimitedProcess:
        """A child of this process that runs."""
        if self._child is None or not self._child.is_running:
            if self._child is not None:
                self._child.stop()
            self._child = LimitedProcess(__name__, [self._limits.seconds, self._limits.memory_bytes])
        return self._child


def serve(seconds: float, memory_bytes: int) -> None:
    """What the child does: answer questions until there are no more."""
    questions = Questions()
    Image.init()
    limit_memory(memory_bytes)
    for question, content in questions:
        with questions.answered_errors(question["name"], "make the image smaller"):
            with ends_after(seconds):
                pixels = _decoded(question, content)
            questions.answer({"hw": pixels.shape[:2]}, pixels.data.cast("B"))


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
