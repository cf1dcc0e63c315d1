"""ONNX file → TensorRT plan that gives the same results as ONNX Runtime, or no file at all.

TensorRT for RTX builds without a GPU. Such a plan is written once its layers have the requested precision, and its JSON
says that it was not compared, until `compare_plan` has done that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.cuda.driver.device import Device
from ...runtime.engines import open_engine
from ...runtime.engines.segmentation import SegmentationEngine
from ...runtime.engines.tensorrt.log import tensorrt_log
from ...runtime.engines.tensorrt.plan_file import read_plan
from ...runtime.engines.tensorrt.record import NOT_COMPARED, PlanRecord, record_path
from ...runtime.errors import MissingDependencyError, ParameterError
from ...runtime.system.atomic import scratch_beside, write_atomically
from ..errors import ExportError
from ..proof.inputs import load_photographs
from .drafts import plan_draft, record_of, write_pair, write_record
from .request import Request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...runtime.engines.tensorrt.network import TensorRTNetwork
    from ...runtime.measure.findings import Finding
    from .layers import Layer, LayerTypes

Step = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """A plan that was written.

    Attributes:
        path: the plan; its JSON is beside it.
        record: content of the JSON.
        findings: comparison with ONNX Runtime; empty where nothing was compared: trtexec built the plan, or it was
            built without a GPU.
        layers: types of the layers; None where trtexec built the plan.

    Example:
        >>> plan = build_engine(request_for("fastsam.onnx", "fastsam.plan"))  # doctest: +SKIP
        >>> print(plan.layers)  # doctest: +SKIP
    """

    path: Path
    record: PlanRecord
    findings: tuple[Finding, ...]
    layers: LayerTypes | None


def build_engine(request: Request, images: Path | None = None, step: Step = lambda _: None) -> Plan:
    """Build a plan, and write it if its precision is right and it gives the same results as ONNX Runtime.

    Args:
        request: made by `request_for`.
        images: folder of photographs to compare on; None: those that the package includes.
        step: called with a description of each step.

    Raises:
        MissingDependencyError: TensorRT or PyCUDA is not installed.
        DeviceError: there is no such GPU, or no driver.
        ExportError: TensorRT builds no plan, or not the requested one; no file is left then.

    Example:
        >>> build_engine(request_for("fastsam.onnx", "fastsam.plan", precision="fp16"))  # doctest: +SKIP
    """
    photographs = load_photographs(images)
    try:
        trt = request.library.load(extra=request.library.build_extra)
    except MissingDependencyError as error:
        advice = "" if request.library.compiles_late else _TRTEXEC_INSTEAD
        raise MissingDependencyError(f"{error}{advice}") from error
    # Without a driver TensorRT returns objects that crash the process later; opening the device first gives an error.
    device = None if request.device is None else Device.open(request.device)
    from .layers import check_precision, layer_types
    from .precision import convolution_share, write_in_precision

    with plan_draft(request.output) as draft, scratch_beside(request.output, ".onnx", error=ExportError) as onnx_file:
        step(f"making the {request.precision} graph")
        graph, spec = write_in_precision(
            request.model, request.spec, request.precision, onnx_file, request.calibration, request.imgsz
        )
        content = onnx_file.read_bytes()
        plan, logged = _built(trt, request, spec.input, content, device, step)
        record = record_of(request, spec, plan, content, trt.__version__, device)
        write_pair(draft, plan, record)
        with _opened(draft, device) as network:
            layers = _layers(request, logged, network)
            types = layer_types(layers)
            check_precision(types, request.precision, convolution_share(graph, request.precision))
            findings = () if network is None else _compared(network, request.model, record, photographs, step)
        compared = tuple(map(str, findings)) or (NOT_COMPARED,)
        told = tuple(layer.line for layer in layers)
        record = replace(record, confirmed=str(types), compared=compared, layers=told)
        write_record(draft, record)
    return Plan(request.output, record, findings, types)


_TRTEXEC_INSTEAD = ", or use NVIDIA's TensorRT image; with --trtexec --run no Python package is needed"


def compare_plan(
    plan: Path, model: Path, device: int = 0, images: Path | None = None, step: Step = lambda _: None
) -> Plan:
    """Compare a plan that was built elsewhere with its ONNX file, and write the results into the JSON beside it.

    Args:
        plan: with its JSON beside it.
        model: the ONNX file that it was built from, in any precision.
        device: number of the GPU that it runs on.
        images: see `build_engine`.
        step: called with a description of each step.

    Raises:
        ModelError: the plan does not run here. DeviceError, MissingDependencyError: see `build_engine`.
        ParameterError: there is no JSON beside the plan.
        ExportError: the results differ; the JSON is unchanged then.

    Example:
        >>> compare_plan(Path("fastsam.rtx"), Path("fastsam.onnx")).findings  # doctest: +SKIP
    """
    photographs = load_photographs(images)
    file = read_plan(plan)
    record = file.record
    if record is None:
        raise ParameterError(
            f"{plan}: has no JSON beside it, so that its precision and shapes are unknown; expected a plan that "
            "fastsam-export engine built"
        )
    file.library.load(plan.name)
    with _opened(plan, Device.open(device)) as network:
        assert network is not None
        findings = _compared(network, model, record, photographs, step)
        gpu = network.cuda_device.name
    compared = tuple(f"{gpu}: {finding}" for finding in findings)
    record = replace(record, compared=compared)
    write_atomically(record_path(plan), record.to_json().encode())
    return Plan(plan, record, findings, None)


def _built(
    trt: Any, request: Request, image_input: str, content: bytes, device: Device | None, step: Step
) -> tuple[bytes, list[str]]:
    """The plan, and what the builder logged about its layers."""
    from .builder import plan_from_onnx
    from .layers import LAYERS_IN_LOG

    log, profiles = tensorrt_log(trt), {image_input: request.profiles}
    with device.active() if device else nullcontext(), log.recorded(LAYERS_IN_LOG) as logged:
        plan = plan_from_onnx(trt, content, request.model.name, profiles, request.settings, log, step)
    return plan, logged


def _layers(request: Request, logged: list[str], network: TensorRTNetwork | None) -> tuple[Layer, ...]:
    from .layers import layers_from_inspector, layers_from_log

    if request.library.compiles_late or network is None:
        return layers_from_log(logged)
    return layers_from_inspector(network.layer_information())


def _opened(plan: Path, device: Device | None) -> AbstractContextManager[TensorRTNetwork | None]:
    if device is None:
        return nullcontext()
    from ...runtime.engines.tensorrt.network import network_from_plan

    return closing(network_from_plan(read_plan(plan), device))


def _compared(
    network: TensorRTNetwork,
    model: Path,
    record: PlanRecord,
    photographs: Sequence[NDArray[np.uint8]],
    step: Step,
) -> tuple[Finding, ...]:
    from .compare import LIMITS, compare_engines

    with closing(open_engine(model)) as reference:
        engine = SegmentationEngine(network)
        return compare_engines(engine, reference, record.profiles, photographs, LIMITS[record.spec.precision], step)
