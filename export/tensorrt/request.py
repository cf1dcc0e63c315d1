"""The request for a plan, checked before anything is built."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ...runtime.engines import open_engine
from ...runtime.engines.tensorrt.library import TENSORRT, Library
from ...runtime.engines.tensorrt.record import ShapeRange
from ...runtime.errors import MissingDependencyError, ParameterError
from ...runtime.spec import ModelSpec
from ...runtime.system.identity import check_outputs
from .profiles import profiles_for
from .settings import BuildSettings
from .targets import check_graph, check_settings


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
        device: number of the GPU that the plan is compared on, and that TensorRT builds on; None: it is built without
            one, and not compared.
        library: that builds the plan.

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
    device: int | None = 0
    library: Library = TENSORRT

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
        return shlex.join([*parts, *filter(None, [self.library.flag]), *self.settings.options])


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
    device: int | None = 0,
    library: Library = TENSORRT,
) -> Request:
    """Read the model and check the settings.

    Args:
        model: ONNX file of a segmentation network.
        output: `.plan` file (`.rtx` for TensorRT for RTX); the JSON beside it has the suffix `.json` (`.rtx.json`).
        precision: "fp32", "fp16" or "int8"; None: that of the file, but FP16 of an FP32 file for TensorRT for RTX. An
            FP32 file is converted first.
        shapes, max_batch, imgsz: see `profiles_for`. Without shapes, a plan of TensorRT for RTX gets the first profile
            alone: its kernels are made for each shape anyway, and each profile adds to the size of the plan.
        settings: of the builder; None: the defaults.
        calibration: folder of photographs; needed for int8 from an FP32 file.
        device: see `Request`.
        library: that builds the plan.

    Raises:
        ModelError: the model cannot be read. ParameterError: a setting does not fit, the library does not build such a
            model, or an output is the model.

    Example:
        >>> request_for("fastsam.onnx", "fastsam.plan", precision="fp16", imgsz=640)  # doctest: +SKIP
    """
    source, target = Path(model), Path(output)
    settings = settings or BuildSettings()
    written = {"output": target, "output, for its JSON": target.with_suffix(library.record_suffix)}
    check_outputs([source], {**written, "timing cache": settings.timing_cache})
    if source.suffix != ".onnx":
        raise ParameterError(f"model is {source}, expected an .onnx file; export it first: fastsam-export onnx")
    if target.suffix != library.suffixes[0]:
        raise ParameterError(f"output is {target}, expected a name that ends in {library.suffixes[0]}")
    check_settings(library, settings)
    with closing(open_engine(source)) as engine:
        spec = engine.spec
    file_precision, plan_precision = _precisions(source, spec, precision, calibration, library, settings.gpus)
    profiles = profiles_for(spec, shapes, max_batch, imgsz)
    if library.compiles_late and not shapes:
        profiles = profiles[:1]
    return Request(
        source, target, spec, file_precision, plan_precision, profiles, settings, calibration, device, library
    )


def _precisions(
    model: Path, spec: ModelSpec, asked: str | None, calibration: Path | None, library: Library, gpus: tuple[str, ...]
) -> tuple[str, str]:
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
    graph = onnx.load(model)
    precision = precision_of(graph)
    if library.compiles_late and asked is None and precision == "fp32":
        asked = "fp16"
    wanted = check_asked(precision, model.name, asked, calibration)
    check_graph(graph, model.name, library, gpus, wanted)
    return precision, wanted
