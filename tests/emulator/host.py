"""Where kernels are compared with their twins: the real launchers call them, on NumPy's memory.

There are two homes. In `HostKernels` they are the CPU build, called at once. In `DeviceKernels` they are the PTX on a
device, a real one or that of the emulated driver: what a launch points to goes there and comes back.
Loaded by conftest.py, which makes the fixtures of it.
"""

from __future__ import annotations

import bisect
import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_deploy.runtime.cuda import launchers, records
from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.cuda.driver.memory import DeviceMemory
from fastsam_deploy.runtime.cuda.loading import Kernels, Launch, kernels_of
from fastsam_deploy.runtime.cuda.shapes import Buffers, Shapes
from fastsam_deploy.runtime.cuda.tables import Tables
from fastsam_deploy.runtime.cuda.upload import pack
from fastsam_deploy.runtime.masks.packed import PackedCrops
from fastsam_deploy.runtime.masks.store import PackedMasks
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages.letterbox import Letterbox

_PATTERN = 0xA5
_ALIGNMENT = 64


class CpuKernel(ctypes.Structure):
    """As in cuda_cpu.h."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("arg_count", ctypes.c_uint32),
        ("uses_barriers", ctypes.c_uint32),
        ("arg_sizes", ctypes.POINTER(ctypes.c_uint32)),
        ("arg_offsets", ctypes.POINTER(ctypes.c_uint32)),
        ("packed_bytes", ctypes.c_uint32),
        ("run", ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3, ctypes.c_uint32)),
    ]


class CpuField(ctypes.Structure):
    """As in cpu_kernels.cpp."""

    _fields_ = [("record", ctypes.c_char_p), ("field", ctypes.c_char_p), ("offset", ctypes.c_uint32)]


class CpuConstant(ctypes.Structure):
    """As in cpu_kernels.cpp."""

    _fields_ = [("name", ctypes.c_char_p), ("value", ctypes.c_int64)]


class HostKernels:
    """The library: its table of kernels, and a stand-in for loaded PTX."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.table = {entry.name.decode(): entry for entry in self._array("cpu_kernels", CpuKernel, "cpu_kernel_count")}
        self.fields = [
            (entry.record.decode(), entry.field.decode(), entry.offset)
            for entry in self._array("cpu_fields", CpuField, "cpu_field_count")
        ]
        constants = self._array("cpu_constants", CpuConstant, "cpu_constant_count")
        self.constants = {constant.name.decode(): constant.value for constant in constants}
        self.launches: list[str] = []

    def _array(self, name: str, kind: Any, count_name: str) -> Any:
        count = ctypes.c_uint32.in_dll(self.library, count_name).value
        return (kind * count).in_dll(self.library, name)

    def set_order(self, order: int) -> None:
        """Turns of the threads of a block: 0 ascending, 1 descending, 2 shuffled."""
        self.library.cpu_set_order(order)

    def function(self, name: str) -> Launch:
        """Calls a kernel at once; arguments must have the sizes of its parameters."""
        entry = self.table[name]
        sizes = entry.arg_sizes[: entry.arg_count]

        def launch(
            grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_bytes: int, stream: Any
        ) -> None:
            assert [argument.nbytes for argument in args] == sizes, (name, args)
            values = [np.array(argument) for argument in args]
            params = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
            self.launches.append(name)
            status = entry.run(params, (ctypes.c_uint32 * 3)(*grid), (ctypes.c_uint32 * 3)(*block), shared_bytes)
            assert status == 0, (name, grid, block)

        return launch

    def kernels(self, blocks: int = 1024) -> Kernels:
        """The runtime's kernels on this library."""
        return Kernels(lambda path: self, blocks)


