"""FP32 ONNX file → INT8 file that is proven near to it on photographs, or no file at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import onnx

from ...runtime.engines import open_engine
from ...runtime.errors import ParameterError
from ...runtime.measure.findings import Finding, failures
from ...runtime.spec import METADATA_KEY, ModelSpec, imgsz_for
from ...runtime.stages.image import SUFFIXES
from ...runtime.system.atomic import draft_of, scratch_beside, write_atomically
from ...runtime.system.identity import check_outputs
from ..errors import ExportError
from ..graph.fp16 import rounded_like_fp16
from .graph import TARGETS, Layer, layers_named, layers_of, tensors_to_calibrate, with_folded_weights, with_qdq
from .judge import Judge, Likeness, QuantizationLimits
from .ranges import METHODS, histograms, network_inputs, range_of
from .sweep import Sweep, kept_in, sweep

_CHECKED = 12
_SWEPT = 6


@dataclass(frozen=True)
class Quantized:
    """What was made.

    Attributes:
        path: the file.
        spec: what it says of itself.
        likeness: to the FP32 file.
        findings: the worst of each figure that has a limit, of the file as ONNX Runtime computes it and in true FP16.
        rounded, kept: names of the convolutions in INT8, and of those that stayed high.
        calibrated_on: photographs.
        unseen: the photographs that were compared on are not among those.
        sweep: where one was asked for.
    """

    path: Path
    spec: ModelSpec
    likeness: Likeness
    findings: tuple[Finding, ...]
    rounded: tuple[str, ...]
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
    """Make an INT8 (QDQ) file from an FP32 one and compare it with that on photographs.

    The convolutions that end the head stay high in any case. What else stays high: `keep`, or what `keep_from` lists,
    or what the sweep finds; without any of these, the stem (docs/adr/0011).

    Args:
        model: an FP32 `.onnx` file of `fastsam-export onnx`, with or without NMS in its graph, or a foreign one.
        output: the `.onnx` file; replaced only when the new one is proven. A sweep writes its table beside it.
        images: a folder of photographs like those that will be segmented, or the photographs.
        target: "tensorrt" or "cpu", see `with_qdq`.
        method: how ranges are chosen, see `range_of`.
        keep: names of layers or blocks.
        keep_from: a table that a sweep wrote.
        run_sweep: find the layers that have to stay high for this model (minutes).
        half: what is not INT8 computes in FP16; None: with "tensorrt" yes, with "cpu" no.
        count: photographs to calibrate on, spread evenly over those given.
        imgsz: longest side of the network's input, pixels; None: the model's own.
        limits: what the file has to reach; None: the defaults of `QuantizationLimits`.
        step: told what is being done.

    Raises:
        ExportError: the file is not near enough to the FP32 one, or cannot be made.
        ParameterError: a setting does not fit, or `output` is an input. ModelError: the FP32 file cannot be opened.
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
    plain = with_folded_weights(onnx.load(source))
    layers = layers_of(plain)
    found = histograms(plain, tensors_to_calibrate(layers, target), lambda: network_inputs(seen, spec, side), step)
    ranges = {name: range_of(one, method, signed=target == "tensorrt") for name, one in found.items()}
    as_written = target == "tensorrt"
    swept = None
    if run_sweep:

        def rounded(some: Collection[Layer]) -> onnx.ModelProto:
            return with_qdq(plain, some, ranges, target)

        few = compared[:_SWEPT]
        swept = sweep(layers, rounded, Judge(source, few, side), limits, as_written=as_written, step=step)
        about = {"model": source.name, "target": target, "method": method, "imgsz": side, "images": len(few)}
        write_atomically(goal.with_suffix(".sweep.json"), swept.to_json(**about).encode())
    high = _kept(layers, keep, keep_from, swept)
    low = [layer for layer in layers if layer.name not in high]
    if not low:
        raise ParameterError("every convolution is kept high, nothing is left for INT8; keep fewer")
    step("rounding")
    made = replace(spec, precision="int8", tools={**spec.tools, **_tools(target, method, len(seen), half=half)})
    graph = with_qdq(plain, low, ranges, target, half=half)
    onnx.helper.set_model_props(graph, {e.key: e.value for e in plain.metadata_props} | {METADATA_KEY: made.to_json()})
    onnx.checker.check_model(graph, full_check=True)
    step("comparing with the FP32 file")
    judge = Judge(source, compared, side)
    # The file itself, and what it would be in true FP16: ONNX Runtime leaves much of that rounding out.
    judged = [graph, rounded_like_fp16(with_qdq(plain, low, ranges, target))] if half else [graph]
    likenesses = [judge.judge(variant, as_written=as_written) for variant in judged]
    findings = limits.findings(*likenesses)
    if missing := failures(findings):
        raise ExportError(_too_far(missing, swept))
    likeness = min(likenesses, key=lambda variant: variant.quality)
    _write(graph, goal, made)
    names = tuple(layer.name for layer in low), tuple(layer.name for layer in layers if layer.name in high)
    return Quantized(goal, made, likeness, findings, *names, len(seen), not set(seen) & set(compared), swept)


