"""The request for a plan, checked before anything is built."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ...runtime.engines import open_engine
from ...runtime.engines.tensorrt.plan_file import ShapeRange
from ...runtime.errors import MissingDependencyError, ParameterError
from ...runtime.spec import ModelSpec
from ...runtime.system.identity import check_outputs
from .profiles import profiles_for
from .settings import BuildSettings


@dataclass(frozen=True)
class Request:
    """A plan to be built. Made by `request_for`, which checks it.

    Attributes:
        model, output: ONNX file and plan.
        spec: of the model.
        file_precision, precision: of the model and of the plan.
        profiles: input shapes.
        settings: of the builder.
        calibration: folder of photographs for int8.
        device: number of the GPU.

    Example:
        >>> shapes = ShapeRange((1, 3, 640, 640), (1, 3, 640, 640), (1, 3, 640, 640))
        >>> Request(Path("a.onnx"), Path("a.plan"), ModelSpec(), "fp32", "fp16", (shapes,), BuildSettings()).command
        'fastsam-export engine a.onnx --output a.plan --precision fp16 --shapes 1x640x640,1x640x640,1x640x640'
    """

    model: Path
    output: Path
    spec: ModelSpec
    file_precision: str
    precision: str
    profiles: tuple[ShapeRange, ...]
    settings: BuildSettings
    calibration: Path | None = None
    device: int = 0

    @property
    def imgsz(self) -> int:
        """Longest side of any input, pixels."""
        return max(max(shapes.max[2:]) for shapes in self.profiles)

    @property
    def command(self) -> str:
        """The command that builds the same plan; files without their folders."""
        parts = ["fastsam-export", "engine", self.model.name, "--output", self.output.name]
        parts += ["--precision", self.precision]
        for shapes in self.profiles:
            texts = (f"{s[0]}x{s[2]}x{s[3]}" for s in (shapes.min, shapes.opt, shapes.max))
            parts += ["--shapes", ",".join(texts)]
        if self.calibration is not None:
            parts += ["--calibration", self.calibration.name]
        return shlex.join([*parts, *self.settings.options])


def request_for(
    model: str | Path,
    output: str | Path,
    *,
    precision: str | None = None,
    shapes: Sequence[str] = (),
    max_batch: int | None = None,
    imgsz: int | None = None,
    settings: BuildSettings | None = None,
    calibration: Path | None = None,
    device: int = 0,
) -> Request:
    """Read the model and check the settings.

    Args:
        model: ONNX file of a segmentation network.
        output: `.plan` file; the JSON beside it has the suffix `.json`.
        precision: "fp32", "fp16" or "int8"; None: that of the file. An FP32 file is converted first.
        shapes, max_batch, imgsz: see `profiles_for`.
        settings: of the builder; None: the defaults.
        calibration: folder of photographs; needed for int8 from an FP32 file.
        device: number of the GPU.

    Raises:
        ModelError: the model cannot be read. ParameterError: a setting does not fit, or an output is the model.

    Example:
        >>> request_for("fastsam.onnx", "fastsam.plan", precision="fp16", imgsz=640)  # doctest: +SKIP
    """
    source, target = Path(model), Path(output)
    settings = settings or BuildSettings()
    written = {"output": target, "output, for its JSON": target.with_suffix(".json")}
    check_outputs([source], {**written, "timing cache": settings.timing_cache})
    if source.suffix != ".onnx":
        raise ParameterError(f"model is {source}, expected an .onnx file; export it first: fastsam-export onnx")
    if target.suffix != ".plan":
        raise ParameterError(f"output is {target}, expected a name that ends in .plan")
    with closing(open_engine(source)) as engine:
        spec = engine.spec
    file_precision, plan_precision = _precisions(source, spec, precision, calibration)
    profiles = profiles_for(spec, shapes, max_batch, imgsz)
    return Request(source, target, spec, file_precision, plan_precision, profiles, settings, calibration, device)


def _precisions(model: Path, spec: ModelSpec, asked: str | None, calibration: Path | None) -> tuple[str, str]:
    """Precision of the file and of the plan."""
    try:
        import onnx

        from .precision import check_asked, precision_of
    except ModuleNotFoundError as error:
        # NVIDIA's images have no onnx. There the metadata is trusted, and the file used unchanged.
        if asked in (None, spec.precision) and calibration is None:
            return spec.precision, spec.precision
        raise MissingDependencyError(
            f"{model.name}: {error}, needed to make {asked} of a {spec.precision} file; run: pip install onnx, or make "
            "that file first: fastsam-export onnx --half, fastsam-export quantize"
        ) from error
    precision = precision_of(onnx.load(model))
    return precision, check_asked(precision, model.name, asked, calibration)
