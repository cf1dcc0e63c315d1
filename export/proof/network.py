"""Is an exported file equal to its checkpoint? Compared on photographs, in the unit of each output.

The reference is the checkpoint as loaded: eval mode, FP32, not fused, its head not in export mode. So an error of
fusing, of tracing, of a graph pass or of the file itself shows up here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime.engines import open_engine
from ...runtime.errors import FastSamError
from ...runtime.masks.overlap import mask_iou
from ...runtime.masks.store import Masks
from ...runtime.settings import Thresholds
from ...runtime.spec import ModelSpec
from ...runtime.stages.assemble import assemble
from ...runtime.stages.decode import decode
from ...runtime.stages.letterbox import Letterbox
from ..checkpoint.load import Checkpoint
from ..errors import ExportError
from .findings import Finding
from .inputs import Batch, batches_for

_CONF, _IOU, _MAX_DET = 0.25, 0.9, 100
_BEST = 20  # masks compared on a photograph in which nothing is above _CONF

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Tolerances:
    """The largest difference allowed, each in its own unit.

    Attributes:
        boxes_px: centre and size, pixels of the network input.
        boxes_from_score: only boxes with at least this score count (the others are never looked at).
        scores: absolute, of every anchor.
        coefficients, prototypes: shares of the largest one of the checkpoint.
        mask_iou_min, mask_iou_mean: of the masks of the same detections; here more is better.
        mask_iou_from_px: the least counts masks of at least so many pixels: in FP16 a mask of three may lose two.
    """

    boxes_px: float
    boxes_from_score: float
    scores: float
    coefficients: float
    prototypes: float
    mask_iou_min: float
    mask_iou_mean: float
    mask_iou_from_px: int


# Seen: 1e-3 px, scores 1e-6 and shares 2e-6 with the demo model; scores 6e-6 and shares 5e-6 with a random network
# of size x, which is what FP32 itself is off from FP64 there. A trained network of size x may be somewhat worse.
FP32 = Tolerances(0.05, 0.0, 1e-4, 1e-4, 1e-4, 0.99, 0.999, 0)
# Seen: 0.5 px, scores 3e-3, shares 3e-3, least IoU 0.94, mean 0.999 with the demo model; scores 8e-3, shares 5e-3,
# least IoU 0.75, mean 0.990 with random networks, whose masks have long thin edges.
FP16 = Tolerances(1.5, 0.05, 2e-2, 1.5e-2, 1.5e-2, 0.5, 0.98, 100)


@dataclass(frozen=True)
class Proof:
    """What was compared and found equal.

    Attributes:
        path: the file.
        spec: what the file says of itself.
        findings: one for each comparison.
        shapes: of the inputs that were run.
        detections: found by the checkpoint in all photographs.
        detections_exported: found by the file; may differ where a score is at the threshold.
    """

    path: Path
    spec: ModelSpec
    findings: tuple[Finding, ...]
    shapes: tuple[tuple[int, ...], ...]
    detections: int
    detections_exported: int


@dataclass
class _Comparison:
    """Collects the worst of everything; failures that are not a number go to `broken`."""

    worst: dict[str, tuple[float, str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    ious: list[tuple[float, int]] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)

    def add(self, what: str, value: float, at: str) -> None:
        if what not in self.worst or not value <= self.worst[what][0]:
            self.worst[what] = (value, at)


def validate(
    path: Path,
    source: Checkpoint,
    spec: ModelSpec,
    photographs: Sequence[NDArray[np.uint8]],
    tolerances: Tolerances,
    step: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Compare the ONNX file at `path` with the checkpoint it was made from.

    Args:
        spec: what the file must say of itself.
        photographs: RGB uint8 (h, w, 3), at least one.
        step: told what is being done.

    Raises:
        ExportError: with the numbers of every comparison that failed.
    """
    batches = batches_for(spec, photographs)
    seen = _Comparison()
    try:
        with closing(open_engine(path)) as engine:
            seen.broken += _differences(spec, engine.spec)
            for i, batch in enumerate(batches if not seen.broken else ()):
                step(f"comparing, input {i + 1} of {len(batches)}")
                _compare(engine.run(batch.images), source.run(batch.images), batch, spec, tolerances, seen)
    except FastSamError as error:
        seen.broken.append(f"our runtime does not take it: {error}")
    findings = _findings(seen, tolerances)
    failed = [*seen.broken, *(str(finding) for finding in findings if not finding.passed)]
    if failed:
        raise ExportError(
            f"the file is not equal to {source.path.name}: {'; '.join(failed)}. Nothing was written; try "
            f"{'FP32' if spec.precision != 'fp32' else 'the other exporter'}, and report it if that fails too"
        )
    before, after = np.sum(seen.counts, axis=0).tolist()
    return Proof(path, spec, findings, tuple(batch.images.shape for batch in batches), before, after)


def _differences(expected: ModelSpec, found: ModelSpec) -> list[str]:
    """Names, axes, dtypes and metadata: fields of the spec as the file has it and as it should be."""
    return [
        f"{f.name} is {getattr(found, f.name)!r}, expected {getattr(expected, f.name)!r}"
        for f in fields(ModelSpec)
        if getattr(found, f.name) != getattr(expected, f.name)
    ]


