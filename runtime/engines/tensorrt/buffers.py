"""Memory for the tensors of a network that is fed from the host: on the device, and page-locked beside it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cuda.driver.device import Device


class Buffers:
    """For each tensor device memory and page-locked host memory, which grow and are used again. Not thread-safe."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: dict[str, tuple[Any, Any]] = {}

    def reserve(self, sizes: Mapping[str, int]) -> None:
        """At least so many bytes for each name. What grows moves: nothing may be running on it."""
        for name, nbytes in sizes.items():
            if name in self._memory and self._memory[name][0].nbytes >= nbytes:
                continue
            self._free(name)
            memory = self._device.memory(nbytes)
            try:
                self._memory[name] = memory, self._device.pinned(nbytes)
            except BaseException:
                memory.free()
                raise

    def pointer(self, name: str) -> int:
        """Address on the device."""
        pointer: int = self._memory[name][0].pointer
        return pointer

    def host(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The page-locked memory, as an array of this shape; the next run overwrites it."""
        whole: NDArray[np.uint8] = self._memory[name][1].array
        return whole[: prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    def close(self) -> None:
        """Free all."""
        for name in list(self._memory):
            self._free(name)

    def _free(self, name: str) -> None:
        for memory in self._memory.pop(name, ()):
            memory.free()
