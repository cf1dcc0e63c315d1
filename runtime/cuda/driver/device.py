"""A GPU as this package uses it: its primary context, and streams, memory and kernels in it."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from ...errors import DeviceError
from ...system.fork import keep_for_ever
from . import bindings, process
from .memory import DeviceMemory, PinnedMemory
from .module import Module
from .stream import Stream

_T = TypeVar("_T")
_OPEN: dict[int, Device] = {}
_DEVICE = re.compile(r"cuda(?::(\d{1,4}))?")


def device_number(text: str) -> int:
    """0 for "cuda", N for "cuda:N".

    Raises:
        DeviceError: it is another text.

    Example:
        >>> device_number("cuda:1")
        1
    """
    match = _DEVICE.fullmatch(text)
    if match is None:
        raise DeviceError(f"device is {text!r}, expected 'cuda' or 'cuda:N'; pass for example device='cuda:0'")
    return int(match[1] or 0)


class Device:
    """One GPU. A process has one object for each number; get it with `open`. Thread-safe.

    It works in the device's primary context, which it shares with TensorRT, ONNX Runtime and PyTorch, and keeps that
    context until the process ends, as those libraries do. Streams, memory and modules may be freed in any order and
    from any thread. Every operation makes the context current; within `active` that is done once for all of them.

    Example:
        >>> device = Device.open(0)  # doctest: +SKIP
        >>> str(device)  # doctest: +SKIP
        'cuda:0 (NVIDIA H100 80GB HBM3)'
        >>> memory, stream = device.memory(1 << 20), device.stream()  # doctest: +SKIP
    """

    number: int
    name: str
    compute_capability: tuple[int, int]
    memory_total: int
    """Bytes."""
    driver_version: str
    """The newest CUDA that the driver knows, for example "13.0"."""
    pci_bus_id: str

    def __init__(self, number: int, pycuda: Any) -> None:
        """Use `open`."""
        gpu = pycuda.Device(number)
        version = pycuda.get_driver_version()
        self.number = number
        self.name = gpu.name()
        self.compute_capability = gpu.compute_capability()
        self.memory_total = gpu.total_memory()
        self.driver_version = f"{version // 1000}.{version % 1000 // 10}"
        self.pci_bus_id = gpu.pci_bus_id()
        self.pycuda = pycuda
        try:
            context = gpu.retain_primary_context()
        except pycuda.Error as error:
            raise process.translated(self, "making its context", error) from error
        # Never let go of: a library that ends after us may still need it, and the driver ends it with the process.
        keep_for_ever(context)
        self._context = context
        self._active = _Active(self, pycuda, context)

    @classmethod
    def open(cls, number: int = 0) -> Device:
        """The device of this number, in the driver's order (see CUDA_VISIBLE_DEVICES).

        Raises:
            MissingDependencyError: PyCUDA is not installed.
            DeviceError: there is no driver or no such device, or this process was forked from one that used CUDA.
        """
        pycuda = process.load()
        with process.lock():
            if number not in _OPEN:
                _require_device(number, pycuda)
                _OPEN[number] = cls(number, pycuda)
            return _OPEN[number]

    def __str__(self) -> str:
        return f"cuda:{self.number} ({self.name})"

    @property
    def uuid(self) -> str:
        """As nvidia-smi prints it: "GPU-" and 32 hexadecimal digits in groups.

        Raises:
            MissingDependencyError: cuda-bindings is not installed.
        """
        cuda = bindings.load()
        get = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
        device = bindings.check(cuda.cuDeviceGet(self.number), self, "looking it up")
        return f"GPU-{uuid.UUID(bytes=bytes(bindings.check(get(device), self, 'asking for its UUID').bytes))}"

    def memory_free(self) -> int:
        """Bytes of device memory that are free, on the whole device."""
        free: int = self.call("asking for its free memory", self.pycuda.mem_get_info)[0]
        return free

    def active(self) -> AbstractContextManager[None]:
        """Make the context current on this thread: `with device.active():`. May be nested, also with other devices.

        Not across an `await`: the current context belongs to the thread.

        Raises:
            DeviceError: on entry, in a forked child.
        """
        return self._active

    def stream(self) -> Stream:
        """A new stream, which does not wait for the default stream."""
        return Stream(self)

    def memory(self, nbytes: int) -> DeviceMemory:
        """Device memory, not cleared.

        Raises:
            DeviceError: there is not enough; the message says what was needed and what is free.
        """
        return DeviceMemory(self, nbytes)

    def pinned(self, nbytes: int) -> PinnedMemory:
        """Page-locked host memory, not cleared: copies between it and the device run beside other work.

        Raises:
            DeviceError: there is not enough.
        """
        return PinnedMemory(self, nbytes)

    def module(self, ptx: bytes | Path) -> Module:
        """Load kernels, which the driver compiles for this device.

        Args:
            ptx: PTX text, or the path of a file with it. (A cubin for this very device works too.)

        Raises:
            DeviceError: the driver refuses it, or the file is not there.
        """
        return Module(self, ptx)

    def call(self, what: str, function: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
        """Call PyCUDA in the context; its errors become a DeviceError that says `what` the call was for."""
        stack = process.thread.active
        if not stack or stack[-1] is not self:
            with self._active:
                return self.call(what, function, *arguments, **named)
        process.require_own_process()
        try:
            return function(*arguments, **named)
        except self.pycuda.Error as error:
            raise process.translated(self, what, error) from error

    def abandon(self) -> None:
        """In a forked child, see `driver.Context`: PyCUDA ends a process that ends with a current context.

        `detach` is the one way out of its stack; the driver's answer, an error of course, would go to stderr.
        """
        saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            self._context.detach()
        except self.pycuda.Error:
            pass  # it could not make the context beneath current again: that one is abandoned next
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)


class _Active:
    """Makes a device's context current; one object for all threads, for it keeps nothing itself."""

    __slots__ = ("_context", "_device", "_pop")

    def __init__(self, device: Device, pycuda: Any, context: Any) -> None:
        self._device = device
        self._context = context
        self._pop = pycuda.Context.pop

    def __enter__(self) -> None:
        process.require_own_process()
        stack = process.thread.active
        if not stack or stack[-1] is not self._device:
            self._context.push()
        stack.append(self._device)

    def __exit__(self, *_: object) -> None:
        stack = process.thread.active
        stack.pop()
        if process.is_forked():
            return
        if not stack or stack[-1] is not self._device:
            self._pop()


def _require_device(number: int, pycuda: Any) -> None:
    count = pycuda.Device.count()
    if 0 <= number < count:
        return
    devices = ", ".join(f"cuda:{n} ({pycuda.Device(n).name()})" for n in range(count)) or "none"
    raise DeviceError(
        f"cuda:{number}: no such device; found {count}: {devices}; "
        "pass one of these as device, and check CUDA_VISIBLE_DEVICES"
    )