def _compare(
    found: dict[str, NDArray[np.generic]],
    reference: tuple[Array, Array],
    batch: Batch,
    spec: ModelSpec,
    tolerances: Tolerances,
    seen: _Comparison,
) -> None:
    at = f"input {batch.images.shape}"
    expected = dict(zip(("detections", "prototypes"), reference, strict=True))
    sound = True
    for name, value in expected.items():
        problem = _malformed(found[name], value)
        if problem:
            seen.broken.append(f"{name} {problem} at {at}")
            sound = False
    if not sound:
        return
    detections, prototypes = (np.asarray(found[name], np.float32) for name in expected)
    _compare_values(detections, prototypes, reference, spec, tolerances, seen, at)
    for i, place in enumerate(batch.places):
        one = (detections[i], prototypes[i])
        _compare_masks(one, (reference[0][i], reference[1][i]), place, spec, seen, at)


def _malformed(found: NDArray[np.generic], expected: Array) -> str | None:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"are {found.dtype} {found.shape}, the checkpoint has {expected.dtype} {expected.shape}"
    bad = np.count_nonzero(~np.isfinite(np.asarray(found, np.float32)))
    return f"hold {bad} values that are NaN or infinite" if bad else None


def _compare_values(
    detections: Array,
    prototypes: Array,
    reference: tuple[Array, Array],
    spec: ModelSpec,
    tolerances: Tolerances,
    seen: _Comparison,
    at: str,
) -> None:
    first = 4 + spec.class_count
    off = np.abs(detections - reference[0])
    counted = reference[0][:, 4:first].max(1) >= tolerances.boxes_from_score  # (b, anchors)
    boxes = off[:, :4].max(1)[counted]
    seen.add("boxes (px)", float(boxes.max(initial=0)), at)
    seen.add("scores", float(off[:, 4:first].max()), at)
    seen.add("coefficients (share)", float(off[:, first:].max() / _largest(reference[0][:, first:])), at)
    seen.add("prototypes (share)", float(np.abs(prototypes - reference[1]).max() / _largest(reference[1])), at)


def _largest(values: Array) -> float:
    return max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny))


def _compare_masks(
    found: tuple[Array, Array], reference: tuple[Array, Array], place: Letterbox, spec: ModelSpec, seen: _Comparison,
    at: str,
) -> None:  # fmt: skip
    """Boxes and masks in the photograph, of the detections that the checkpoint makes there."""
    anchors = _kept_anchors(reference[0], spec, _CONF, _MAX_DET)
    exported = _kept_anchors(found[0], spec, _CONF, _MAX_DET)
    seen.counts.append((len(anchors), len(exported)))
    if not len(anchors):
        anchors = _kept_anchors(reference[0], spec, 0, _BEST)
    (boxes, masks), (true_boxes, true_masks) = (
        _boxes_and_masks(detections, prototypes, anchors, place, spec) for detections, prototypes in (found, reference)
    )
    scale = max(place.scale_xy)  # pixels of the network input, so that one limit serves photographs of any size
    seen.add("boxes of detections (px)", float(np.abs(boxes - true_boxes).max(initial=0)) * scale, at)
    seen.ious += [(mask_iou(masks, i, true_masks, i), int(true_masks.areas[i])) for i in range(len(anchors))]


def _kept_anchors(detections: Array, spec: ModelSpec, conf: float, max_det: int) -> NDArray[np.int64]:
    """Anchors that survive the runtime's confidence cut and NMS: they ride along as one more coefficient."""
    numbered = np.concatenate((detections, np.arange(detections.shape[1], dtype=np.float32)[None]))
    return decode(numbered, spec, Thresholds(conf, _IOU, max_det)).coefficients[:, -1].astype(np.int64)


def _boxes_and_masks(
    detections: Array, prototypes: Array, anchors: NDArray[np.int64], place: Letterbox, spec: ModelSpec
) -> tuple[Array, Masks]:
    centre, half = detections[:2, anchors].T, detections[2:4, anchors].T / 2
    boxes = place.boxes_to_image(np.concatenate((centre - half, centre + half), axis=1))
    return boxes, assemble(detections[4 + spec.class_count :, anchors].T, prototypes, boxes, place)


def _findings(seen: _Comparison, tolerances: Tolerances) -> tuple[Finding, ...]:
    limits = {
        "boxes (px)": tolerances.boxes_px,
        "scores": tolerances.scores,
        "coefficients (share)": tolerances.coefficients,
        "prototypes (share)": tolerances.prototypes,
        "boxes of detections (px)": tolerances.boxes_px,
    }
    found = [Finding(what, *seen.worst[what][:1], limit, seen.worst[what][1]) for what, limit in limits.items()
             if what in seen.worst]  # fmt: skip
    if seen.ious:
        sure = [iou for iou, area in seen.ious if area >= tolerances.mask_iou_from_px]
        mean = float(np.mean([iou for iou, _ in seen.ious]))
        least = ("mask IoU, least", min(sure, default=1.0), tolerances.mask_iou_min, f"{len(sure)} masks")
        found.append(Finding(*least, more_is_better=True))
        at = f"{len(seen.ious)} masks"
        found.append(Finding("mask IoU, mean", mean, tolerances.mask_iou_mean, at, more_is_better=True))
    return tuple(found)
