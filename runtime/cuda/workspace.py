"""Memory of a device pipeline: buffers that grow and have one address until they do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .driver.device import Device
from .driver.memory import DeviceMemory, PinnedMemory

_SPARE = 1.25
"""A buffer that grows gets this much more than was asked for: images come in many sizes."""


class Workspace:
    """Named buffers on a device, and page-locked ones on the host. Not thread-safe.

    Attributes:
        generation: counts up whenever a device buffer moves. A captured graph, which holds addresses, is good for one
            generation.

    Example:
        >>> workspace = Workspace(device)  # doctest: +SKIP
        >>> workspace.reserve({"words": 4 << 20})  # doctest: +SKIP
        >>> workspace.host("words", 1024)[:] = 0  # doctest: +SKIP
    """

    def __init__(self, device: Device) -> None:
        self.generation = 0
        self._device = device
        self._memory: dict[str, DeviceMemory] = {}
        self._pinned: dict[str, PinnedMemory] = {}

    def reserve(self, sizes: Mapping[str, int]) -> None:
        """Make each buffer at least this large. A buffer that grows loses its contents; nothing may be running.

        Raises:
            DeviceError: the device has no room; the buffers that had to grow are lost.
        """
        for name, nbytes in sizes.items():
            have = self._memory.get(name)
            if have is not None and have.nbytes >= nbytes:
                continue
            grown = nbytes
            if have is not None:
                grown = int(nbytes * _SPARE)
                del self._memory[name]
                have.free()
            self.generation += 1
            self._memory[name] = self._device.memory(max(grown, 1))

    def would_grow(self, sizes: Mapping[str, int]) -> bool:
        """Whether `reserve` would move a buffer that may be in use."""
        return any(self.size(name) < nbytes for name, nbytes in sizes.items())

    def __getitem__(self, name: str) -> int:
        """Address of a buffer."""
        return self._memory[name].pointer

    def size(self, name: str) -> int:
        """Bytes of a buffer, 0 where it was never reserved."""
        return self._memory[name].nbytes if name in self._memory else 0

    def nbytes(self) -> int:
        """Bytes of device memory."""
        return sum(memory.nbytes for memory in self._memory.values())

    def host(self, name: str, nbytes: int) -> NDArray[np.uint8]:
        """(nbytes,) uint8 of page-locked host memory; contents of an earlier call may be gone."""
        have = self._pinned.get(name)
        if have is None or have.nbytes < nbytes:
            grown = nbytes if have is None else int(nbytes * _SPARE)
            if have is not None:
                del self._pinned[name]
                have.free()
            have = self._pinned[name] = self._device.pinned(max(grown, 1))
        return have.array[:nbytes]

    def close(self) -> None:
        """Free everything; nothing may be running."""
        for memory in self._memory.values():
            memory.free()
        for pinned in self._pinned.values():
            pinned.free()
        self._memory.clear()
        self._pinned.clear()