class DeviceKernels:
    """The PTX on a device. A launch takes the pieces of memory that it points to there, guards included, and back."""

    def __init__(self, device: Device) -> None:
        self.launches: list[str] = []
        self._device = device
        self._stream = device.stream()
        self._loaded = kernels_of(device)
        self._starts: list[int] = []
        self._pieces: list[NDArray[np.uint8]] = []
        self._copies: dict[int, tuple[DeviceMemory, int]] = {}

    def set_order(self, order: int) -> None:
        """A device has its own."""

    def kernels(self, blocks: int = 1024) -> Kernels:
        """The runtime's kernels, launched by this."""
        return Kernels(lambda path: self, blocks)

    def function(self, name: str) -> Launch:
        """A kernel that has run when the call returns."""

        def launch(
            grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_bytes: int, stream: Any
        ) -> None:
            self.launches.append(name)
            used: dict[int, NDArray[np.uint8]] = {}
            there = [self._there(argument, used) if isinstance(argument, np.uintp) else argument for argument in args]
            for start, piece in used.items():
                self._stream.copy_in(self._address(start), piece)
            self._loaded.launch(name, grid, block, there, self._stream)
            for start, piece in used.items():
                self._stream.copy_out(piece, self._address(start))
            self._stream.synchronize()

        return launch

    def forget(self) -> None:
        """Let go of all memory."""
        for memory, _ in self._copies.values():
            memory.free()
        self._copies.clear()
        self._starts.clear()
        self._pieces.clear()

    def add(self, piece: NDArray[np.uint8], start: int) -> None:
        """A piece of memory that launches may point to; its array begins at `start`, as well aligned there as here."""
        at = bisect.bisect(self._starts, piece.ctypes.data)
        self._starts.insert(at, piece.ctypes.data)
        self._pieces.insert(at, piece)
        memory = self._device.memory(piece.nbytes + _ALIGNMENT)
        self._copies[piece.ctypes.data] = memory, -(memory.pointer + start) % _ALIGNMENT

    def close(self) -> None:
        """Free everything."""
        self.forget()
        self._stream.close()

    def _there(self, pointer: np.uintp, used: dict[int, NDArray[np.uint8]]) -> np.uintp:
        if not pointer:
            return pointer
        at = bisect.bisect(self._starts, int(pointer)) - 1
        piece, start = self._pieces[at], self._starts[at]
        assert at >= 0 and int(pointer) <= start + piece.nbytes, "a pointer to memory that is not the test's"
        used[start] = piece
        return np.uintp(self._address(start) + int(pointer) - start)

    def _address(self, start: int) -> int:
        memory, shift = self._copies[start]
        return memory.pointer + shift


class Home:
    """One of the two, as the tests use it.

    Attributes:
        library: HostKernels or DeviceKernels.
    """

    def __init__(self, library: Any, guard: int = 64) -> None:
        self.library = library
        self._guard = guard

    def Memory(self) -> Memory:  # noqa: N802 - used as a class
        """New memory; that of earlier tests is gone."""
        if isinstance(self.library, DeviceKernels):
            self.library.forget()
            return Memory(self._guard, self.library.add)
        return Memory(self._guard)

    def Batch(self, *arguments: Any, **named: Any) -> Batch:  # noqa: N802 - used as a class
        """A batch in new memory."""
        return Batch(self.Memory(), *arguments, **named)


class Memory:
    """Allocations with a pattern before and after them, so that a write outside shows without a sanitizer.

    With one, give `guard` 0: its own red zones then lie right beside them, and show reads as well.
    """

    def __init__(self, guard: int = 64, made: Callable[[NDArray[np.uint8], int], None] = lambda raw, start: None):
        self.guard = guard
        self._made = made
        self._pieces: list[tuple[NDArray[np.uint8], int, int]] = []

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Filled with the pattern: what a kernel reads before it is written is far from any sensible value."""
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape)) * dtype.itemsize
        raw = np.full(nbytes + 3 * self.guard, _PATTERN, np.uint8)
        start = self.guard + -raw.ctypes.data % self.guard if self.guard else 0
        self._pieces.append((raw, start, start + nbytes))
        self._made(raw, start)
        return raw[start : start + nbytes].view(dtype).reshape(shape)

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy of an array."""
        copy = self.empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def check(self) -> None:
        """Nothing was written outside."""
        for raw, start, end in self._pieces:
            assert (raw[:start] == _PATTERN).all() and (raw[end:] == _PATTERN).all(), "a kernel wrote outside"


@dataclass
class Answer:
    """What comes back of a batch."""

    summaries: NDArray[Any]
    detections: NDArray[Any]
    coefficients: NDArray[np.float32]
    kept: NDArray[Any]
    sorted: NDArray[Any]
    words: NDArray[np.uint32]
    total_words: int

    def rows(self, image: int) -> NDArray[Any]:
        """The kept detections of an image."""
        return self.detections[image, : self.summaries["kept"][image]]

    def masks(self, image: int, image_hw: tuple[int, int]) -> PackedMasks:
        """The masks of an image."""
        rows = self.rows(image)
        corners, sizes = (
            np.stack([rows[x], rows[y]], 1).astype(np.int64) for x, y in (("left", "top"), ("width", "height"))
        )
        areas = rows["area"].astype(np.int64)
        crops = PackedCrops(sizes, areas, self.words, rows["first_word"].astype(np.int64))
        return PackedMasks(image_hw, crops, corners)


