"""Image files of strangers, decoded in processes of their own, several at once."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from ..stages.image import load_image
from ..stages.isolated import IsolatedLoader
from ..wire.question import Limits
from .admission import Deadline, Slots

NAME = "image"
"""What messages call the image of a request."""


class Decoders:
    """Reads image files as `load_image` does, in child processes with limits of time and memory, or in this one.

    Example:
        >>> with Decoders(1, None, Limits()) as decoders:  # None: in this process
        ...     decoders.load(b"GIF89a\\x01\\0\\x01\\0\\0\\0\\0,\\0\\0\\0\\0\\x01\\0\\x01\\0\\0\\x02\\x02D\\x01\\0;", \
Deadline(5)).shape
        (1, 1, 3)
    """

    def __init__(self, count: int, seconds: float | None, limits: Limits) -> None:
        """
        Args:
            count: of images that are decoded at once; as many children are started when they are needed, one at once.
            seconds: that one image may take; None: decode in this process, without limits.
            limits: of a file and of its pixels.
        """
        self._limits = limits
        self._slots = Slots(count)
        self._loaders = [] if seconds is None else [IsolatedLoader(seconds=seconds) for _ in range(count)]
        self._free = deque(self._loaders)
        for loader in self._loaders[:1]:
            loader.start()

    def load(self, content: bytes, deadline: Deadline) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of an image file.

        Raises:
            ImageError: it is no image, or exceeds a limit.
            LateError: no decoder became free in time.
        """
        self._limits.check_bytes(content)
        with self._slots.taken(deadline):
            if not self._loaders:
                return load_image(content, max_pixels=self._limits.pixels, name=NAME)
            loader = self._free.pop()  # the one that was used last: its child runs
            try:
                return loader.load_image(content, max_pixels=self._limits.pixels, name=NAME)
            finally:
                self._free.append(loader)

    def close(self) -> None:
        """End the children."""
        with ExitStack() as stack:
            for loader in self._loaders:
                stack.callback(loader.close)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
