"""The same plan, built by trtexec: its commands, or the plan itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...runtime.engines.tensorrt.plan_file import version_of_plan
from ...runtime.system.atomic import draft_of
from ..errors import ExportError
from .drafts import plan_draft, record_of, write_record
from .request import Request
from .to_engine import Plan
from .trtexec import find_trtexec, major_of, run_trtexec, trtexec_command


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
        with plan_draft(request.output) as draft:
            run_trtexec(_trtexec(request, onnx_file, draft, major, verbose, program), onnx_file, draft)
            plan = draft.read_bytes()
            spec = replace(request.spec, precision=request.precision)
            record = record_of(request, spec, plan, onnx_file.read_bytes(), version_of_plan(plan), None)
            write_record(draft, record)
    except BaseException:
        if onnx_file != request.model:
            onnx_file.unlink(missing_ok=True)
        raise
    return Plan(request.output, record, (), None)


def _trtexec(request: Request, onnx_file: Path, plan: Path, major: int, verbose: bool, program: str) -> list[str]:
    varies = request.spec.batch is None or request.spec.fixed_hw is None
    return trtexec_command(
        onnx_file, plan, request.spec.input, request.profiles, request.settings, major,
        dynamic=varies, device=request.device or 0, verbose=verbose, program=program,
    )  # fmt: skip
