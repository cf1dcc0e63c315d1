"""A deserialized plan, and what runs it: one execution context for each input shape, all on the same scratch memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import closing
from math import prod
from typing import Any

import tensorrt as trt

from ...cuda.driver.device import Device
from ...cuda.network import Shape
from ...errors import DeviceError, ModelError, ParameterError
from ...network import TensorInfo
from .log import TensorRTLog
from .plan_file import PlanFile, ShapeRange

Profiles = tuple[dict[str, ShapeRange], ...]

_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "UINT8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
_ALIGNMENT = 256  # of scratch memory, and what cuMemAlloc gives


class SharedEngine:
    """The weights on the device. Networks and their clones count themselves in and out; the last one frees it."""

    def __init__(self, file: PlanFile, device: Device, log: TensorRTLog) -> None:
        """
        Raises:
            ModelError: TensorRT does not take the plan, or it is of a kind that is not understood.
        """
        self.device = device
        self.log = log
        self.name = file.path.name
        self._lock = threading.Lock()
        self._users = 1
        with device.active():
            self._runtime: Any = trt.Runtime(log)
            self.trt: Any = self._deserialize(file)
            try:
                names = [self.trt.get_tensor_name(i) for i in range(self.trt.num_io_tensors)]
                reads = [name for name in names if self.trt.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
                self.profiles: Profiles = tuple(
                    {name: self._range(name, i) for name in reads} for i in range(self.trt.num_optimization_profiles)
                )
                self.inputs = tuple(self._info(name) for name in names if name in reads)
                self.outputs = tuple(self._info(name) for name in names if name not in reads)
            except BaseException:
                self.trt = self._runtime = None
                raise

    def retain(self) -> None:
        """One user more."""
        with self._lock:
            if self._users == 0:
                raise ModelError(f"{self.name}: the engine is freed; open the model again")
            self._users += 1

    def release(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                # TensorRT frees memory of the context that is current, and wants the engine gone before its runtime.
                with self.device.active():
                    self.trt = None
                    self._runtime = None

    def profile_for(self, inputs: Mapping[str, Shape]) -> int:
        """The profile with the least room around these shapes: it is tuned for shapes nearest to them.

        Raises:
            ParameterError: an input is missing or unknown, or no profile takes the shapes.
        """
        names = {info.name for info in self.inputs}
        if set(inputs) != names:
            raise ParameterError(f"{self.name}: inputs {sorted(inputs)}, expected {sorted(names)}")
        fitting = [
            (sum(prod(shapes.max) for shapes in profile.values()), i)
            for i, profile in enumerate(self.profiles)
            if all(profile[name].holds(shape) for name, shape in inputs.items())
        ]
        if not fitting:
            asked = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in inputs.items())
            taken = "; ".join(", ".join(f"{n} {r}" for n, r in profile.items()) for profile in self.profiles)
            raise ParameterError(
                f"{self.name}: {asked}; the plan takes {taken}; choose imgsz or the batch to fit, or build a plan with "
                "other --shapes"
            )
        return min(fitting)[1]

    def _deserialize(self, file: PlanFile) -> Any:
        # Such a plan brings a runtime of its own version along, which is code for this machine. It is let in only where
        # it is needed and our own JSON says what it is.
        if file.record is not None and file.record.version_compatible:
            self._runtime.engine_host_code_allowed = True
        mark = self.log.mark()
        engine = self._runtime.deserialize_cuda_engine(file.plan)
        if engine is None:
            self._runtime = None
            built = f"built by TensorRT {file.version}" if file.version else "built by a TensorRT that it does not name"
            raise ModelError(
                f"{file.path}: TensorRT {trt.__version__} on {self.device.name} does not take the plan "
                f"({built}): {self.log.since(mark)}; {file.advice}"
            )
        return engine

    def _range(self, name: str, profile: int) -> ShapeRange:
        fixed = tuple(self.trt.get_tensor_shape(name))
        if all(side >= 0 for side in fixed):
            return ShapeRange(fixed, fixed, fixed)
        low, best, high = (tuple(dims) for dims in self.trt.get_tensor_profile_shape(name, profile))
        return ShapeRange(low, best, high)

    def _info(self, name: str) -> TensorInfo:
        """A side that every profile fixes to the same length is fixed, though the plan itself says that it varies."""
        dtype = self.trt.get_tensor_dtype(name).name
        on_device = self.trt.get_tensor_location(name) == trt.TensorLocation.DEVICE
        linear = self.trt.get_tensor_format(name) == trt.TensorFormat.LINEAR
        if dtype not in _DTYPES or not on_device or not linear:
            raise ModelError(
                f"{self.name}: {name} is {dtype}, {'on the device' if on_device else 'on the host'}, in "
                f"{'rows' if linear else 'an own layout'}; expected {', '.join(_DTYPES.values())} on the device in rows"
            )
        shape: list[int | None] = [side if side >= 0 else None for side in self.trt.get_tensor_shape(name)]
        for axis, side in enumerate(shape):
            lengths = {
                length
                for profile in self.profiles
                if side is None and name in profile
                for length in (profile[name].min[axis], profile[name].max[axis])
            }
            if len(lengths) == 1:
                shape[axis] = lengths.pop()
        return TensorInfo(name, _DTYPES[dtype], tuple(shape))


class Lane:
    """Runs that follow each other on the device: they share scratch memory. Not thread-safe.

    Each input shape has an execution context of its own: a CUDA graph captured for it stays valid whatever shapes come
    after, and nothing is set up again when shapes alternate. A context without its own scratch memory is small.
    """

    def __init__(self, engine: SharedEngine, most: int | None = None) -> None:
        """
        Args:
            most: keep contexts for at most so many shapes, those used last; the caller must wait for each run then.
        """
        self._engine = engine
        self._most = most
        self._scratch: Any = None
        self._contexts: dict[tuple[tuple[str, Shape], ...], _Context] = {}

    def output_shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """See `TensorRTNetwork.output_shapes`."""
        return dict(self._context(inputs).shapes)

    def enqueue(self, pointers: Mapping[str, int], inputs: Mapping[str, Shape], stream: int) -> None:
        """See `TensorRTNetwork.enqueue`."""
        context = self._context(inputs)
        mark = self._engine.log.mark()
        for info in (*self._engine.inputs, *self._engine.outputs):
            pointer = pointers.get(info.name, 0)
            if not pointer:
                raise ParameterError(f"{self._engine.name}: {info.name} has no address; expected one on the device")
            if not context.trt.set_tensor_address(info.name, pointer):
                raise ModelError(f"{self._engine.name}: {info.name}: {self._engine.log.since(mark)}")
        if not context.trt.execute_async_v3(stream):
            raise ModelError(f"{self._engine.name}: TensorRT did not run the plan: {self._engine.log.since(mark)}")

    def forget(self, inputs: Mapping[str, Shape]) -> None:
        """Drop the context of these shapes."""
        context = self._contexts.pop(_key(inputs), None)
        if context is not None:
            context.close()

    def close(self) -> None:
        """Free everything; nothing may be running."""
        with self._engine.device.active():
            while self._contexts:
                self._contexts.popitem()[1].close()
            if self._scratch is not None:
                self._scratch.free()
                self._scratch = None

    def _context(self, inputs: Mapping[str, Shape]) -> _Context:
        key = _key(inputs)
        context = self._contexts.pop(key, None) or self._new_context(inputs)
        self._contexts[key] = context  # at the end: used last
        while self._most is not None and len(self._contexts) > self._most:
            self._contexts.pop(next(iter(self._contexts))).close()
        return context

    def _new_context(self, inputs: Mapping[str, Shape]) -> _Context:
        engine = self._engine
        profile = engine.profile_for(inputs)
        mark = engine.log.mark()
        context = _Context(engine.trt.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED))
        try:
            if context.trt is None:
                raise DeviceError(f"{engine.name}: no execution context: {engine.log.since(mark)}; free memory there")
            scratch = self._scratch_memory()
            context.trt.set_device_memory(scratch.pointer, scratch.nbytes)
            self._set_profile(context, profile)
            for name, shape in inputs.items():
                if not context.trt.set_input_shape(name, shape):
                    raise ParameterError(f"{engine.name}: input {name} {shape}: {engine.log.since(mark)}")
            unknown = context.trt.infer_shapes()
            context.shapes = {info.name: tuple(context.trt.get_tensor_shape(info.name)) for info in engine.outputs}
            varying = [name for name, shape in context.shapes.items() if any(side < 0 for side in shape)]
            if unknown or varying:
                raise ModelError(
                    f"{engine.name}: the shapes of {', '.join([*unknown, *varying])} depend on what is in the image; "
                    "expected outputs of a size that the input's fixes; export the model without such an output"
                )
        except BaseException:
            context.close()
            raise
        return context

    def _set_profile(self, context: _Context, profile: int) -> None:
        if context.trt.active_optimization_profile == profile:
            return
        mark = self._engine.log.mark()
        with closing(self._engine.device.stream()) as stream:
            if not context.trt.set_optimization_profile_async(profile, stream.handle):
                raise ModelError(f"{self._engine.name}: profile {profile}: {self._engine.log.since(mark)}")
            stream.synchronize()

    def _scratch_memory(self) -> Any:
        if self._scratch is None:
            # Enough for every profile: graphs hold its address, so it must never move.
            self._scratch = self._engine.device.memory(max(self._engine.trt.device_memory_size_v2, _ALIGNMENT))
        return self._scratch


class _Context:
    """TensorRT's context and the shapes of its outputs. An exception's traceback may hold on to this object for as long
    as it likes, and TensorRT's own is freed when it has to be."""

    def __init__(self, context: Any) -> None:
        self.trt = context
        self.shapes: dict[str, Shape] = {}

    def close(self) -> None:
        """Free TensorRT's context."""
        self.trt = None


def _key(inputs: Mapping[str, Shape]) -> tuple[tuple[str, Shape], ...]:
    return tuple(sorted((name, tuple(shape)) for name, shape in inputs.items()))
