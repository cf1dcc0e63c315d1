"""FP32 ONNX file → INT8 file whose segments are near to those of the FP32 file on photographs, or no file at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from ...runtime.engines import open_engine
from ...runtime.errors import ParameterError
from ...runtime.measure.findings import Finding, failures
from ...runtime.spec import ModelSpec, imgsz_for
from ...runtime.stages.image import SUFFIXES
from ...runtime.system.atomic import draft_of, scratch_beside, write_atomically
from ...runtime.system.identity import check_outputs
from ...runtime.system.packages import version_of
from ..errors import ExportError
from .calibrated import Calibration, calibrate
from .graph import TARGETS, Layer, layers_named
from .judge import Judge, Likeness, QuantizationLimits
from .ranges import METHODS, network_inputs
from .sweep import Sweep, kept_in, sweep

_CHECKED = 12
_SWEPT = 6


@dataclass(frozen=True)
class Quantized:
    """A quantized file that was written.

    Attributes:
        path: the file.
        spec: stored in the file.
        likeness: agreement with the FP32 file.
        findings: one for each limit, with the worse value of the file as ONNX Runtime computes it and in true FP16.
        quantized, kept: names of the convolutions in INT8, and of those kept in floating point.
        calibrated_on: number of photographs.
        unseen: the photographs that were compared on are not among those of the calibration.
        sweep: None where none was requested.

    Example:
        >>> result = quantize_model("fastsam.onnx", "fastsam-int8.onnx", "photographs")  # doctest: +SKIP
        >>> all(finding.passed for finding in result.findings)  # doctest: +SKIP
        True
    """

    path: Path
    spec: ModelSpec
    likeness: Likeness
    findings: tuple[Finding, ...]
    quantized: tuple[str, ...]
    kept: tuple[str, ...]
    calibrated_on: int
    unseen: bool
    sweep: Sweep | None


def quantize_model(
    model: str | Path,
    output: str | Path,
    images: str | Path | Sequence[Path],
    *,
    target: str = "tensorrt",
    method: str = "percentile",
    keep: Collection[str] = (),
    keep_from: Path | None = None,
    run_sweep: bool = False,
    half: bool | None = None,
    count: int = 64,
    imgsz: int | None = None,
    limits: QuantizationLimits | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> Quantized:
    """Make an INT8 (QDQ) file from an FP32 one and compare the two on photographs.

    The convolutions that end the head always stay in floating point. So do those that `keep`, `keep_from` or the sweep
    names; without any of these, the stem (docs/adr/0011).

    Args:
        model: an FP32 `.onnx` file of `fastsam-export onnx` or of ultralytics, with or without NMS in its graph.
        output: the `.onnx` file; replaced only after the new one has passed the comparison. A sweep writes its table
            beside it.
        images: a folder of photographs like those that will be segmented, or the photographs.
        target: one of `TARGETS`, see `with_qdq`.
        method: how ranges are chosen, see `range_of`.
        keep: names of layers or blocks.
        keep_from: a table that a sweep wrote.
        run_sweep: find the layers that have to stay in floating point for this model; takes minutes.
        half: what is not INT8 computes in FP16; None: with "tensorrt" yes, for processors no.
        count: photographs to calibrate on, spread evenly over those given.
        imgsz: longest side of the network's input, pixels; None: the model's default.
        limits: what the file has to reach; None: the defaults of `QuantizationLimits`.
        step: called with a description of each step.

    Raises:
        ExportError: the file is not near enough to the FP32 one, or cannot be made.
        ParameterError: a setting does not fit, or `output` is an input. ModelError: the FP32 file cannot be opened.

    Example:
        >>> quantize_model("fastsam.onnx", "fastsam-int8.onnx", "photographs", target="cpu")  # doctest: +SKIP
    """
    source, goal = Path(model), Path(output)
    check_outputs([source, *([keep_from] if keep_from is not None else [])], {"output": goal})
    half = target == "tensorrt" if half is None else half
    _check(goal, target, method, half=half, count=count, ways=(bool(keep), keep_from is not None, run_sweep))
    with scratch_beside(goal, ".onnx", parents=True, error=ExportError):
        pass  # a folder that cannot be written to says so before the work, not after it
    limits = limits or QuantizationLimits()
    seen, compared = _divided(_photographs(Path(images) if isinstance(images, str) else images), count)
    step("opening the FP32 file")
    spec = _fp32_spec(source)
    side = imgsz_for(spec, imgsz)
    calibration = Calibration(lambda: network_inputs(seen, spec, side), len(seen), target, method)
    calibrated = calibrate(onnx.load(source), calibration, step)
    swept = None
    if run_sweep:
        judge = Judge(source, compared[:_SWEPT], side)
        swept = sweep(
            calibrated.layers, calibrated.quantized, judge, limits, as_written=calibrated.as_written, step=step
        )
        table = swept.to_json(model=source.name, target=target, method=method, imgsz=side, images=judge.count)
        write_atomically(goal.with_suffix(".sweep.json"), table.encode())
    kept = _kept(calibrated.layers, keep, keep_from, swept)
    chosen = [layer for layer in calibrated.layers if layer.name not in kept]
    if not chosen:
        raise ParameterError("every convolution is kept in floating point, none is left for INT8; keep fewer")
    step("quantizing")
    calibrated = calibrated.with_corrected_scores(chosen)
    int8_spec = replace(spec, precision="int8", tools={**spec.tools, **_tools(target, method, len(seen), half=half)})
    graph = calibrated.finished(chosen, int8_spec, half=half)
    step("comparing with the FP32 file")
    likenesses = calibrated.likenesses(Judge(source, compared, side), graph, chosen, half=half)
    findings = limits.findings(*likenesses)
    if missing := failures(findings):
        raise ExportError(_too_far(missing, swept))
    _write(graph, goal, int8_spec)
    likeness = min(likenesses, key=lambda variant: variant.quality)
    names = tuple(layer.name for layer in chosen), tuple(x.name for x in calibrated.layers if x.name in kept)
    return Quantized(goal, int8_spec, likeness, findings, *names, len(seen), not set(seen) & set(compared), swept)


def _check(goal: Path, target: str, method: str, *, half: bool, count: int, ways: Sequence[bool]) -> None:
    if goal.suffix != ".onnx":
        raise ParameterError(f"output is {goal}, expected a name that ends in .onnx")
    if target not in TARGETS:
        raise ParameterError(f"target is {target!r}, expected one of {', '.join(TARGETS)}")
    if method not in METHODS:
        raise ParameterError(f"calibration method is {method!r}, expected one of {', '.join(METHODS)}")
    if count < 1:
        raise ParameterError(f"{count} photographs to calibrate on, expected 1 or more")
    if half and target != "tensorrt":
        raise ParameterError(f"FP16 beside INT8 with target {target}: processors compute FP16 slowly; leave --half out")
    if sum(ways) > 1:
        raise ParameterError("--keep, --keep-from and --sweep each say what stays in floating point; use one of them")


def _photographs(images: Path | Sequence[Path]) -> list[Path]:
    if not isinstance(images, Path):
        paths = list(images)
    elif images.is_dir():
        paths = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    else:
        raise ExportError(f"{images}: no such folder; expected one with photographs to calibrate on")
    if not paths:
        raise ExportError(f"{images}: holds no photograph to calibrate on; expected {', '.join(sorted(SUFFIXES))}")
    return paths


def _divided(paths: Sequence[Path], count: int) -> tuple[list[Path], list[Path]]:
    """Photographs to calibrate on, and others to compare on; the same ones if there are no others."""
    seen = _spread(paths, count)
    rest = [path for path in paths if path not in set(seen)]
    return seen, _spread(rest or seen, _CHECKED)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    chosen = min(count, len(paths))
    return [paths[i * len(paths) // chosen] for i in range(chosen)]


def _fp32_spec(source: Path) -> ModelSpec:
    if source.suffix != ".onnx":
        raise ParameterError(f"model is {source}, expected an FP32 .onnx file; make one with fastsam-export onnx")
    with closing(open_engine(source)) as engine:
        spec = engine.spec
    if spec.precision != "fp32":
        raise ParameterError(
            f"{source.name} is {spec.precision} already, expected an FP32 file; export it without --half"
        )
    return spec


def _kept(layers: Sequence[Layer], keep: Collection[str], keep_from: Path | None, swept: Sweep | None) -> set[str]:
    """Names of the layers that stay in floating point."""
    always = {layer.name for layer in layers if layer.ends_head}
    if swept is not None:
        return always | set(swept.keep)
    named = kept_in(keep_from) if keep_from is not None else tuple(keep)
    if named or keep_from is not None:
        return always | layers_named(layers, named)
    return {layer.name for layer in layers if layer.kept}


def _tools(target: str, method: str, count: int, *, half: bool) -> dict[str, str]:
    rest = "fp16" if half else "fp32"
    corrected = "" if target == "tensorrt" else "weights by GPTQ, scores corrected, "
    return {
        "onnxruntime": version_of("onnxruntime") or "unknown",
        "int8": f"for {target}, calibrated by {method} on {count} images, {corrected}the rest {rest}",
    }


def _too_far(missing: Sequence[str], swept: Sweep | None) -> str:
    advice = "let --sweep find the layers that have to stay in floating point, or name them with --keep"
    if swept is not None:
        worst = ", ".join(block.group for block in swept.blocks[:3])
        advice = f"the sweep says that {worst} lose most; calibrate on more photographs like those to segment"
    return f"the INT8 file is too far from the FP32 one: {'; '.join(missing)}. Nothing was written; {advice}"


def _write(graph: onnx.ModelProto, goal: Path, spec: ModelSpec) -> None:
    """Write the file, unless the runtime cannot open it."""
    with draft_of(goal, error=ExportError) as draft:
        onnx.save(graph, draft)
        with closing(open_engine(draft)) as engine:
            if engine.spec != spec:
                raise ExportError(f"the metadata of the file is {engine.spec}, expected {spec}; report it")
