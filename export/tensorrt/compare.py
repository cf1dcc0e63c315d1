"""Does a plan give what ONNX Runtime gives? On photographs, in the shapes that the plan is built for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...runtime.engines.interface import Engine
from ...runtime.engines.tensorrt.plan_file import ShapeRange
from ...runtime.errors import FastSamError
from ...runtime.measure.fidelity import Fidelity, ImageFidelity, compare
from ...runtime.settings import Thresholds
from ...runtime.spec import ModelSpec
from ...runtime.stages.letterbox import fit, letterbox
from ...runtime.stages.postprocess import postprocess
from ..errors import ExportError
from ..proof.findings import Finding
from ..proof.inputs import Batch

Array = NDArray[np.float32]

_CONF, _IOU, _MAX_DET = 0.25, 0.9, 100
_MARGIN = 0.05
"""A detection whose score is so near the threshold may be there or not; it does not count as missing."""


@dataclass(frozen=True)
class Limits:
    """The largest difference allowed. None: not looked at, because rounding of that size is meant.

    Attributes:
        boxes_px: centre and size, pixels of the network input, of anchors with a score above 0.05.
        scores: absolute, of every anchor.
        shares: of coefficients and prototypes, as a share of the largest one.
        mask_iou_mean: of the masks of the same detections; here more is better.
        unmatched: detections without a partner, as a share of the reference's. Two boxes that overlap by just the
            threshold of NMS may both be there or not, and so may one whose score is at the confidence threshold.
    """

    boxes_px: float | None
    scores: float | None
    shares: float | None
    mask_iou_mean: float
    unmatched: float


# The first as wide as an FP32 network of another library needs (other order of sums, Winograd); the second as in the
# ONNX export; the third by what a mask may lose. None of them was met by a real TensorRT yet (docs/adr/0010).
LIMITS = {
    "fp32": Limits(0.1, 5e-4, 5e-4, 0.998, 0.02),
    "fp16": Limits(1.5, 2e-2, 1.5e-2, 0.98, 0.03),
    "int8": Limits(None, None, None, 0.95, 0.05),
}


def compare_engines(
    plan: Engine,
    reference: Engine,
    profiles: Sequence[ShapeRange],
    photographs: Sequence[NDArray[np.uint8]],
    limits: Limits,
    step: Callable[[str], None] = lambda _: None,
) -> tuple[Finding, ...]:
    """Run both on the same inputs.

    Args:
        plan, reference: of the same network; the reference takes every shape that the plan takes.
        photographs: RGB uint8 (h, w, 3), at least one.
        step: told what is being done.

    Raises:
        ExportError: with the numbers of every comparison that failed.
    """
    worst: dict[str, tuple[float, str]] = {}
    images: list[ImageFidelity] = []
    inputs = list(_inputs(profiles, photographs))
    for i, batch in enumerate(inputs):
        step(f"comparing with ONNX Runtime, input {i + 1} of {len(inputs)}")
        at = f"input {batch.images.shape}"
        found, expected = plan.run(batch.images), reference.run(batch.images)
        _check_sound(found, expected, at)
        if reference.spec.layout == "raw" and limits.scores is not None:
            for what, value in _differences(found, expected, reference.spec):
                if what not in worst or not value <= worst[what][0]:
                    worst[what] = value, at
        images += _images(found, expected, batch, reference.spec)
    findings = (*_tensor_findings(worst, limits), *_mask_findings(Fidelity(tuple(images)), limits))
    failed = [str(finding) for finding in findings if not finding.passed]
    if failed:
        raise ExportError(f"the plan does not give what ONNX Runtime gives: {'; '.join(failed)}")
    return findings


def _inputs(profiles: Sequence[ShapeRange], photographs: Sequence[NDArray[np.uint8]]) -> Iterator[Batch]:
    """Every profile at its best size: each photograph in the smallest batch, and the largest batch once."""
    for shapes in profiles:
        for size, count in ((shapes.min[0], len(photographs)), (shapes.max[0], 1)):
            for first in range(0, count * size, size):
                taken = [photographs[(first + i) % len(photographs)] for i in range(size)]
                places = tuple(fit(photo.shape[:2], shapes.opt[2:]) for photo in taken)  # type: ignore[arg-type]
                images = np.stack([letterbox(photo, place) for photo, place in zip(taken, places, strict=True)])
                yield Batch(images, places)
            if shapes.min[0] == shapes.max[0]:
                break


def _check_sound(found: dict[str, NDArray[np.generic]], expected: dict[str, NDArray[np.generic]], at: str) -> None:
    for name, value in expected.items():
        if found[name].shape != value.shape or found[name].dtype != value.dtype:
            raise ExportError(
                f"{name} at {at}: the plan gives {found[name].dtype} {found[name].shape}, "
                f"ONNX Runtime {value.dtype} {value.shape}"
            )
        bad = np.count_nonzero(~np.isfinite(np.asarray(found[name], np.float32)))
        if bad:
            raise ExportError(
                f"{name} at {at}: the plan gives {bad} values that are NaN or infinite; try --precision fp32"
            )


def _differences(
    found: dict[str, NDArray[np.generic]], expected: dict[str, NDArray[np.generic]], spec: ModelSpec
) -> Iterator[tuple[str, float]]:
    detections, reference = (np.asarray(side["detections"], np.float32) for side in (found, expected))
    prototypes, true_prototypes = (np.asarray(side["prototypes"], np.float32) for side in (found, expected))
    first = 4 + spec.class_count
    off = np.abs(detections - reference)
    counted = reference[:, 4:first].max(1) >= _MARGIN
    yield "boxes (px)", float(off[:, :4].max(1)[counted].max(initial=0))
    yield "scores", float(off[:, 4:first].max())
    yield "coefficients (share)", float(off[:, first:].max()) / _largest(reference[:, first:])
    yield "prototypes (share)", float(np.abs(prototypes - true_prototypes).max()) / _largest(true_prototypes)


def _largest(values: Array) -> float:
    return max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny))


def _images(
    found: dict[str, NDArray[np.generic]], expected: dict[str, NDArray[np.generic]], batch: Batch, spec: ModelSpec
) -> Iterator[ImageFidelity]:
    baked = spec.suppression
    thresholds = Thresholds(_CONF, baked.iou if baked else _IOU, min(baked.max_det, _MAX_DET) if baked else _MAX_DET)
    for i, place in enumerate(batch.places):
        try:
            one, other = (
                postprocess(side["detections"][i], side["prototypes"][i], place, spec, thresholds)
                for side in (expected, found)
            )
        except FastSamError as error:
            raise ExportError(f"image {i} of input {batch.images.shape}: {error}") from error
        yield compare(one, other)


def _tensor_findings(worst: dict[str, tuple[float, str]], limits: Limits) -> Iterator[Finding]:
    for what, (value, at) in worst.items():
        limit = {"boxes (px)": limits.boxes_px, "scores": limits.scores}.get(what, limits.shares)
        if limit is not None:
            yield Finding(what, value, limit, at)


def _mask_findings(masks: Fidelity, limits: Limits) -> Iterator[Finding]:
    at = f"{masks.reference_count} masks"
    if masks.matched_count:
        yield Finding("mask IoU, mean", masks.mean_iou, limits.mask_iou_mean, at, more_is_better=True)
    # Otherwise a plan that finds nothing would have no mask to be wrong.
    for what, scores in (("missing", "missed_scores"), ("additional", "extra_scores")):
        sure = sum(np.count_nonzero(getattr(image, scores) > _CONF + _MARGIN) for image in masks.images)
        share = sure / max(masks.reference_count, 1)
        yield Finding(f"{what} detections (share)", share, limits.unmatched, at)
