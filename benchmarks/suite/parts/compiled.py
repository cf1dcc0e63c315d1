"""Part "compiled": the stages around the network in compiled code and in NumPy, in turn, in one process.

The network runs once for an image; its outputs are then handed to both. NumPy has BLAS's threads, compiled code one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from fastsam_deploy.runtime import FastSAM, Segments, Thresholds
from fastsam_deploy.runtime.native.library import VARIABLE, library, state
from fastsam_deploy.runtime.stages.letterbox import fit_model, letterbox
from fastsam_deploy.runtime.stages.postprocess import postprocess

from ..records import Record, Settings, megapixels, photograph_sizes
from ..workers import Contender

COMPILED = Contender("ours_compiled", "compiled", "compiled", True, threads=1)
NUMPY = Contender("ours_numpy", "NumPy", "numpy", True)
MEGAPIXELS = (0.65, 3.0, 24.0)
CONFIDENCES = (0.25, 0.01)
RLE_MASKS = 100
RUNS = 15

T = TypeVar("T")


def measure(settings: Settings) -> Record:
    """Rows: case {image, megapixels, conf}, "masks", "box_pixels"; milliseconds by the clock and, as "cpu_…", of
    processor time. Ratios of NumPy over the compiled code.
    """
    record = Record()
    if library() is None:
        record.skip(COMPILED.name, state())
        return record
    images = photograph_sizes(settings.photographs, settings.megapixels(MEGAPIXELS), 1 if settings.quick else None)
    with FastSAM(imgsz=settings.imgsz) as model:
        for label, image in images.items():
            for conf in CONFIDENCES:
                _measure(settings, record, model, label, image, conf)
    return record


def _measure(settings: Settings, record: Record, model: FastSAM, label: str, image: np.ndarray, conf: float) -> None:
    place = fit_model(image.shape[:2], model.spec, settings.imgsz)
    blob = np.empty((1, 3, *place.input_hw), np.float32)
    raw = model._segmenter.engine.run(letterbox(image, place, blob[0])[None])
    outputs = raw["detections"][0], raw["prototypes"][0]

    def segments() -> Segments:
        return postprocess(*outputs, place, model.spec, Thresholds(conf))

    answers = {one.name: _with(one, segments) for one in (NUMPY, COMPILED)}
    if answers[NUMPY.name].masks != answers[COMPILED.name].masks:
        sys.exit(f"{label}: the masks of the compiled code are not those of NumPy; nothing was timed")
    masks = answers[COMPILED.name].masks
    stages: dict[str, Callable[[], object]] = {
        "before": lambda: letterbox(image, place, blob[0]),
        "after": segments,
        "rle": masks[:RLE_MASKS].rle,
    }
    times: dict[str, list[dict[str, float]]] = {NUMPY.name: [], COMPILED.name: []}
    for run in range(settings.runs(RUNS)):
        for one in (NUMPY, COMPILED)[:: -1 if run % 2 else 1]:
            times[one.name].append(_with(one, lambda: _timed(stages)))
    case = {"image": label, "megapixels": megapixels(image), "conf": conf}
    for one in (COMPILED, NUMPY):
        more = {"masks": len(masks), "box_pixels": int(masks.sizes_wh.prod(1).sum())}
        record.row(one, case, times[one.name], **more)
    pairs = list(zip(times[NUMPY.name], times[COMPILED.name], strict=True))
    record.ratio(case, NUMPY, COMPILED, {key: [a[key] / b[key] for a, b in pairs] for key in times[NUMPY.name][0]})


def _with(one: Contender, work: Callable[[], T]) -> T:
    """Work with the code of this contender."""
    chosen = os.environ.pop(VARIABLE, "")
    os.environ[VARIABLE] = "0" if one is NUMPY else chosen
    try:
        return work()
    finally:
        os.environ[VARIABLE] = chosen


def _timed(stages: dict[str, Callable[[], object]]) -> dict[str, float]:
    times: dict[str, float] = {}
    for name, work in stages.items():
        start, cpu_start = time.perf_counter(), time.process_time()
        work()
        times[name] = (time.perf_counter() - start) * 1000
        times[f"cpu_{name}"] = (time.process_time() - cpu_start) * 1000
    return times
