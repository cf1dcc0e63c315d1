"""Kernels: PTX that the driver compiles for its device, and launches of its functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DeviceError
from . import process
from .memory import DeviceMemory
from .stream import Stream

_SHARED_WITHOUT_ASKING = 48 * 1024
"""Bytes of dynamic shared memory that any kernel may have; more must be asked for."""

Triple = tuple[int, int, int]


class Module(process.Owned):
    """Loaded PTX. Its functions keep it alive.

    Example:
        >>> kernel = device.module(Path("masks.ptx")).function("layout_masks")  # doctest: +SKIP
    """

    def __init__(self, device: process.OpenDevice, ptx: bytes | Path) -> None:
        """Use `Device.module`."""
        self.device = device
        self.name = ptx.name if isinstance(ptx, Path) else "PTX"
        # PyCUDA's functions hold its module: so they are kept here alone, beside it, and go together with it.
        functions: dict[str, Any] = {}
        super().__init__(device, self._loaded(ptx), functions)

    def __str__(self) -> str:
        return f"{self.device}: {self.name}"

    def function(self, name: str) -> Function:
        """The kernel of this name.

        Raises:
            DeviceError: it is not there, or the module was freed.
        """
        self.raw_function(name)
        return Function(self, name)

    def raw_function(self, name: str) -> Any:
        """PyCUDA's function. Do not keep it: it would keep the module alive."""
        module = self.held()
        functions = self._cell[1]
        if name not in functions:
            what = f"looking for the kernel {name!r} in {self.name}"
            functions[name] = self.device.call(what, module.get_function, name)
        return functions[name]

    def _loaded(self, ptx: bytes | Path) -> Any:
        if isinstance(ptx, Path):
            path = ptx
            try:
                ptx = path.read_bytes()
            except OSError as error:
                raise DeviceError(
                    f"{path}: {error.strerror}; expected a file with PTX; install the package again"
                ) from error
        # The driver looks for the end of the text.
        return self.device.call(f"compiling {self.name}", self.device.pycuda.module_from_buffer, ptx + b"\0")


class Function:
    """A kernel, to be called; made by `Module.function`.

    Example:
        >>> kernel((8, 1, 1), (256, 1, 1), [memory, np.int32(3)], 0, stream)  # doctest: +SKIP
    """

    def __init__(self, module: Module, name: str) -> None:
        self.name = name
        self._module = module
        self._shared_allowed = _SHARED_WITHOUT_ASKING

    def __call__(
        self,
        grid: Triple,
        block: Triple,
        args: Sequence[np.number[Any] | DeviceMemory],
        shared_bytes: int,
        stream: Stream,
    ) -> None:
        """Put one launch into a stream.

        Args:
            grid: blocks in x, y, z; each at least 1.
            block: threads of a block in x, y, z.
            args: NumPy scalars of exactly the types of the kernel's parameters; `np.uintp` or the memory for a pointer.
            shared_bytes: dynamic shared memory of a block.

        Raises:
            DeviceError: the driver refuses the launch. Errors of the running kernel come from `Stream.synchronize`.
            TypeError: an argument is of another type: its size would not be known.
        """
        device = self._module.device
        raw = self._module.raw_function(self.name)
        if shared_bytes > self._shared_allowed:
            attribute = device.pycuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            device.call(f"allowing {self.name} {shared_bytes} shared bytes", raw.set_attribute, attribute, shared_bytes)
            self._shared_allowed = shared_bytes
        values = [_value(argument, self.name) for argument in args]
        with device.active():
            try:
                raw(*values, grid=grid, block=block, shared=shared_bytes, stream=stream.raw)
            except device.pycuda.Error as error:
                raise process.translated(
                    device, f"launching {self.name} (grid {grid}, block {block})", error
                ) from error


def _value(argument: np.number[Any] | DeviceMemory, name: str) -> np.number[Any]:
    value: object = np.uintp(argument.pointer) if isinstance(argument, DeviceMemory) else argument
    if not isinstance(value, np.number):
        raise TypeError(
            f"{name}: argument {argument!r} is a {type(argument).__name__}, expected a NumPy number or DeviceMemory"
        )
    return value
