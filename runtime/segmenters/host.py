"""Images → segments with a network that runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import replace
from threading import BoundedSemaphore
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip.encoders import Clip
from ..clip.features import MaskFeatures
from ..engines.interface import Engine
from ..errors import ParameterError
from ..native import library as native
from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..spec import ModelSpec, imgsz_for
from ..stages.image import ImageSource, load_images
from ..stages.letterbox import Letterbox, fit_model, groups, letterbox
from ..stages.postprocess import postprocess

_EXTRA_THREADS = 2
"""Threads of a stream that read images or make masks while others run the network."""


class LocalSegmenter:
    """The stages around an engine in this process. Safe to use from many threads at once.

    Example:
        >>> segmenter = LocalSegmenter(open_engine("FastSAM-s.onnx"), imgsz=640, owns_engine=True)  # doctest: +SKIP
        >>> (segments,) = segmenter.segment_batch(["photo.jpg"], None, [Thresholds()], "RGB")  # doctest: +SKIP
    """

    def __init__(
        self,
        engine: Engine,
        imgsz: int | None = None,
        rect: bool = True,
        *,
        owns_engine: bool = False,
        clip: Clip | None = None,
        runs_at_once: int | None = None,
    ) -> None:
        """
        Args:
            engine: open.
            imgsz: longest side of the network's input, pixels; None: that of the model.
            rect: the input is the smallest rectangle around the image; False: a square.
            owns_engine: close the engine with this object.
            clip: for text prompts; it is not closed with this object.
            runs_at_once: number of parallel runs of the network in a stream; None: what the engine says to gain from,
                its `description["streams"]`, or 1.

        Raises:
            ParameterError: imgsz does not fit the model.
        """
        self.engine = engine
        self.spec: ModelSpec = engine.spec
        self.device = engine.device
        self.description: dict[str, Any] = {**engine.description, "masks": native.state()}
        self._owns_engine = owns_engine
        self._clip = clip
        self.rect = rect
        self._useful_runs: int = engine.description.get("streams", 1)
        self._runs_at_once: int = runs_at_once or self._useful_runs
        self._turn: AbstractContextManager[Any] = nullcontext()
        try:
            self.imgsz = imgsz_for(engine.spec, imgsz)
        except ParameterError:
            self.close()
            raise

    def segment_batch(
        self,
        images: Sequence[ImageSource],
        prompt: Prompt | Sequence[Prompt] | None,
        thresholds: Sequence[Thresholds],
        color: str,
    ) -> list[Segments]:
        """See `FastSAM.segment_batch`. There is one value of thresholds for each image."""
        loaded = load_images(images, color)
        places = [fit_model(_hw(pixels), self.spec, self.imgsz, self.rect) for pixels, _ in loaded]

        def segment(group: list[int]) -> dict[int, Segments]:
            raw, timings = self._run([(*loaded[i], places[i]) for i in group])
            results = {}
            for row, (i, timing) in enumerate(zip(group, timings, strict=True)):
                outputs = raw["detections"][row], raw["prototypes"][row]
                segments = postprocess(*outputs, places[i], self.spec, thresholds[i], timing)
                if self._clip is not None:
                    segments = replace(segments, features=MaskFeatures(loaded[i][0], self._clip))
                start = perf_counter()
                results[i] = segments if prompt is None else segments.select(prompt)
                timing["prompt"] = _ms_since(start)
            return results

        # Where runs gain from each other, one for each image is faster than one for all.
        runs = [*groups(places, lambda _: self.spec.batch or (1 if self._useful_runs > 1 else None))]
        results: dict[int, Segments] = {}
        for done in self._map(segment, runs):
            results |= done
        return [results[i] for i in range(len(images))]

    def sends_undecoded(self, image: ImageSource) -> bool:
        """See `Segmenter.sends_undecoded`: always False, as images stay in this process."""
        return False

    def for_stream(self) -> tuple[LocalSegmenter, int]:
        """A segmenter for one stream, and the number of threads to call it from. Do not close it.

        The threads take turns to run the network, as many at once as gain from it. Meanwhile, other threads read images
        and make masks. This limits the memory to that of the runs that are useful in parallel.
        """
        for_stream = copy(self)
        for_stream._turn = BoundedSemaphore(self._runs_at_once)
        return for_stream, self._runs_at_once + _EXTRA_THREADS

    def close(self) -> None:
        """Close the engine, if this object owns it."""
        if self._owns_engine:
            self.engine.close()

    def _map(
        self, segment: Callable[[list[int]], dict[int, Segments]], runs: list[list[int]]
    ) -> Iterator[dict[int, Segments]]:
        threads = min(self._useful_runs, len(runs))
        if threads <= 1:
            yield from map(segment, runs)
            return
        with ThreadPoolExecutor(threads, "fastsam-batch") as pool:
            yield from pool.map(segment, runs)

    def _run(
        self, group: list[tuple[NDArray[np.uint8], float, Letterbox]]
    ) -> tuple[dict[str, NDArray[Any]], list[dict[str, float]]]:
        """Run the network once for images with the same input shape; returns outputs, and the times of each image."""
        # A model of fixed batch always runs a full batch; rows after those of the group are ignored.
        blob = np.empty((self.spec.batch or len(group), 3, *group[0][2].input_hw), np.float32)
        blob[len(group) :] = 0
        timings = []
        for row, (pixels, load_ms, place) in zip(blob, group, strict=False):
            start = perf_counter()
            letterbox(pixels, place, row)
            timings.append({"load": load_ms, "letterbox": _ms_since(start)})
        with self._turn:
            start = perf_counter()
            raw = self.engine.run(blob)
            engine_ms = _ms_since(start) / len(group)
        for timing in timings:
            timing["engine"] = engine_ms
        return raw, timings


def _hw(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]


def _ms_since(start: float) -> float:
    return (perf_counter() - start) * 1000
