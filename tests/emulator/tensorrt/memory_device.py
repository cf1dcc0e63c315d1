"""A device in ordinary memory, with what of runtime/cuda/driver/device.py the TensorRT engine uses.

Streams are lazy: what is put on one happens at `synchronize`, so that a forgotten wait gives wrong numbers here too.
Every access is checked: outside of `active`, of freed memory, beyond its end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class MemoryDevice:
    """See runtime/cuda/driver/device.py."""

    def __init__(self, number: int = 0, name: str = "Test GPU", compute_capability: tuple[int, int] = (8, 9)) -> None:
        self.number = number
        self.name = name
        self.compute_capability = compute_capability
        self.driver_version = "13.0"
        self.live: dict[int, MemoryBlock] = {}
        self.streams: dict[int, MemoryStream] = {}
        self.pinned_live = 0
        self._depth = threading.local()

    @contextmanager
    def active(self) -> Iterator[None]:
        self._depth.value = getattr(self._depth, "value", 0) + 1
        try:
            yield
        finally:
            self._depth.value -= 1

    @property
    def is_active(self) -> bool:
        return getattr(self._depth, "value", 0) > 0

    def memory(self, nbytes: int) -> MemoryBlock:
        return MemoryBlock(self, nbytes)

    def pinned(self, nbytes: int) -> PinnedBlock:
        return PinnedBlock(self, nbytes)

    def stream(self) -> MemoryStream:
        return MemoryStream(self)

    def bytes_at(self, pointer: int, nbytes: int) -> np.ndarray:
        """The memory at an address, or an error where it is not all in one living block."""
        for start, block in self.live.items():
            if start <= pointer and pointer + nbytes <= start + block.nbytes:
                return block.content[pointer - start : pointer - start + nbytes]
        raise MemoryError(f"{nbytes} bytes at {pointer:#x}: no such device memory")


class MemoryBlock:
    """See runtime/cuda/driver/memory.py."""

    def __init__(self, device: MemoryDevice, nbytes: int) -> None:
        self.nbytes = nbytes
        self.content = np.full(nbytes, 0xCD, np.uint8)
        self._device = device
        self._pointer = self.content.ctypes.data
        device.live[self._pointer] = self

    @property
    def pointer(self) -> int:
        assert self._pointer in self._device.live, "used after free"
        return self._pointer

    def free(self) -> None:
        self._device.live.pop(self._pointer, None)


class PinnedBlock:
    """See runtime/cuda/driver/memory.py."""

    def __init__(self, device: MemoryDevice, nbytes: int) -> None:
        self.array = np.full(nbytes, 0xEF, np.uint8)
        self._device: MemoryDevice | None = device
        device.pinned_live += 1

    def free(self) -> None:
        if self._device is not None:
            self._device.pinned_live -= 1
            self._device = None


class MemoryStream:
    """See runtime/cuda/driver/stream.py."""

    _next = 0x1000

    def __init__(self, device: MemoryDevice) -> None:
        MemoryStream._next += 1
        self.handle = MemoryStream._next
        self.waiting: list[Callable[[], None]] = []
        self._device = device
        device.streams[self.handle] = self

    def copy_in(self, to: Any, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        self.waiting.append(lambda: np.copyto(self._device.bytes_at(to, array.nbytes), array.view(np.uint8).ravel()))

    def copy_out(self, array: np.ndarray, source: Any) -> None:
        assert array.flags.c_contiguous
        self.waiting.append(
            lambda: np.copyto(array.reshape(-1).view(np.uint8), self._device.bytes_at(source, array.nbytes))
        )

    def synchronize(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()

    def close(self) -> None:
        self.synchronize()
        self._device.streams.pop(self.handle, None)
