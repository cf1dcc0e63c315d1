"""How near is what we export to what the checkpoint says? `fastsam bench fidelity`, with a checkpoint as the reference.

    python -m benchmarks.fidelity compare models/fastsam-demo.pt models/fastsam-demo.onnx --images examples/images
    python -m benchmarks.fidelity parity                       # checks the shipped model, writes
                                                               # results/parity_ultralytics.json
    python -m benchmarks.fidelity parity examples/images more/photographs --imgsz 640

A checkpoint runs in ultralytics' own pipeline with `retina_masks=True`, on the CPU or the GPU; everything else as in
`fastsam bench fidelity` (same options, same exit codes). `parity` compares on the photographs that it is given and on
the shipped ones cut and stretched into shapes that break geometry, with rectangular and with square inputs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from fastsam_deploy.runtime import FastSAM, FastSamError, Masks, MissingDependencyError, Segments, load_image
from fastsam_deploy.runtime.cli.bench_fidelity import NOT_KEPT
from fastsam_deploy.runtime.cli.bench_fidelity import fidelity as compare_models
from fastsam_deploy.runtime.cli.process import FAILED
from fastsam_deploy.runtime.measure.fidelity import Fidelity, compare
from fastsam_deploy.runtime.measure.findings import failures
from fastsam_deploy.runtime.measure.gate import Contender, FidelityLimits, judge
from fastsam_deploy.runtime.measure.run import ModelArgument, input_shape, settings_of
from fastsam_deploy.runtime.opening import ModelSettings
from fastsam_deploy.runtime.settings import refuse_settings
from fastsam_deploy.runtime.sources.paths import find_images
from fastsam_deploy.runtime.system.atomic import write_atomically
from fastsam_deploy.runtime.system.packages import version_of

from .photographs import RESULTS, ROOT, processor
from .suite.machine import demo_model

LIMITS = FidelityLimits(recall=1, precision=1, mean_iou=0.999, min_iou=0.99, box_px=0.5, score=1e-3, at_iou=0.9)
"""What the same detections means."""

SHAPES_HW = [
    *((17, 9), (4000, 300), (300, 4000), (333, 517), (517, 333), (401, 777), (64, 64), (65, 64), (480, 640)),
    *((640, 427), (1080, 810), (33, 95), (1, 50), (719, 1279), (1500, 2000), (201, 603), (128, 127), (640, 640)),
]
"""Single pixels, stripes, sides just above and below a multiple of the stride, sides whose halves round."""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.command("compare")(compare_models)


class Checkpoint:
    """A FastSAM checkpoint in ultralytics' own pipeline: the reference of everything."""

    def __init__(self, path: str, *, device: str = "cpu", threads: int | None = None, **settings: Any) -> None:
        """
        Args:
            settings: conf, iou, max_det, rect and imgsz (None: the checkpoint's own), as `FastSAM` takes them.

        Raises:
            MissingDependencyError: ultralytics is not installed.
            FastSamError: the file is not there.
        """
        if not Path(path).is_file():  # ultralytics would download one of that name
            raise FastSamError(f"{path}: no such file; expected a checkpoint; looked in {Path.cwd()}")
        try:
            import torch
            import ultralytics
        except ImportError as error:
            raise MissingDependencyError(f"{path}: {error}; run: pip install 'fastsam-deploy[export]'") from error
        if threads is not None:
            torch.set_num_threads(threads)
        self._model = ultralytics.FastSAM(path)
        self.class_names = tuple(str(name) for name in self._model.names.values())
        self.imgsz = settings["imgsz"] or self._model.overrides.get("imgsz", 640)
        self.rect = settings["rect"] is not False
        own = {"imgsz": self.imgsz, "rect": self.rect, "device": device, "retina_masks": True, "verbose": False}
        self._settings = {**{key: settings[key] for key in ("conf", "iou", "max_det")}, **own}

    def segment(self, image: NDArray[np.uint8]) -> Segments:
        """Everything in an image, (h, w, 3) uint8 RGB."""
        result = self._model(np.ascontiguousarray(image[..., ::-1]), **self._settings)[0]
        if result.masks is None:
            return Segments.empty((image.shape[0], image.shape[1]), self.class_names)
        boxes = result.boxes.cpu().numpy()
        masks = Masks.from_dense(result.masks.data.cpu().numpy())
        return Segments.unprompted(boxes.xyxy, boxes.conf, boxes.cls.astype(np.int64), masks, self.class_names)

    def close(self) -> None:
        """Nothing to free."""


def open_checkpoint(argument: ModelArgument, settings: ModelSettings) -> Contender | None:
    """A checkpoint as a contender; None where the model is something else."""
    if not argument.source.lower().endswith(".pt"):
        return None
    given = settings_of(argument, settings)
    has = ("device", "threads")
    refuse_settings(given.engine, argument.source, "a checkpoint runs in ultralytics:", has)
    ours = (*has, "conf", "iou", "max_det", "imgsz", "rect")
    model = Checkpoint(argument.source, **{name: given.keywords()[name] for name in ours})
    described = {
        "engine": "ultralytics",
        "precision": "fp32",
        "device": given.engine.device,
        "ultralytics": version_of("ultralytics"),
        "torch": version_of("torch"),
        "checkpoint_sha256": hashlib.sha256(Path(argument.source).read_bytes()).hexdigest(),
        "class_names": list(model.class_names),
        "imgsz": model.imgsz,
        "input": input_shape(model.imgsz, model.rect),
    }
    return Contender(argument.name, argument.source, model, described)