def _check(goal: Path, target: str, method: str, *, half: bool, count: int, ways: Sequence[bool]) -> None:
    if goal.suffix != ".onnx":
        raise ParameterError(f"output is {goal}, expected a name that ends in .onnx")
    if target not in TARGETS:
        raise ParameterError(f"target is {target!r}, expected one of {', '.join(TARGETS)}")
    if method not in METHODS:
        raise ParameterError(f"calibration method is {method!r}, expected one of {', '.join(METHODS)}")
    if count < 1:
        raise ParameterError(f"{count} photographs to calibrate on, expected 1 or more")
    if half and target == "cpu":
        raise ParameterError("FP16 beside INT8 with target cpu: processors compute FP16 slowly; leave --half out")
    if sum(ways) > 1:
        raise ParameterError("--keep, --keep-from and --sweep each say what stays high; use one of them")


def _photographs(images: Path | Sequence[Path]) -> list[Path]:
    if not isinstance(images, Path):
        found = list(images)
    elif images.is_dir():
        found = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    else:
        raise ExportError(f"{images}: no such folder; expected one with photographs to calibrate on")
    if not found:
        raise ExportError(f"{images}: holds no photograph to calibrate on; expected {', '.join(sorted(SUFFIXES))}")
    return found


def _divided(paths: Sequence[Path], count: int) -> tuple[list[Path], list[Path]]:
    """Photographs to calibrate on and to compare on: others, where there are any left."""
    seen = _spread(paths, count)
    rest = [path for path in paths if path not in set(seen)]
    return seen, _spread(rest or seen, _CHECKED)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    taken = min(count, len(paths))
    return [paths[i * len(paths) // taken] for i in range(taken)]


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
    """Names of the layers that stay high."""
    always = {layer.name for layer in layers if layer.ends_head}
    if swept is not None:
        return always | set(swept.keep)
    named = kept_in(keep_from) if keep_from is not None else tuple(keep)
    if named or keep_from is not None:
        return always | layers_named(layers, named)
    return {layer.name for layer in layers if layer.kept}


def _tools(target: str, method: str, count: int, *, half: bool) -> dict[str, str]:
    rest = "fp16" if half else "fp32"
    return {
        "onnxruntime": version("onnxruntime"),
        "int8": f"for {target}, calibrated by {method} on {count} images, the rest {rest}",
    }


def _too_far(missing: Sequence[str], swept: Sweep | None) -> str:
    advice = "let --sweep find the layers that have to stay high, or name them with --keep"
    if swept is not None:
        worst = ", ".join(block.group for block in swept.blocks[:3])
        advice = f"the sweep says that {worst} lose most; calibrate on more photographs that are like those to segment"
    return f"the INT8 file is too far from the FP32 one: {'; '.join(missing)}. Nothing was written; {advice}"


def _write(graph: onnx.ModelProto, goal: Path, spec: ModelSpec) -> None:
    """What our runtime does not open never gets the final name."""
    with draft_of(goal, error=ExportError) as draft:
        onnx.save(graph, draft)
        with closing(open_engine(draft)) as engine:
            if engine.spec != spec:
                raise ExportError(f"the file says {engine.spec}, expected {spec}; report it")
