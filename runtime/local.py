"""Images → segments with a network that runs in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clip import Clip
from .engines import Engine
from .errors import ImageError, ParameterError
from .image import ImageSource, load_image
from .letterbox import Letterbox, fit_model, letterbox
from .mask_features import MaskFeatures
from .postprocess import Thresholds, postprocess
from .segments import Prompt, Segments
from .spec import ModelSpec, imgsz_for


class LocalSegmenter:
    """Stages of one engine, in order. Usable from many threads at once."""

    def __init__(
        self,
        engine: Engine,
        imgsz: int | None = None,
        rect: bool = True,
        *,
        owns_engine: bool = False,
        clip: Clip | None = None,
    ) -> None:
        """
        Args:
            imgsz: longest side of the network's input; None: the model's own.
            rect: input is the smallest rectangle round the image; False: a square.
            owns_engine: close the engine with this.
            clip: what text prompts ask; stays the caller's to close.

        Raises:
            ParameterError: imgsz does not fit the model.
        """
        self.engine = engine
        self._owns_engine = owns_engine
        self._clip = clip
        self.rect = rect
        try:
            self.imgsz = imgsz_for(engine.spec, imgsz)
        except ParameterError:
            self.close()
            raise

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        return self.engine.spec

    @property
    def device(self) -> str:
        """See `Engine.device`."""
        return self.engine.device

    @property
    def description(self) -> dict[str, Any]:
        """See `Engine.description`."""
        return self.engine.description

    def segment_batch(
        self,
        images: Sequence[ImageSource],
        prompt: Prompt | Sequence[Prompt] | None,
        thresholds: Sequence[Thresholds],
        color: str,
    ) -> list[Segments]:
        """See `FastSAM.segment_batch`; thresholds are one for each image."""
        loaded = [self._load(image, i, len(images), color) for i, image in enumerate(images)]
        places = [fit_model(_hw(pixels), self.spec, self.imgsz, self.rect) for pixels, _ in loaded]
        by_shape: dict[tuple[int, int], list[int]] = {}
        for i, place in enumerate(places):
            by_shape.setdefault(place.input_hw, []).append(i)
        results: dict[int, Segments] = {}
        for indices in by_shape.values():
            for group in _groups(indices, self.spec.batch):
                raw, timings = self._run([(*loaded[i], places[i]) for i in group])
                for row, (i, timing) in enumerate(zip(group, timings, strict=True)):
                    outputs = raw["detections"][row], raw["prototypes"][row]
                    found = postprocess(*outputs, places[i], self.spec, thresholds[i], timing)
                    if self._clip is not None:
                        found = replace(found, features=MaskFeatures(loaded[i][0], self._clip))
                    start = perf_counter()
                    results[i] = found if prompt is None else found.select(prompt)
                    timing["prompt"] = _ms_since(start)
        return [results[i] for i in range(len(images))]

    def close(self) -> None:
        """Free the engine, if it is this one's own."""
        if self._owns_engine:
            self.engine.close()

    def _load(self, image: ImageSource, i: int, count: int, color: str) -> tuple[NDArray[np.uint8], float]:
        start = perf_counter()
        try:
            return load_image(image, color=color), _ms_since(start)
        except ImageError as error:
            if count == 1:
                raise
            raise ImageError(f"image {i} of {count}: {error}") from error

    def _run(
        self, group: list[tuple[NDArray[np.uint8], float, Letterbox]]
    ) -> tuple[dict[str, NDArray[Any]], list[dict[str, float]]]:
        """One network call for images that share an input shape; its outputs, and times for each image."""
        # A model of fixed batch runs full; rows past the group are not looked at.
        blob = np.empty((self.spec.batch or len(group), 3, *group[0][2].input_hw), np.float32)
        blob[len(group) :] = 0
        timings = []
        for row, (pixels, load_ms, place) in zip(blob, group, strict=False):
            start = perf_counter()
            letterbox(pixels, place, row)
            timings.append({"load": load_ms, "letterbox": _ms_since(start)})
        start = perf_counter()
        raw = self.engine.run(blob)
        for timing in timings:
            timing["engine"] = _ms_since(start) / len(group)
        return raw, timings


def _hw(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]


def _groups(indices: list[int], batch: int | None) -> list[list[int]]:
    """All at once, or in steps of a fixed batch."""
    step = batch or len(indices)
    return [indices[start : start + step] for start in range(0, len(indices), step)]


def _ms_since(start: float) -> float:
    return (perf_counter() - start) * 1000
