"""Plans on a CUDA device: `.plan`, `.engine` as ultralytics writes it, and `.rtx` of TensorRT for RTX."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cuda.driver.device import Device, device_number
from ...cuda.driver.process import UsedByOne, is_forked
from ...cuda.network import Shape
from ...errors import DeviceError, ModelError, ParameterError
from ...network import TensorInfo
from ...settings import EngineSettings
from .buffers import Buffers
from .context import Lane, Profiles, SharedEngine
from .library import TENSORRT, Library, library_of
from .plan_file import PlanFile, check_runs_on, read_plan

logger = logging.getLogger(__name__)

_HOST_SHAPES = 8  # kept ready for `run`


class TensorRTNetwork(UsedByOne):
    """A plan that is ready to run: a `Network` on host arrays and a `DeviceNetwork` on device pointers.

    `run` may be called from many threads; the calls wait for each other. `clone` gives a network of the same plan,
    weights shared, that runs at the same time. Networks and clones are closed in any order.
    """

    stream = None
    """See `DeviceNetwork.stream`."""

    def __init__(self, engine: SharedEngine, file: PlanFile) -> None:
        """
        Args:
            engine: one reference to it, which `close` gives back.
        """
        super().__init__()
        self._engine = engine
        self._file = file
        self._closed = False
        self.cuda_device: Device = engine.device
        self.name = file.path.name
        self.device = f"cuda:{engine.device.number}"
        self.metadata: Mapping[str, str] = file.metadata
        self.inputs: tuple[TensorInfo, ...] = engine.inputs
        self.outputs: tuple[TensorInfo, ...] = engine.outputs
        self.capturable = True
        """`enqueue` may be captured into a CUDA graph, once it has run for these shapes outside of a capture."""
        with ExitStack() as stack:
            stack.callback(engine.release)
            self._host = stack.enter_context(closing(Lane(engine, _HOST_SHAPES)))
            self._device = stack.enter_context(closing(Lane(engine)))
            self._buffers = stack.enter_context(closing(Buffers(engine.device)))
            self._stream = stack.enter_context(closing(engine.device.stream()))
            if file.library.compiles_late:
                with engine.device.active():
                    self.capturable = self._device.capturable(self._stream.handle)
            self._owned = stack.pop_all()

    @property
    def profiles(self) -> Profiles:
        """The shapes that the plan takes: for each profile, input → range."""
        return self._engine.profiles

    @property
    def description(self) -> dict[str, Any]:
        """See `Network.description`."""
        record, kernels = self._file.record, self._engine.kernels
        return {
            "file": self.name,
            "engine": self._file.library.engine,
            "version": self._engine.trt.__version__,
            "device": self.cuda_device.name,
            **({"precision": record.spec.precision} if record else {}),
            **({"cache": kernels.status} if kernels and kernels.status else {}),
            "profiles": [{name: str(shapes) for name, shapes in profile.items()} for profile in self.profiles],
        }

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Network.run`.

        Raises:
            ParameterError: an input is missing, or is of a dtype or shape that the plan does not take.
        """
        arrays = {info.name: self._checked(info, feed) for info in self.inputs}
        shapes: dict[str, Shape] = {name: array.shape for name, array in arrays.items()}
        unknown = set(outputs) - {info.name for info in self.outputs}
        if unknown:
            raise ParameterError(
                f"{self.name}: outputs {sorted(unknown)}, expected some of {[info.name for info in self.outputs]}"
            )
        with self._running():
            made = self._host.output_shapes(shapes)
            self._buffers.reserve({**{k: a.nbytes for k, a in arrays.items()}, **self._sizes(made)})
            for name, array in arrays.items():
                host = self._buffers.host(name, array.shape, array.dtype)
                np.copyto(host, array)
                self._stream.copy_in(self._buffers.pointer(name), host)
            pointers = {name: self._buffers.pointer(name) for name in (*arrays, *made)}
            self._host.enqueue(pointers, shapes, self._stream.handle)
            dtypes = {info.name: np.dtype(info.dtype) for info in self.outputs}
            results = [self._buffers.host(name, made[name], dtypes[name]) for name in outputs]
            for name, host in zip(outputs, results, strict=True):
                self._stream.copy_out(host, self._buffers.pointer(name))
            self._stream.synchronize()
            return [host.copy() for host in results]

    def largest_batch(self, input_hw: tuple[int, int]) -> int | None:
        """Images of this input size (H, W) that a profile takes at once; None where none takes the size."""
        image = self.inputs[0].name
        ranges = [profile[image] for profile in self.profiles]
        return max((one.max[0] for one in ranges if one.holds((*one.max[:2], *input_hw))), default=None)

    def output_shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of the outputs for these shapes of the inputs.

        Raises:
            ParameterError: the plan does not take them.
        """
        with self._running():
            return self._device.output_shapes(inputs)

    def enqueue(self, pointers: Mapping[str, int], inputs: Mapping[str, Shape], stream: int) -> None:
        """Put one run on a stream and return.

        What is enqueued on one network must not overlap on the device: one stream at a time, or a `clone` for each.
        What is kept for a shape stays as long as the network, or until `forget`: a captured graph uses it.

        Args:
            pointers: input or output → address on the device, of the whole tensor in its own dtype.
            inputs: input → shape.
            stream: handle.

        Raises:
            ParameterError: the plan does not take the shapes, or an address is missing.
        """
        with self._running():
            self._device.enqueue(pointers, inputs, stream)

    def forget(self, inputs: Mapping[str, Shape]) -> None:
        """See `DeviceNetwork.forget`."""
        with self._running():
            self._device.forget(inputs)

    def layer_information(self) -> str:
        """What TensorRT's inspector tells of the layers, as JSON. Their types are in it if the plan was built with them
        (`ProfilingVerbosity.DETAILED`)."""
        with self._running():
            trt, inspector = self._engine.trt, self._engine.engine.create_engine_inspector()
            text: str = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
            return text

    def clone(self) -> TensorRTNetwork:
        """A network of the same plan with its own execution context, stream and buffers; weights are shared."""
        with self._running():
            self._engine.retain()
        return TensorRTNetwork(self._engine, self._file)

    def close(self) -> None:
        """Free contexts and buffers, and the engine with the last of its clones."""
        with self.lock:
            if not self._closed and not is_forked():
                self._closed = True
                self._owned.close()

    def __enter__(self) -> TensorRTNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _running(self) -> Iterator[None]:
        """This network alone, on its device."""
        with self.lock:
            if self._closed:
                raise ModelError(f"{self.name}: the network is closed; open the model again")
            with self.cuda_device.active():
                yield

    def _checked(self, info: TensorInfo, feed: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        array = feed.get(info.name)
        if array is None or array.dtype != np.dtype(info.dtype):
            given = "nothing" if array is None else array.dtype
            raise ParameterError(f"{self.name}: input {info.name} is {given}, expected an array of {info.dtype}")
        return array

    def _sizes(self, shapes: Mapping[str, Shape]) -> dict[str, int]:
        items = {info.name: np.dtype(info.dtype).itemsize for info in self.outputs}
        return {name: int(np.prod(shape)) * items[name] for name, shape in shapes.items()}


def network_from_file(path: Path, settings: EngineSettings) -> TensorRTNetwork:
    """What `open_network` calls. A plan has its precision and its tuning in it: what differs from them is refused.

    Raises:
        ParameterError: the plan is of another precision.
        MissingDependencyError: the plan's library is not installed.
        DeviceError: the device is not a CUDA device, or there is no driver.
        ModelError: the file is no plan, or does not run here.
    """
    precision = settings.precision
    library_of(path).load(path.name)
    if settings.device == "cpu":
        raise DeviceError(f"{path.name}: a plan runs on an NVIDIA GPU only; pass device='cuda', or open the ONNX file")
    file = read_plan(path)
    held = file.record.spec.precision if file.record else "unknown"
    if precision not in (None, held):
        raise ParameterError(
            f"{path.name}: precision {precision!r} asked, the plan's is {held}; leave it out, or build another plan: "
            f"{' '.join(filter(None, ('fastsam-export engine MODEL.onnx', file.library.flag)))} --precision {precision}"
        )
    # Without a driver TensorRT hands out objects that crash the process later: our device comes first, and says so.
    return network_from_plan(file, Device.open(device_number(settings.device)), settings.cache)


device_network_from_file = network_from_file
"""What `open_device_network` calls: a plan's network takes arrays and device pointers."""


def probe() -> str:
    """The library, for `fastsam doctor`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return library_line(TENSORRT)


def library_line(library: Library) -> str:
    """Version of a library and the files that it opens.

    Raises:
        MissingDependencyError: it is not installed.
    """
    suffixes = " and ".join(library.suffixes)
    return f"{library.name} {library.load().__version__}; opens {suffixes} files on device 'cuda'"


def network_from_plan(file: PlanFile, device: Device, cache: bool | str | Path = False) -> TensorRTNetwork:
    """The plan on the device.

    Args:
        cache: see `EngineSettings`.

    Raises:
        MissingDependencyError: the plan's library is not installed.
        ModelError: it does not run here: built by another version, for another GPU, or broken.
    """
    trt = file.library.load()
    here = (device.compute_capability[0], device.compute_capability[1])
    check_runs_on(file, trt.__version__, device.name, here)
    record = file.record
    if record is not None and record.gpu is not None and record.gpu != device.name:
        logger.warning(
            "%s: built on %s, runs on %s: correct, and perhaps slower than a plan built here",
            file.path.name,
            record.gpu,
            device.name,
        )
    return TensorRTNetwork(SharedEngine(file, device, trt, cache), file)
