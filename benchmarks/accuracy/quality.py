"""What a precision costs on photographs that people have segmented: quality by itself, and beside the FP32 file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_deploy.runtime import FastSAM, Masks, Segments, Thresholds
from fastsam_deploy.runtime.accuracy.bsds import read_ground_truth
from fastsam_deploy.runtime.accuracy.run import judge_image
from fastsam_deploy.runtime.measure.fidelity import fidelity

LIMITS = Thresholds(conf=0.1, iou=0.7, max_det=200)
"""Those of the model card."""

SURE = 0.4
"""Fidelity is that of segments with a score above it."""

SMALLEST = 0.005
"""Share of the image from which a segment that a person drew counts."""


def segments_of(model: Path, images: Sequence[Path], imgsz: int, engine: str | None) -> list[Segments]:
    """Everything in each image."""
    with FastSAM(model, imgsz=imgsz, engine=engine) as opened:
        return [item.result() for item in opened.segment_stream(images, thresholds=LIMITS)]


def mean_best_iou(answers: Sequence[Segments], truths: Sequence[Path]) -> float:
    """Mean over what people drew of the best IoU that a mask has with it.

    Args:
        answers: of each image.
        truths: its `.mat` file.
    """
    best: list[NDArray[np.float64]] = []
    for answer, truth in zip(answers, truths, strict=True):
        best += [best_ious(answer.masks, labels) for labels in read_ground_truth(truth).partitions]
    return float(np.concatenate(best).mean())


def best_ious(masks: Masks, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The best IoU of each region with a mask; regions below `SMALLEST` are left out. (r,) float64.

    Args:
        masks: n masks.
        labels: (h, w), the number of each pixel's region.
    """
    sizes = np.bincount(labels.ravel())
    regions = np.flatnonzero(sizes >= SMALLEST * labels.size)
    best = np.zeros(len(sizes))
    for crop, (x, y), area in zip(masks.crops, masks.corners_xy.tolist(), masks.areas.tolist(), strict=True):
        inside = labels[y : y + crop.shape[0], x : x + crop.shape[1]][crop]
        shared = np.bincount(inside, minlength=len(sizes))
        best = np.maximum(best, shared / (sizes + area - shared))
    return best[regions]


def fidelity_figures(reference: Sequence[Segments], candidate: Sequence[Segments]) -> dict[str, Any]:
    """How close the answers of two files are, at the usual threshold."""
    pairs = [[each[np.flatnonzero(each.scores > SURE)] for each in answers] for answers in (reference, candidate)]
    measured = fidelity(*pairs)
    return {
        "mean_iou": measured.mean_iou,
        "recall": measured.recall(0.5),
        "precision": measured.precision(0.5),
        "quality": measured.quality,
    }


def judging_seconds(truths: Sequence[Path], maps: Sequence[Path], thresholds: int) -> list[float]:
    """Processor time that judging each edge map takes, in seconds. Another load on the machine hardly changes it."""
    seconds = []
    for truth, edges in zip(truths, maps, strict=True):
        start = time.process_time()
        judge_image(truth, edges, thresholds)
        seconds.append(time.process_time() - start)
    return seconds