class Batch:
    """One batch in host memory: `letterbox`, then `finish` with the network's outputs."""

    def __init__(
        self,
        memory: Memory,
        kernels: Kernels,
        spec: ModelSpec,
        images: Sequence[NDArray[np.uint8]],
        letterboxes: Sequence[Letterbox],
        thresholds: Thresholds,
        batch: int | None = None,
    ) -> None:
        self.kernels, self.spec, self.thresholds = kernels, spec, thresholds
        self.batch = batch or len(images)
        self.letterboxes = letterboxes
        self.input_hw = letterboxes[0].input_hw
        self.memory = memory
        self.hw = (self.input_hw[0] // 4, self.input_hw[1] // 4)
        tables = [Tables.of(place, self.hw) for place in letterboxes]
        self.upload = self.memory.empty(sum(table.nbytes for table in tables), np.uint8)
        self.places = self.memory.empty(self.batch, records.PLACE_DTYPE)
        used = pack(images, tables, [thresholds] * len(images), self.upload, self.places)
        assert used == len(self.upload)

    def letterbox(self, dtype: str = "float32") -> NDArray[Any]:
        """The network's input."""
        blob = self.memory.empty((self.batch, 3, *self.input_hw), dtype)
        nothing = Buffers(self.upload.ctypes.data, self.places.ctypes.data, *[0] * 10)
        sizes = ("raw", 37, 1, 1, 32, self.hw, 1)
        shapes = Shapes(self.batch, self.input_hw, *sizes, half_input=dtype == "float16")
        launchers.letterbox(self.kernels, shapes, nothing, blob.ctypes.data, None)
        self.memory.check()
        return blob

    def finish(
        self,
        output: NDArray[Any],
        prototypes: NDArray[Any],
        max_det: int | None = None,
        word_capacity: int | None = None,
    ) -> Answer:
        """From the network's outputs to masks; with `word_capacity` None, with as many words as are needed."""
        tensors = [(array.shape, str(array.dtype)) for array in (output, prototypes)]
        room = max_det or self.thresholds.max_det
        shapes = Shapes.of(self.spec, (self.batch, 3, *self.input_hw), *tensors, room)
        kinds = {
            "summaries": (shapes.batch, records.SUMMARY_DTYPE),
            "total_words": (1, np.int64),
            "detections": ((shapes.batch, room), records.DETECTION_DTYPE),
            "keys": (shapes.nbytes()["keys"] // 8, np.uint64),
            "sorted": ((shapes.batch, shapes.candidate_capacity), records.CANDIDATE_DTYPE),
            "kept": ((shapes.batch, room), records.CANDIDATE_DTYPE),
            "coefficients": ((shapes.batch, room, shapes.mask_dim), np.float32),
            "tile_ends": (shapes.batch * room, np.int32),
        }
        arrays = {name: self.memory.empty(*kind) for name, kind in kinds.items()}
        sizes = {name: array.nbytes for name, array in arrays.items()}
        assert {**sizes, "places": self.places.nbytes} == shapes.nbytes()
        source, planes = self.memory.of(output), self.memory.of(prototypes)
        addresses = {name: array.ctypes.data for name, array in arrays.items()}
        addresses |= {"upload": self.upload.ctypes.data, "places": self.places.ctypes.data}
        words = self.memory.empty(word_capacity or 0, np.uint32)
        buffers = Buffers(**addresses, words=words.ctypes.data, word_capacity=len(words))
        launchers.decode(self.kernels, shapes, buffers, source.ctypes.data, None)
        launchers.assemble(self.kernels, shapes, buffers, planes.ctypes.data, None)
        total = int(arrays["total_words"][0])
        # As the host does when an answer is larger than was thought; twice: nothing is added to what was there.
        for capacity in (total * 3 // 4, total) if word_capacity is None and total else ():
            words = self.memory.empty(capacity, np.uint32)
            buffers = Buffers(**addresses, words=words.ctypes.data, word_capacity=capacity)
            launchers.assemble(self.kernels, shapes, buffers, planes.ctypes.data, None)
        self.memory.check()
        names = ("summaries", "detections", "coefficients", "kept", "sorted")
        return Answer(*(arrays[name] for name in names), words, total)
