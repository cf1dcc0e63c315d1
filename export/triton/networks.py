"""Model files as Triton serves them: read and checked, and written into the folders of the models."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...runtime.engines import open_network
from ...runtime.engines.foreign import literal
from ...runtime.engines.registry import engines_for, files_of
from ...runtime.engines.tensorrt.plan_file import PlanFile, read_plan
from ...runtime.engines.tensorrt.record import PlanRecord, record_path
from ...runtime.engines.tensors import spec_from_tensors, spec_of_network
from ...runtime.errors import ModelError
from ...runtime.network import TensorInfo
from ...runtime.opening import is_plan
from ...runtime.settings import EngineSettings
from ...runtime.spec import ModelSpec

_ANY_BATCH = 1 << 16


@dataclass(frozen=True)
class ServedNetwork:
    """A model file that Triton can serve.

    Attributes:
        files: the file; with a plan, the JSON beside it that describes it.
        backend: name of the engine: "onnxruntime" and "tensorrt", for which Triton has backends, or "tensorrt_rtx".
        spec: of the network.
        output_dtype: of its outputs.
        max_batch: largest batch that it takes.
        plan: the plan itself, where the file is a plan; ultralytics writes a header in front of it.

    Example:
        >>> ServedNetwork((Path("fastsam.onnx"),), "onnxruntime", ModelSpec(), "float32", max_batch=8).path.name
        'fastsam.onnx'
    """

    files: tuple[Path, ...]
    backend: str
    spec: ModelSpec
    output_dtype: str
    max_batch: int
    plan: memoryview | None = None

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.files[0]

    @property
    def file_name(self) -> str:
        """Name of the file in a model's folder, the one that Triton looks for.

        Example:
            >>> ServedNetwork((Path("FastSAM-s.engine"),), "tensorrt", ModelSpec(), "float32", 8).file_name
            'model.plan'
        """
        return {"tensorrt": "model.plan", "tensorrt_rtx": "model.rtx"}.get(self.backend, "model.onnx")

    @property
    def has_backend(self) -> bool:
        """Whether Triton itself can run the file. Otherwise only this package can, in `fastsam_device`.

        Example:
            >>> ServedNetwork((Path("FastSAM-s.rtx"),), "tensorrt_rtx", ModelSpec(), "float32", 8).has_backend
            False
        """
        return any(self.path.suffix in entry.triton_suffixes for entry in engines_for(self.path.suffix))

    def write_for_triton(self, folder: Path) -> None:
        """Write the file for Triton's own backend, which takes the network alone: of a plan, without a header."""
        if self.plan is None:
            shutil.copyfile(self.path, folder / self.file_name)
        else:
            (folder / self.file_name).write_bytes(self.plan)

    def write_for_runtime(self, folder: Path) -> None:
        """Write the file for this package, with what describes it: a header, or the JSON beside a plan."""
        for file in self.files:
            beside = f"model{file.name.removeprefix(self.path.stem)}"
            name = self.file_name if file == self.path else beside
            shutil.copyfile(file, folder / name)


def read_network(path: Path) -> ServedNetwork:
    """Read a model file.

    Args:
        path: `.onnx`; `.plan` or `.rtx` with its JSON beside it; `.plan` or `.engine` with ultralytics' header.

    Raises:
        ModelError: the file is none of these, is damaged, or is not of a kind that Triton can serve.

    Example:
        >>> read_network(Path("models/fastsam-demo.onnx")).backend  # doctest: +SKIP
        'onnxruntime'
    """
    for entry in engines_for(path.suffix):
        if is_plan(path):
            return _read_plan(path, entry.name)
        if path.suffix in entry.triton_suffixes:
            return _read_onnx(path, entry.name)
    raise ModelError(f"{path}: suffix {path.suffix!r}, expected .onnx, .plan, .engine or .rtx; export it first")


def _read_onnx(path: Path, backend: str) -> ServedNetwork:
    network = open_network(path, EngineSettings(try_first=True))  # before a server opens it
    try:
        spec = spec_of_network(network)
        dtype = next(tensor.dtype for tensor in network.outputs if tensor.name == spec.detections)
    finally:
        network.close()
    if spec.batch is not None:
        raise ModelError(
            f"{path}: takes batches of {spec.batch} only; Triton's ONNX Runtime needs a batch that may vary: "
            "export it with --dynamic"
        )
    return ServedNetwork((path,), backend, spec, dtype, _ANY_BATCH)


def _read_plan(path: Path, backend: str) -> ServedNetwork:
    """Read the plan's bytes and what describes it; opening it would need a GPU and the TensorRT that built it."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; build it first")
    file = read_plan(path)
    if file.record is not None:
        spec, max_batch = _spec_from_record(file.record)
    elif file.metadata:
        spec, max_batch = _spec_from_header(file)
    else:
        raise ModelError(
            f"{record_path(path)}: no such file; expected the JSON that is written beside a plan; copy it "
            "too, or build the plan again: fastsam-export engine MODEL.onnx"
        )
    # Beside a file with a header the JSON is another plan's.
    described = files_of(path) if file.record is not None else (path,)
    return ServedNetwork(described, backend, spec, spec.input_dtype, max_batch, file.plan)


def _spec_from_record(record: PlanRecord) -> tuple[ModelSpec, int]:
    """(spec, largest batch)."""
    shapes = record.profiles[0]  # includes the shapes of all others
    size = shapes.min[2:] if shapes.min[2:] == shapes.opt[2:] == shapes.max[2:] else (None, None)
    return replace(record.spec, batch=None, size_hw=(size[0], size[1])), shapes.max[0]


def _spec_from_header(file: PlanFile) -> tuple[ModelSpec, int]:
    """(spec, largest batch), from what ultralytics says of its plans: their tensors have always the same names.

    What the header does not say and is otherwise in the plan, Triton refuses when it loads the model.
    """
    described = {name: literal(text, text) for name, text in file.metadata.items()}
    settings = described.get("args")
    batch, names = described.get("batch"), described.get("names")
    if not isinstance(settings, Mapping) or not isinstance(batch, int) or not isinstance(names, Mapping | list):
        raise ModelError(
            f"{file.path}: its header has {', '.join(file.metadata) or 'nothing'}; expected batch, names and args, as "
            "ultralytics writes them; export it again, or build a plan: fastsam-export engine MODEL.onnx"
        )
    if settings.get("dynamic") is not True:
        raise ModelError(
            f"{file.path}: takes batches of {batch} only; Triton's TensorRT needs a batch that may vary: export it "
            "with ultralytics' dynamic=True, or build a plan: fastsam-export engine MODEL.onnx"
        )
    # With half=True older versions of ultralytics make FP16 tensors; those that say quantize=16 make FP32 ones.
    dtype = "float16" if settings.get("half") is True else "float32"
    mask_dim = ModelSpec().mask_dim
    suppressed = settings.get("nms") is True or described.get("end2end") is True
    detections = (None, None, 6 + mask_dim) if suppressed else (None, 4 + len(names) + mask_dim, None)
    spec = spec_from_tensors(
        [TensorInfo("images", dtype, (None, 3, None, None))],
        [TensorInfo("output0", dtype, detections), TensorInfo("output1", dtype, (None, mask_dim, None, None))],
        file.metadata,
        file.path.name,
    )
    return spec, batch
