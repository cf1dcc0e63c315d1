"""ONNX file → TensorRT plan that gives the same results as ONNX Runtime, or no file at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.engines import open_engine
from ...runtime.engines.segmentation import SegmentationEngine
from ...runtime.engines.tensorrt.plan_file import PlanRecord, read_plan, version_of_plan
from ...runtime.errors import MissingDependencyError, pip_install
from ...runtime.spec import ModelSpec
from ...runtime.system.atomic import draft_of, drafts_of, scratch_beside
from ..errors import ExportError
from ..proof.inputs import load_photographs
from .profiles import spec_for
from .request import Request
from .trtexec import find_trtexec, major_of, run_trtexec, trtexec_command

if TYPE_CHECKING:
    from ...runtime.cuda.driver.device import Device
    from ...runtime.measure.findings import Finding
    from .layers import LayerTypes

Step = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """A plan that was written.

    Attributes:
        path: the plan; its JSON is beside it.
        record: content of the JSON.
        findings: comparison with ONNX Runtime; empty where trtexec built the plan and nothing was compared.
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
    builder, tensorrt, tensorrt_log = _tensorrt_modules()
    # Without a driver TensorRT returns objects that crash the process later; opening the device first gives an error.
    device: Device = tensorrt.Device.open(request.device)
    from .compare import LIMITS, compare_engines
    from .layers import check_precision, layer_types
    from .precision import convolution_share, write_in_precision

    with _plan_draft(request.output) as draft, scratch_beside(request.output, ".onnx", error=ExportError) as onnx_file:
        step(f"making the {request.precision} graph")
        graph, spec = write_in_precision(
            request.model, request.spec, request.precision, onnx_file, request.calibration, request.imgsz
        )
        content = onnx_file.read_bytes()
        with device.active():
            plan = builder.plan_from_onnx(
                content, request.model.name, spec.input, request.profiles, request.settings,
                tensorrt_log.tensorrt_log(), step,
            )  # fmt: skip
        record = _record(request, spec, plan, content, builder.trt.__version__, device)
        _write_pair(draft, plan, record)
        with closing(tensorrt.network_from_plan(read_plan(draft), device)) as network:
            layers = layer_types(network.layer_information())
            check_precision(layers, request.precision, convolution_share(graph, request.precision))
            with closing(open_engine(request.model)) as reference:
                engine = SegmentationEngine(network)
                findings = compare_engines(
                    engine, reference, request.profiles, photographs, LIMITS[request.precision], step
                )
        record = replace(record, compared=tuple(map(str, findings)))
        _write_record(draft, record)
    return Plan(request.output, record, findings, layers)


def trtexec_commands(request: Request, onnx_file: Path, *, verbose: bool = False) -> dict[int, list[str]]:
    """Commands of trtexec that build the same plan.

    Args:
        request: made by `request_for`.
        onnx_file: in the precision of the plan (see `onnx_in_precision`).
        verbose: let trtexec print TensorRT's log.

    Returns:
        Version of TensorRT (10 and 11) → command.

    Example:
        >>> commands = trtexec_commands(request, onnx_in_precision(request))  # doctest: +SKIP
    """
    return {major: _trtexec(request, onnx_file, request.output, major, verbose, "trtexec") for major in (10, 11)}


def onnx_in_precision(request: Request) -> Path:
    """Make the ONNX file for trtexec: the model itself, or a file beside the output in the precision of the plan.

    Raises:
        ExportError: see `write_in_precision`.

    Example:
        >>> onnx_in_precision(request_for("fastsam.onnx", "fastsam.plan", precision="fp16"))  # doctest: +SKIP
        PosixPath('fastsam-fp16.onnx')
    """
    from .precision import write_in_precision

    if request.precision == request.file_precision:
        return request.model
    target = request.output.with_name(f"{request.output.stem}-{request.precision}.onnx")
    with draft_of(target, parents=True, error=ExportError) as draft:
        write_in_precision(request.model, request.spec, request.precision, draft, request.calibration, request.imgsz)
    return target


def build_with_trtexec(request: Request, *, verbose: bool = False) -> Plan:
    """Build a plan with trtexec and write it with its JSON; nothing is compared.

    Args:
        request: made by `request_for`.
        verbose: let trtexec print TensorRT's log.

    Raises:
        ExportError: trtexec is not installed, or ends without a plan; no file is left then.

    Example:
        >>> build_with_trtexec(request_for("fastsam.onnx", "fastsam.plan"))  # doctest: +SKIP
    """
    program = find_trtexec()
    major = major_of(program)
    onnx_file = onnx_in_precision(request)
    try:
        with _plan_draft(request.output) as draft:
            run_trtexec(_trtexec(request, onnx_file, draft, major, verbose, program), onnx_file, draft)
            plan = draft.read_bytes()
            spec = replace(request.spec, precision=request.precision)
            record = _record(request, spec, plan, onnx_file.read_bytes(), version_of_plan(plan), None)
            _write_record(draft, record)
    except BaseException:
        if onnx_file != request.model:
            onnx_file.unlink(missing_ok=True)
        raise
    return Plan(request.output, record, (), None)


def _trtexec(request: Request, onnx_file: Path, plan: Path, major: int, verbose: bool, program: str) -> list[str]:
    varies = request.spec.batch is None or request.spec.fixed_hw is None
    return trtexec_command(
        onnx_file, plan, request.spec.input, request.profiles, request.settings, major,
        dynamic=varies, device=request.device, verbose=verbose, program=program,
    )  # fmt: skip


def _tensorrt_modules() -> tuple[Any, Any, Any]:
    """The modules of this package that import TensorRT: builder, engine and log."""
    try:
        engines = "fastsam_deploy.runtime.engines.tensorrt"
        builder, engine = import_module("fastsam_deploy.export.tensorrt.builder"), import_module(f"{engines}.network")
        return builder, engine, import_module(f"{engines}.log")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error}; run: {pip_install('trt')}, or use NVIDIA's TensorRT image; with --trtexec --run no "
            "Python package is needed"
        ) from error


def _record(
    request: Request, spec: ModelSpec, plan: bytes, content: bytes, tensorrt: str | None, device: Device | None
) -> PlanRecord:
    tools = {**spec.tools, **({"tensorrt": tensorrt} if tensorrt else {})}
    return PlanRecord(
        spec=replace(spec_for(spec, request.profiles), tools=tools),
        profiles=request.profiles,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        tensorrt=tensorrt,
        gpu=device.name if device else None,
        compute_capability=".".join(map(str, device.compute_capability)) if device else None,
        version_compatible=request.settings.version_compatible,
        hardware_compatible="ampere_plus" if request.settings.hardware_compatible else "none",
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        command=request.command,
    )


def _write_pair(plan_path: Path, plan: bytes, record: PlanRecord) -> None:
    plan_path.write_bytes(plan)
    _write_record(plan_path, record)


def _write_record(plan_path: Path, record: PlanRecord) -> None:
    plan_path.with_suffix(".json").write_text(record.to_json(), encoding="utf-8")


@contextmanager
def _plan_draft(plan: Path) -> Iterator[Path]:
    """A draft of the plan, with one of its JSON beside it.

    The JSON is renamed first: between the two renames the old plan does not match the new JSON, and is refused.
    """
    with drafts_of(plan.with_suffix(".json"), plan, parents=True, error=ExportError) as (_, draft):
        yield draft