@app.command()
def parity(
    images: Annotated[list[str] | None, typer.Argument(help="Photographs. Default: the shipped ones.")] = None,
    checkpoint: Annotated[Path, typer.Option(help="The reference.")] = ROOT / "models/fastsam-demo.pt",
    model: Annotated[Path, typer.Option(help="Exported from it.")] = ROOT / "models/fastsam-demo.onnx",
    imgsz: Annotated[int, typer.Option(help="Longest side of the input.")] = 640,
    conf: Annotated[float, typer.Option(help="Keep segments with a score above it.")] = 0.4,
    iou: Annotated[float, typer.Option(help="Of boxes that overlap more than this the better stays.")] = 0.9,
    shapes: Annotated[bool, typer.Option(help="Also the shipped ones in odd shapes.")] = True,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
) -> None:
    """Is the shipped model the checkpoint? Writes parity_ultralytics.json if so; the exit code is 1 if not."""
    photographs = [load_image(path) for path in find_images(images or [str(ROOT / "examples/images")])]
    pictures = photographs + (odd_shapes() if shapes else [])
    settings = {"conf": conf, "iou": iou, "max_det": 300, "imgsz": imgsz}
    report: dict[str, Any] = {
        "measured by": "python -m benchmarks.fidelity parity PHOTOGRAPHS",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "cpu": processor(),
        **{package: version_of(package) for package in ("onnxruntime", "torch", "ultralytics")},
        "demo_model": demo_model(),
        "checkpoint": checkpoint.name,
        "model": model.name,
        "imgsz": imgsz,
        "conf": conf,
        "iou": iou,
        "photographs": len(photographs),
        "images": len(pictures),
    }
    failed = []
    for name, rect in (("rectangle", True), ("square", False)):
        theirs = Checkpoint(str(checkpoint), **settings, rect=rect)
        with FastSAM(model, **settings, rect=rect) as ours:  # type: ignore[arg-type]
            measured, least = _compare_all(theirs, ours, pictures)
        failed += [f"{name}: {failure}" for failure in failures(judge(measured, LIMITS))]
        report[name] = {**_figures(measured), "minimum_is": least}
        print(f"{name}: {json.dumps(report[name], ensure_ascii=False)}")
    if failed:
        print(f"not the same: {'; '.join(failed)}; nothing was written", file=sys.stderr)
        raise typer.Exit(NOT_KEPT)
    output.mkdir(parents=True, exist_ok=True)
    written = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_atomically(output / "parity_ultralytics.json", written.encode())


def odd_shapes() -> list[NDArray[np.uint8]]:
    """The shipped photographs cut, stretched, mirrored and turned: (h, w, 3) uint8 RGB each."""
    coffee, cat = (load_image(ROOT / f"examples/images/{name}.jpg") for name in ("coffee", "cat"))
    made = [
        cv2.resize((coffee, cat)[i % 2], (width, height), interpolation=cv2.INTER_AREA)
        for i, (height, width) in enumerate(SHAPES_HW)
    ]
    cuts = [coffee[:399, :599], coffee[17:, 31:], cat[:, 100:300], cat[50:], coffee[100:300], cat[:299, :450]]
    turned = [coffee[:, ::-1], cat[::-1], coffee.swapaxes(0, 1), cat.swapaxes(0, 1)]
    return made + [np.ascontiguousarray(image) for image in cuts + turned]


def _compare_all(theirs: Checkpoint, ours: FastSAM, pictures: list[NDArray[np.uint8]]) -> tuple[Fidelity, str]:
    """What was measured, and the pair of the least IoU in words."""
    rows, least, words = [], 2.0, "no mask"
    for image in pictures:
        reference, found = theirs.segment(image), ours.segment(image)
        row = compare(reference, found)
        rows.append(row)
        if len(row.ious) and row.ious[-1] < least:  # best first
            least = float(row.ious[-1])
            areas = row.areas[-1], found.areas[row.candidate_rows[-1]]
            differing = round(sum(areas) * (1 - least) / (1 + least))
            words = f"{differing} of the {areas[0]} pixels of a mask in an image of {image.shape[1]}x{image.shape[0]}"
    return Fidelity(tuple(rows)), words


def _figures(measured: Fidelity) -> dict[str, Any]:
    return {
        "masks": measured.reference_count,
        "found": measured.candidate_count,
        "mean_iou": round(measured.mean_iou, 6),
        "minimum_iou": round(measured.min_iou, 6),
        "mean_boundary_f": round(measured.mean_boundary_f, 6),
        "largest_box_deviation_px": round(measured.max_box_px, 6),
        "largest_score_deviation": round(measured.max_score, 8),
    }


def main() -> int:
    """Run the command line: 0; 1 if a limit is not kept; 2 with one line on standard error."""
    try:
        app(obj=open_checkpoint)
    except FastSamError as error:
        print(f"fidelity: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
