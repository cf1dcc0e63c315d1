"""FastSAM on one engine: image → segments → prompt. The only module that knows all stages."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decode import decode
from .engines import Engine, open_engine
from .errors import ImageError, ModelError, ParameterError
from .image import ImageSource, load_image
from .letterbox import Letterbox, fit, fit_rectangle, letterbox
from .masks import assemble, snap_to_border
from .segments import Prompt, Segments
from .spec import ModelSpec, check_imgsz


def demo_model_path() -> Path:
    """The ONNX file of the demo model that comes with the package.

    Raises:
        ModelError: the package was installed without it.
    """
    path = Path(str(files("fastsam_deploy.models") / "fastsam-demo.onnx"))
    if not path.is_file():
        raise ModelError(f"{path}: the demo model is not there; install the package again, or give a model file")
    return path


class FastSAM:
    """Segments everything in an image, then picks by prompt. Usable from many threads at once.

    >>> with FastSAM() as model:                                    # doctest: +SKIP
    ...     everything = model.segment("photo.jpg")
    ...     cup = everything.select(Points([[320, 180]]))
    """

    def __init__(
        self,
        model: str | Path | Engine | None = None,
        device: str = "cpu",
        *,
        conf: float = 0.4,
        iou: float = 0.9,
        max_det: int = 300,
        imgsz: int | None = None,
        threads: int | None = None,
        rect: bool = True,
    ) -> None:
        """
        Args:
            model: path of an `.onnx` file, an open engine (which stays the caller's to close), or None for the
                demo model.
            device: "cpu", "cuda" or "cuda:N"; never replaced by another.
            conf: keep detections with a score above it, [0, 1).
            iou: of two boxes that overlap more than this, the better stays, (0, 1].
            max_det: keep at most this many, best first.
            imgsz: longest side of the network input, a multiple of 32; None: the model's own.
            threads: CPU threads of the network; None: as many as this process may use.
            rect: input is the smallest rectangle round the image; False: always a square. A model of fixed size
                has no choice.

        Raises:
            ParameterError, ModelError, DeviceError, MissingDependencyError.
        """
        if not 0 <= conf < 1:
            raise ParameterError(f"conf is {conf}, expected 0 ≤ conf < 1")
        if not 0 < iou <= 1:
            raise ParameterError(f"iou is {iou}, expected 0 < iou ≤ 1")
        if max_det < 1 or int(max_det) != max_det:
            raise ParameterError(f"max_det is {max_det}, expected a whole number of 1 or more")
        self._owns_engine = model is None or isinstance(model, (str, Path))
        if model is None or isinstance(model, (str, Path)):
            model = open_engine(demo_model_path() if model is None else model, device, threads)
        self.engine: Engine = model
        self.conf, self.iou, self.max_det, self.rect = conf, iou, int(max_det), rect
        try:
            self.imgsz = _checked_imgsz(imgsz, self.spec)
        except ParameterError:
            self.close()
            raise

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        return self.engine.spec

    def segment(
        self, image: ImageSource, prompt: Prompt | Sequence[Prompt] | None = None, *, color: str = "RGB"
    ) -> Segments:
        """Segments of one image, or those that a prompt picks.

        Args:
            image: path, encoded bytes, PIL image, or array: (h, w), (h, w, 1), (h, w, 3) RGB, (h, w, 4) RGBA,
                uint8 or uint16.
            prompt: None for everything; coordinates are pixels of the image as it is shown (EXIF applied).
            color: "BGR" for arrays from OpenCV.

        Raises:
            ImageError: it is not an image. PromptError: the prompt does not fit it.
        """
        return self.segment_batch([image], prompt, color=color)[0]

    def segment_batch(
        self, images: Sequence[ImageSource], prompt: Prompt | Sequence[Prompt] | None = None, *, color: str = "RGB"
    ) -> list[Segments]:
        """Segments of several images of any sizes, in their order; the network runs once for each input shape.

        In `timing_ms` each image carries its own time, and an equal share of the network's.

        Raises:
            ImageError: names the first image that is not one. PromptError: the prompt does not fit an image.
        """
        loaded = [self._load(image, i, len(images), color) for i, image in enumerate(images)]
        places = [self._place(pixels.shape[:2]) for pixels, _ in loaded]
        by_shape: dict[tuple[int, int], list[int]] = {}
        for i, place in enumerate(places):
            by_shape.setdefault(place.input_hw, []).append(i)
        results: dict[int, Segments] = {}
        for indices in by_shape.values():
            for group in _groups(indices, self.spec.batch):
                results.update(self._run([(i, *loaded[i], places[i]) for i in group], prompt))
        return [results[i] for i in range(len(images))]

    def close(self) -> None:
        """Free the engine, if it was opened here."""
        if self._owns_engine:
            self.engine.close()

    def __enter__(self) -> FastSAM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, image: ImageSource, i: int, count: int, color: str) -> tuple[NDArray[np.uint8], float]:
        start = perf_counter()
        try:
            return load_image(image, color=color), _ms_since(start)
        except ImageError as error:
            if count == 1:
                raise
            raise ImageError(f"image {i} of {count}: {error}") from error

    def _place(self, image_hw: tuple[int, ...]) -> Letterbox:
        height, width = image_hw
        if self.spec.fixed_hw is not None:
            return fit((height, width), self.spec.fixed_hw)
        if self.rect:
            return fit_rectangle((height, width), self.imgsz, self.spec.stride)
        return fit((height, width), (self.imgsz, self.imgsz))

    def _run(
        self,
        group: list[tuple[int, NDArray[np.uint8], float, Letterbox]],
        prompt: Prompt | Sequence[Prompt] | None,
    ) -> dict[int, Segments]:
        """One network call for images that share an input shape."""
        batch = self.spec.batch or len(group)
        # A model of fixed batch runs full; rows past the group are not looked at.
        blob = np.empty((batch, 3, *group[0][3].input_hw), np.float32)
        blob[len(group) :] = 0
        timings = []
        for row, (_, pixels, load_ms, place) in zip(blob, group, strict=False):
            start = perf_counter()
            letterbox(pixels, place, row)
            timings.append({"load": load_ms, "letterbox": _ms_since(start)})
        start = perf_counter()
        raw = self.engine.run(blob)
        engine_ms = _ms_since(start) / len(group)
        results = {}
        for row_number, ((i, _, _, place), timing) in enumerate(zip(group, timings, strict=True)):
            timing["engine"] = engine_ms
            found = self._segments(raw["detections"][row_number], raw["prototypes"][row_number], place, timing)
            start = perf_counter()
            answer = found if prompt is None else found.select(prompt)
            timing["prompt"] = _ms_since(start)
            results[i] = answer
        return results

    def _segments(
        self, output: NDArray[Any], prototypes: NDArray[Any], place: Letterbox, timing: dict[str, float]
    ) -> Segments:
        start = perf_counter()
        found = decode(output, self.spec, self.conf, self.iou, self.max_det)
        timing["decode"] = _ms_since(start)
        start = perf_counter()
        boxes = place.boxes_to_image(found.boxes_xyxy)
        masks = assemble(found.coefficients, prototypes, boxes, place)
        # A detection without a pixel is no segment: dropped, as in ultralytics.
        kept = np.flatnonzero(masks.areas)
        boxes = snap_to_border(boxes[kept], place.image_hw)
        segments = Segments.unprompted(
            boxes, found.scores[kept], found.classes[kept], masks[kept], self.spec.class_names, timing
        )
        timing["masks"] = _ms_since(start)
        return segments


def _checked_imgsz(imgsz: int | None, spec: ModelSpec) -> int:
    if spec.fixed_hw is None:
        return check_imgsz(spec.imgsz if imgsz is None else imgsz, spec.stride)
    if imgsz is not None and imgsz != max(spec.fixed_hw):
        height, width = spec.fixed_hw
        raise ParameterError(
            f"imgsz is {imgsz}, the model takes only inputs of {height} x {width}; "
            "leave imgsz out, or export the model with --dynamic"
        )
    return max(spec.fixed_hw)


def _groups(indices: list[int], batch: int | None) -> list[list[int]]:
    """All at once, or in steps of a fixed batch."""
    step = batch or len(indices)
    return [indices[start : start + step] for start in range(0, len(indices), step)]


def _ms_since(start: float) -> float:
    return (perf_counter() - start) * 1000
