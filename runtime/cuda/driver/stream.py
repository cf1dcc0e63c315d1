"""Streams: work that a device does in order while the host goes on."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ...errors import ParameterError
from . import process
from .memory import DeviceMemory

_NON_BLOCKING = 1
_WITHOUT_TIMING = 2


class Stream(process.Owned):
    """A queue of work on a device. The work runs in order; the calls that add to it return at once.

    Arrays of copies are kept alive until `synchronize`. Close the stream with `close`.

    Example:
        >>> stream = device.stream()  # doctest: +SKIP
        >>> stream.copy_in(memory, array)  # doctest: +SKIP
        >>> stream.synchronize()  # doctest: +SKIP
    """

    handle: int
    """The driver's CUstream, for other libraries."""

    def __init__(self, device: process.OpenDevice) -> None:
        """Use `Device.stream`."""
        super().__init__(device, device.call("making a stream", device.pycuda.Stream, _NON_BLOCKING))
        self.device = device
        self.handle = int(self._cell[0].handle)
        self._kept: dict[int, object] = {}

    @property
    def raw(self) -> Any:
        """PyCUDA's stream.

        Raises:
            DeviceError: this one is closed.
        """
        return self.held()

    def __str__(self) -> str:
        return f"{self.device}: stream"

    def copy_in(self, to: DeviceMemory | int, array: NDArray[Any]) -> None:
        """Copy an array to the device. Change it only after `synchronize`.

        Args:
            to: memory with room for it, or an address (which is not checked).
            array: C-contiguous, of page-locked memory: from other memory the copy does not overlap with other work.

        Raises:
            ParameterError: it is not contiguous, or does not fit.
        """
        pointer = self._checked(to, array)
        if array.nbytes:
            pycuda = self.device.pycuda
            self._kept[id(array)] = array
            self.device.call("copying to the device", pycuda.memcpy_htod_async, pointer, array, self.raw)

    def copy_out(self, array: NDArray[Any], source: DeviceMemory | int) -> None:
        """Fill an array from the device. It is filled after `synchronize`. See `copy_in`."""
        pointer = self._checked(source, array)
        if array.nbytes:
            pycuda = self.device.pycuda
            self._kept[id(array)] = array
            self.device.call("copying from the device", pycuda.memcpy_dtoh_async, array, pointer, self.raw)

    def copy(self, to: DeviceMemory | int, source: DeviceMemory | int, nbytes: int) -> None:
        """Copy on the device."""
        arguments = _address(to, nbytes), _address(source, nbytes), nbytes, self.raw
        if nbytes:
            self.device.call("copying on the device", self.device.pycuda.memcpy_dtod_async, *arguments)

    def fill(self, to: DeviceMemory | int, byte: int, nbytes: int) -> None:
        """Set bytes to a value in 0 … 255."""
        arguments = _address(to, nbytes), byte, nbytes, self.raw
        if nbytes:
            self.device.call("filling memory", self.device.pycuda.memset_d8_async, *arguments)

    def record(self, *, timing: bool = True) -> Event:
        """A mark behind what was put in so far."""
        return Event(self, timing)

    def wait(self, event: Event) -> None:
        """Start the work added from now on after the event, which may be of another stream."""
        self.device.call("waiting for an event", self.raw.wait_for_event, event.raw)

    def is_done(self) -> bool:
        """Whether all work has run."""
        done: bool = self.device.call("asking a stream", self.raw.is_done)
        return done

    def synchronize(self) -> None:
        """Wait until all work has run.

        Raises:
            DeviceError: some of the work failed.
        """
        kept = self.take_kept()  # before the wait: another thread may put in more meanwhile
        self.device.call("running what was enqueued", self.raw.synchronize)
        kept.clear()

    def take_kept(self) -> dict[int, object]:
        """The arrays that were given to copies since the last `synchronize`; from now on the caller keeps them."""
        kept, self._kept = self._kept, {}
        return kept

    def keep(self, arrays: dict[int, object]) -> None:
        """Keep arrays alive until `synchronize`."""
        self._kept.update(arrays)

    def close(self) -> None:
        """Free the stream after its work has run. Closing it again does nothing."""
        if not self.is_free and not process.is_forked():
            self.synchronize()
        self.free()

    @staticmethod
    def _checked(memory: DeviceMemory | int, array: NDArray[Any]) -> int:
        if not array.flags.c_contiguous:
            raise ParameterError(
                f"an array {array.shape} with strides {array.strides}, expected a C-contiguous one; "
                "pass numpy.ascontiguousarray(array)"
            )
        return _address(memory, array.nbytes)


class Event(process.Owned):
    """A mark in a stream; made by `Stream.record`.

    Example:
        >>> start = stream.record(timing=True)  # doctest: +SKIP
        >>> graph.launch(stream)  # doctest: +SKIP
        >>> end = stream.record(timing=True)  # doctest: +SKIP
        >>> stream.synchronize()  # doctest: +SKIP
        >>> end.milliseconds_since(start)  # doctest: +SKIP
        1.9
    """

    def __init__(self, stream: Stream, timing: bool) -> None:
        self.device = device = stream.device
        flags = 0 if timing else _WITHOUT_TIMING
        super().__init__(device, device.call("making an event", device.pycuda.Event, flags))
        device.call("recording an event", self.raw.record, stream.raw)

    @property
    def raw(self) -> Any:
        """PyCUDA's event."""
        return self.held()

    def __str__(self) -> str:
        return f"{self.device}: event"

    def move(self, stream: Stream) -> None:
        """Mark another place: behind what was put into `stream` so far. What waits for the event already is not
        affected."""
        self.device.call("recording an event", self.raw.record, stream.raw)

    def is_done(self) -> bool:
        """Whether the stream has come to it."""
        done: bool = self.device.call("asking an event", self.raw.query)
        return done

    def synchronize(self) -> None:
        """Wait until the stream has come to it."""
        self.device.call("running what was enqueued", self.raw.synchronize)

    def milliseconds_since(self, earlier: Event) -> float:
        """Time on the device between two marks that it has come to; both recorded with timing."""
        elapsed: float = self.device.call("timing", self.raw.time_since, earlier.raw)
        return elapsed


def _address(memory: DeviceMemory | int, nbytes: int) -> int:
    if not isinstance(memory, DeviceMemory):
        return memory
    pointer = memory.pointer
    if not 0 <= nbytes <= memory.nbytes:
        raise ParameterError(
            f"{memory.device}: {nbytes} bytes for a memory of {memory.nbytes}, expected no more; allocate as many"
        )
    return pointer
