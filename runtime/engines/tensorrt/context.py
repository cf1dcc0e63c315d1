"""A deserialized plan, and what runs it: one execution context for each input shape, all on the same scratch memory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from math import prod
from pathlib import Path
from typing import Any

from ...cuda.driver.device import Device
from ...cuda.driver.process import UsedByOne
from ...cuda.network import Shape
from ...errors import DeviceError, ModelError, ParameterError
from ...network import TensorInfo
from .kernel_cache import KernelCache
from .log import TensorRTLog, tensorrt_log
from .plan_file import PlanFile
from .record import ShapeRange

Profiles = tuple[dict[str, ShapeRange], ...]

_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "UINT8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
_ALIGNMENT = 256  # of scratch memory, and what cuMemAlloc gives


class SharedEngine(UsedByOne):
    """The weights on the device. Networks and their clones count themselves in and out; the last one frees it."""

    def __init__(self, file: PlanFile, device: Device, trt: Any, cache: bool | str | Path = False) -> None:
        """
        Args:
            trt: module of the plan's library.
            cache: see `EngineSettings`; for a library that compiles kernels where the plan runs.

        Raises:
            ModelError: TensorRT does not take the plan, or it is of a kind that is not understood.
            ParameterError: cache is a folder that is not there.
        """
        super().__init__()
        self.device = device
        self.trt = trt
        self.log: TensorRTLog = tensorrt_log(trt)
        self.kernels = KernelCache(file, cache, trt, device) if file.library.compiles_late else None
        self.name = file.path.name
        self._users = 1
        with device.active():
            self._runtime: Any = trt.Runtime(self.log)
            self.engine: Any = self._deserialize(file)
            try:
                if self.kernels is not None:
                    self.kernels.open(self.engine)
                names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
                reads = [name for name in names if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
                self.profiles: Profiles = tuple(
                    {name: self._range(name, i) for name in reads} for i in range(self.engine.num_optimization_profiles)
                )
                self.inputs = tuple(self._info(name) for name in names if name in reads)
                self.outputs = tuple(self._info(name) for name in names if name not in reads)
            except BaseException:
                self._free()
                raise

    def retain(self) -> None:
        """One user more."""
        with self.lock:
            if self._users == 0:
                raise ModelError(f"{self.name}: the engine is freed; open the model again")
            self._users += 1

    def release(self) -> None:
        """One user less."""
        with self.lock:
            self._users -= 1
            if self._users == 0:
                # TensorRT frees memory of the context that is current, and wants the engine gone before its runtime.
                with self.device.active():
                    if self.kernels is not None:
                        self.kernels.keep()
                    self._free()

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

    def new_context(self) -> Any:
        """An execution context that works in memory of the caller; None where there is no memory for it."""
        if self.kernels is not None:
            return self.engine.create_execution_context(self.kernels.config)
        return self.engine.create_execution_context(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)

    def _free(self) -> None:
        if self.kernels is not None:
            self.kernels.close()
        self.engine = None
        self._runtime = None

    def _deserialize(self, file: PlanFile) -> Any:
        # Such a plan brings a runtime of its own version along, which is code for this machine. It is let in only where
        # it is needed and our own JSON says what it is.
        if file.record is not None and file.record.version_compatible:
            self._runtime.engine_host_code_allowed = True
        mark = self.log.mark()
        engine = self._runtime.deserialize_cuda_engine(file.plan)
        if engine is None:
            self._runtime = None
            built = f"built by version {file.version}" if file.version else "built by a version that it does not name"
            raise ModelError(
                f"{file.path}: {file.library.name} {self.trt.__version__} on {self.device.name} does not take the plan "
                f"({built}): {self.log.since(mark)}; {file.advice}"
            )
        return engine

    def _range(self, name: str, profile: int) -> ShapeRange:
        fixed = tuple(self.engine.get_tensor_shape(name))
        if all(side >= 0 for side in fixed):
            return ShapeRange(fixed, fixed, fixed)
        low, best, high = (tuple(dims) for dims in self.engine.get_tensor_profile_shape(name, profile))
        return ShapeRange(low, best, high)

    def _info(self, name: str) -> TensorInfo:
        """A side that every profile fixes to the same length is fixed, though the plan itself says that it varies."""
        dtype = self.engine.get_tensor_dtype(name).name
        on_device = self.engine.get_tensor_location(name) == self.trt.TensorLocation.DEVICE
        linear = self.engine.get_tensor_format(name) == self.trt.TensorFormat.LINEAR
        if dtype not in _DTYPES or not on_device or not linear:
            raise ModelError(
                f"{self.name}: {name} is {dtype}, {'on the device' if on_device else 'on the host'}, in "
                f"{'rows' if linear else 'an own layout'}; expected {', '.join(_DTYPES.values())} on the device in rows"
            )
        shape: list[int | None] = [side if side >= 0 else None for side in self.engine.get_tensor_shape(name)]
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
            if not context.native.set_tensor_address(info.name, pointer):
                raise ModelError(f"{self._engine.name}: {info.name}: {self._engine.log.since(mark)}")
        if not context.native.execute_async_v3(stream):
            raise ModelError(f"{self._engine.name}: TensorRT did not run the plan: {self._engine.log.since(mark)}")

    def capturable(self, stream: int) -> bool:
        """Whether a run on this stream may be captured into a CUDA graph, by a library that can tell."""
        shapes = {name: shapes.opt for name, shapes in self._engine.profiles[0].items()}
        answer: bool = self._context(shapes).native.is_stream_capturable(stream)
        self.forget(shapes)
        return answer

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
        context = _Context(engine.new_context())
        try:
            if context.native is None:
                raise DeviceError(f"{engine.name}: no execution context: {engine.log.since(mark)}; free memory there")
            scratch = self._scratch_memory()
            context.native.set_device_memory(scratch.pointer, scratch.nbytes)
            self._set_profile(context, profile)
            for name, shape in inputs.items():
                if not context.native.set_input_shape(name, shape):
                    raise ParameterError(f"{engine.name}: input {name} {shape}: {engine.log.since(mark)}")
            unknown = context.native.infer_shapes()
            context.shapes = {info.name: tuple(context.native.get_tensor_shape(info.name)) for info in engine.outputs}
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
        if context.native.active_optimization_profile == profile:
            return
        mark = self._engine.log.mark()
        with closing(self._engine.device.stream()) as stream:
            if not context.native.set_optimization_profile_async(profile, stream.handle):
                raise ModelError(f"{self._engine.name}: profile {profile}: {self._engine.log.since(mark)}")
            stream.synchronize()

    def _scratch_memory(self) -> Any:
        if self._scratch is None:
            # Enough for every profile: graphs hold its address, so it must never move.
            self._scratch = self._engine.device.memory(max(self._engine.engine.device_memory_size_v2, _ALIGNMENT))
        return self._scratch


class _Context:
    """TensorRT's context and the shapes of its outputs. An exception's traceback may hold on to this object for as long
    as it likes, and TensorRT's own is freed when it has to be."""

    def __init__(self, context: Any) -> None:
        self.native = context
        self.shapes: dict[str, Shape] = {}

    def close(self) -> None:
        """Free TensorRT's context."""
        self.native = None


def _key(inputs: Mapping[str, Shape]) -> tuple[tuple[str, Shape], ...]:
    return tuple(sorted((name, tuple(shape)) for name, shape in inputs.items()))
