"""Memory of a device, and page-locked memory of the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DeviceError, ParameterError
from . import process


class DeviceMemory(process.Owned):
    """Bytes on a device. Freed exactly once (see `process.Owned`), after the work that uses them.

    Example:
        >>> memory = device.memory(1 << 20)  # doctest: +SKIP
        >>> memory.nbytes, hex(memory.pointer)  # doctest: +SKIP
        (1048576, '0x7f2a40000000')
    """

    nbytes: int

    def __init__(self, device: process.OpenDevice, nbytes: int) -> None:
        """Use `Device.memory`."""
        super().__init__(device, _allocated(device, nbytes, device.pycuda.mem_alloc, "device memory"))
        self.device = device
        self.nbytes = nbytes
        self._pointer = int(self._cell[0])

    @property
    def pointer(self) -> int:
        """Its address on the device.

        Raises:
            DeviceError: it was freed.
        """
        self.held()
        return self._pointer

    def __str__(self) -> str:
        return f"{self.device}: memory of {self.nbytes} bytes"


class PinnedMemory:
    """Page-locked bytes of the host, as an array.

    The pages are returned after `free`, or when this object is gone, once no view of `array` is left.

    Example:
        >>> pinned = device.pinned(1024)  # doctest: +SKIP
        >>> pinned.array[:] = 7  # doctest: +SKIP
        >>> stream.copy_in(memory, pinned.array)  # doctest: +SKIP
    """

    nbytes: int

    def __init__(self, device: process.OpenDevice, nbytes: int) -> None:
        """Use `Device.pinned`."""
        self.device = device
        self.nbytes = nbytes
        self._array: NDArray[np.uint8] | None = np.asarray(_Pages(device, nbytes))

    @property
    def array(self) -> NDArray[np.uint8]:
        """(nbytes,) uint8.

        Raises:
            DeviceError: it was freed.
        """
        if self._array is None:
            raise DeviceError(
                f"{self.device}: page-locked memory of {self.nbytes} bytes: it was freed; "
                "expected one in use; make a new one"
            )
        return self._array

    @property
    def pointer(self) -> int:
        """Its address in the host's memory."""
        return int(self.array.ctypes.data)

    def free(self) -> None:
        """Free the pages. Freeing them again does nothing."""
        self._array = None


class _Pages(process.Owned):
    """The pages themselves. NumPy keeps this alive for as long as an array shows them."""

    def __init__(self, device: process.OpenDevice, nbytes: int) -> None:
        def page_locked(size: int) -> Any:
            return device.pycuda.pagelocked_empty(size, np.uint8)

        array = _allocated(device, nbytes, page_locked, "page-locked host memory")
        address = array.ctypes.data
        super().__init__(device, array.base)
        self.__array_interface__ = {"version": 3, "data": (address, False), "shape": (nbytes,), "typestr": "|u1"}


def _allocated(device: process.OpenDevice, nbytes: int, allocate: Any, kind: str) -> Any:
    if nbytes < 0:
        raise ParameterError(f"{device}: {nbytes} bytes of {kind}, expected 0 or more")
    try:
        # The driver refuses 0 bytes; whoever asks for none gets an address that nothing may be read from.
        with device.active():
            return allocate(max(nbytes, 1))
    except device.pycuda.MemoryError as error:
        free, total = device.memory_free(), device.memory_total
        room = f"free on the device {free} of {total} bytes" if kind == "device memory" else str(error)
        raise DeviceError(
            f"{device}: out of memory: needed {nbytes} bytes of {kind}; {room}; "
            "use a smaller batch or imgsz, or end other programs that hold memory (nvidia-smi lists them)"
        ) from error
    except device.pycuda.Error as error:
        raise process.translated(device, f"allocating {nbytes} bytes of {kind}", error) from error
