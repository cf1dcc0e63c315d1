"""Does a plan give what ONNX Runtime gives? On photographs, in the shapes that the plan is built for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.engines.interface import Engine
from ...runtime.engines.tensorrt.record import ShapeRange
from ...runtime.errors import FastSamError
from ...runtime.measure.fidelity import Fidelity, ImageFidelity, compare
from ...runtime.measure.findings import Comparison, Finding, failures
from ...runtime.settings import Thresholds
from ...runtime.spec import ModelSpec
from ...runtime.stages.decode import Detections, decode
from ...runtime.stages.letterbox import Letterbox, fit, letterbox
from ...runtime.stages.postprocess import postprocess
from ..errors import ExportError
from ..proof.inputs import Batch
from ..proof.outputs import (
    OutputLimits,
    RowTolerance,
    check_counts,
    compare_prototypes,
    compare_raw,
    count_alike,
    malformed,
    raw_spec,
    run_to_raw,
)

Outputs = Mapping[str, NDArray[Any]]

_SHOWN = Thresholds(0.25, 0.9, 100)
"""Detections whose masks are compared."""

_MARGIN = 0.05
"""A detection whose score is so near the threshold may be there or not; it does not count as missing."""

_ALL_ROWS = Thresholds(_MARGIN, 0.9, 10_000)
"""Detections of a graph with NMS inside whose numbers are compared."""


@dataclass(frozen=True)
class EngineLimits:
    """The largest difference allowed between a plan and its ONNX file.

    Attributes:
        outputs: of the tensors. In INT8 single boxes may move far, so they are judged by the masks and not one by one.
        same_box_px: where NMS is in the graph, two detections are the same if the edges of their boxes differ by no
            more than this, pixels of the network input.
        mask_iou_mean: of the masks of the same detections; here more is better.
        unmatched: detections without a partner, as a share of the reference's. Two boxes that overlap by just the
            threshold of NMS may both remain or not, and so may one whose score is at the confidence threshold.

    Example:
        >>> LIMITS["fp16"].mask_iou_mean
        0.98
    """

    outputs: OutputLimits
    same_box_px: float
    mask_iou_mean: float
    unmatched: float

    def tensors_suffice(self, layout: str) -> bool:
        """Do the tensors alone prove a plan equal, even where nothing is detected?

        Those of a graph with NMS do not, as they are empty then; nor do those that may differ as much as in INT8.

        Args:
            layout: of the ONNX file, see `ModelSpec`.

        Example:
            >>> LIMITS["fp32"].tensors_suffice("raw"), LIMITS["int8"].tensors_suffice("raw")
            (True, False)
        """
        return layout == "raw" and self.outputs.boxes_px is not None


# FP32 is as wide as a network in another library needs (other order of sums, Winograd), FP16 as wide as in the ONNX
# export. INT8 allows what a mask may lose, and for the tensors three times what was seen with the demo model in
# INT8: scores off by 0.08, coefficients and prototypes by 0.17 of the largest, 98 % of the detections within 16 pixels.
# None of them has been tried with a real TensorRT yet (docs/adr/0010).
LIMITS = {
    "fp32": EngineLimits(OutputLimits(0.1, _MARGIN, 5e-4, 5e-4, 5e-4), 0.1, 0.998, 0.02),
    "fp16": EngineLimits(OutputLimits(1.5, _MARGIN, 2e-2, 1.5e-2, 1.5e-2), 1.5, 0.98, 0.03),
    "int8": EngineLimits(OutputLimits(None, _MARGIN, 0.25, 0.5, 0.5), 16, 0.95, 0.05),
}


def compare_engines(
    plan: Engine,
    reference: Engine,
    profiles: Sequence[ShapeRange],
    photographs: Sequence[NDArray[np.uint8]],
    limits: EngineLimits,
    step: Callable[[str], None] = lambda _: None,
) -> tuple[Finding, ...]:
    """Compare a plan with its ONNX file on the same inputs.

    Args:
        plan, reference: of the same network; the reference accepts every shape that the plan accepts.
        profiles: input shapes of the plan.
        photographs: RGB uint8 (h, w, 3), at least one.
        limits: one of `LIMITS`.
        step: called with a description of each step.

    Raises:
        ExportError: with the numbers of every comparison that failed; or the reference detects nothing, and the
            tensors alone do not prove the plan equal.

    Example:
        >>> findings = compare_engines(plan, reference, profiles, load_photographs(), LIMITS["fp16"])  # doctest: +SKIP
    """
    comparison = _PlanComparison(raw_spec(reference.spec), limits)
    inputs = list(_inputs(profiles, photographs))
    for i, batch in enumerate(inputs):
        step(f"comparing with ONNX Runtime, input {i + 1} of {len(inputs)}")
        comparison.add(run_to_raw(plan, batch.images), run_to_raw(reference, batch.images), batch)
    findings = comparison.findings()
    if failed := failures(findings):
        raise ExportError(f"the plan does not give what ONNX Runtime gives: {'; '.join(failed)}")
    return findings


def _inputs(profiles: Sequence[ShapeRange], photographs: Sequence[NDArray[np.uint8]]) -> Iterator[Batch]:
    """Every profile at its optimal size: each photograph in the smallest batch, and the largest batch once."""
    for shapes in profiles:
        for size, count in ((shapes.min[0], len(photographs)), (shapes.max[0], 1)):
            for first in range(0, count * size, size):
                chosen = [photographs[(first + i) % len(photographs)] for i in range(size)]
                places = tuple(fit(photo.shape[:2], shapes.opt[2:]) for photo in chosen)  # type: ignore[arg-type]
                images = np.stack([letterbox(photo, place) for photo, place in zip(chosen, places, strict=True)])
                yield Batch(images, places)
            if shapes.min[0] == shapes.max[0]:
                break


@dataclass
class _PlanComparison:
    """What is compared between the plan and the reference, over all inputs.

    Attributes:
        spec: of the reference.
        tensors: how far off they are.
        images: agreement of the segments of each image.
        confident: detections of the reference whose score is well above the threshold.
        rows, alike: detections of both, and how many of them the other one has too; where NMS is in the graph.
    """

    spec: ModelSpec
    limits: EngineLimits
    tensors: Comparison = field(default_factory=Comparison)
    images: list[ImageFidelity] = field(default_factory=list)
    confident: int = 0
    rows: int = 0
    alike: int = 0

    @property
    def conf(self) -> float:
        """Detections with a score above it are compared."""
        return self._served(_SHOWN).conf

    def _served(self, thresholds: Thresholds) -> Thresholds:
        suppression = self.spec.suppression
        return suppression.nearest(thresholds) if suppression else thresholds

    def add(self, outputs: Outputs, expected: Outputs, batch: Batch) -> None:
        """Compare the outputs for one input.

        Raises:
            ExportError: a tensor has another shape or type, or holds NaN or infinity.
        """
        at = f"input {batch.images.shape}"
        for name, tensor in expected.items():
            if problem := malformed(outputs[name], tensor):
                raise ExportError(f"{name} of the plan at {at}: {problem}; try --precision fp32")
        if problem := check_counts(outputs):
            raise ExportError(f"the plan {problem} at {at}; report it, and export the model without --nms")
        tensors = {name: np.asarray(outputs[name], np.float32) for name in ("detections", "prototypes")}
        true = {name: np.asarray(expected[name], np.float32) for name in tensors}
        compare_prototypes(tensors["prototypes"], true["prototypes"], self.tensors, at)
        if self.spec.layout == "raw":
            classes = self.spec.class_count
            compare_raw(tensors["detections"], true["detections"], classes, self.limits.outputs, self.tensors, at)
        for i, place in enumerate(batch.places):
            try:
                self._add_image(outputs, expected, i, place)
            except FastSamError as error:
                raise ExportError(f"image {i} of {at}: {error}") from error

    def _add_image(self, outputs: Outputs, expected: Outputs, i: int, place: Letterbox) -> None:
        segments, true_segments = (
            postprocess(side["detections"][i], side["prototypes"][i], place, self.spec, self._served(_SHOWN))
            for side in (outputs, expected)
        )
        self.images.append(compare(true_segments, segments))
        self.confident += int(np.count_nonzero(true_segments.scores > self.conf + _MARGIN))
        if self.spec.layout != "raw":
            detections, true = (
                decode(side["detections"][i], self.spec, self._served(_ALL_ROWS)) for side in (outputs, expected)
            )
            self.rows += len(detections.scores) + len(true.scores)
            self.alike += self._alike(detections, true)

    def _alike(self, detections: Detections, true: Detections) -> int:
        """Detections of either that the other has too."""
        limits = self.limits
        largest = float(np.abs(true.coefficients).max(initial=0))
        tolerance = RowTolerance(limits.same_box_px, limits.outputs.scores, limits.outputs.coefficients * largest)
        return count_alike(true, detections, tolerance) + count_alike(detections, true, tolerance)

    def findings(self) -> tuple[Finding, ...]:
        """One finding for each quantity that was compared.

        Raises:
            ExportError: nothing was detected, so that a plan that never detects anything would pass.
        """
        if not self.confident and not self.limits.tensors_suffice(self.spec.layout):
            raise ExportError(
                f"ONNX Runtime detects nothing above a score of {self.conf + _MARGIN:g} in {len(self.images)} images, "
                "expected at least one detection; give other photographs with --images"
            )
        return (*self.tensors.findings(self.limits.outputs.by_quantity()), *self._detection_findings())

    def _detection_findings(self) -> Iterator[Finding]:
        fidelity = Fidelity(tuple(self.images))
        at = f"all inputs ({fidelity.reference_count} masks)"
        if self.rows:
            lowest = 1 - self.limits.unmatched
            yield Finding("same detections (share)", self.alike / self.rows, lowest, "all inputs", more_is_better=True)
        if fidelity.matched_count or self.confident:
            yield Finding("mask IoU, mean", fidelity.mean_iou, self.limits.mask_iou_mean, at, more_is_better=True)
        # Without these a plan that detects nothing would have no mask that could be wrong.
        for what, scores in (("missing", "missed_scores"), ("additional", "extra_scores")):
            sure = sum(np.count_nonzero(getattr(image, scores) > self.conf + _MARGIN) for image in self.images)
            share = sure / max(fidelity.reference_count, 1)
            yield Finding(f"{what} detections (share)", share, self.limits.unmatched, at)
