"""Images → segments with a network that runs in this process."""

from __future__ import annotations

from collections.abc import Sequence
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
from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..spec import ModelSpec, imgsz_for
from ..stages.image import ImageSource, load_images
from ..stages.letterbox import Letterbox, fit_model, groups, letterbox
from ..stages.postprocess import postprocess

_BESIDE_THE_NETWORK = 2
"""Threads of a stream that read an image or make masks while others have the network."""


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
        runs_at_once: int | None = None,
    ) -> None:
        """
        Args:
            imgsz: longest side of the network's input; None: the model's own.
            rect: input is the smallest rectangle round the image; False: a square.
            owns_engine: close the engine with this.
            clip: what text prompts ask; stays the caller's to close.
            runs_at_once: how many runs of the network a stream has under way; None: what the engine says is best.

        Raises:
            ParameterError: imgsz does not fit the model.
        """
        self.engine = engine
        self.spec: ModelSpec = engine.spec
        self.device = engine.device
        self.description: dict[str, Any] = engine.description
        self._owns_engine = owns_engine
        self._clip = clip
        self.rect = rect
        self._runs_at_once: int = runs_at_once or engine.description.get("streams", 1)
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
        """See `FastSAM.segment_batch`; thresholds are one for each image."""
        loaded = load_images(images, color)
        places = [fit_model(_hw(pixels), self.spec, self.imgsz, self.rect) for pixels, _ in loaded]
        results: dict[int, Segments] = {}
        for group in groups(places, lambda _: self.spec.batch):
            raw, timings = self._run([(*loaded[i], places[i]) for i in group])
            for row, (i, timing) in enumerate(zip(group, timings, strict=True)):
                outputs = raw["detections"][row], raw["prototypes"][row]
                segments = postprocess(*outputs, places[i], self.spec, thresholds[i], timing)
                if self._clip is not None:
                    segments = replace(segments, features=MaskFeatures(loaded[i][0], self._clip))
                start = perf_counter()
                results[i] = segments if prompt is None else segments.select(prompt)
                timing["prompt"] = _ms_since(start)
        return [results[i] for i in range(len(images))]

    def sends_undecoded(self, image: ImageSource) -> bool:
        """See `Segmenter.sends_undecoded`: it stays in this process."""
        return False

    def for_stream(self) -> tuple[LocalSegmenter, int]:
        """The same for one stream, and how many threads should call it.

        They take turns at the network, which uses all processors for one run: images are read and masks made for others
        meanwhile, and no more memory is taken than for as many runs as are of use. Not to be closed.
        """
        taking_turns = copy(self)
        taking_turns._turn = BoundedSemaphore(self._runs_at_once)
        return taking_turns, self._runs_at_once + _BESIDE_THE_NETWORK

    def close(self) -> None:
        """Free the engine, if it is this one's own."""
        if self._owns_engine:
            self.engine.close()

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
