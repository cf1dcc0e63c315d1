"""Is an exported file equal to its checkpoint? Compared on photographs, in the unit of each output.

The reference is the checkpoint as loaded: eval mode, FP32, not fused, its head not in export mode. So an error made
by fusing, by tracing, by a graph pass or in the file itself shows up here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...runtime.engines import open_engine
from ...runtime.errors import FastSamError
from ...runtime.masks.overlap import mask_iou
from ...runtime.masks.store import Masks
from ...runtime.measure.findings import Comparison, Finding, failures
from ...runtime.settings import Thresholds
from ...runtime.spec import ModelSpec
from ...runtime.stages.assemble import assemble
from ...runtime.stages.decode import decode
from ...runtime.stages.letterbox import Letterbox
from ..errors import ExportError
from .inputs import Batch, batches_for
from .outputs import BEST, Array, OutputLimits, compare_prototypes, compare_raw, malformed, raw_spec, run_to_raw

_SHOWN = Thresholds(0.25, 0.9, 100)
"""Detections whose masks are compared."""

_BEST = Thresholds(0, 0.9, BEST)
"""Those of a photograph in which nothing reaches the first."""

_DETECTED_BOXES, _LEAST_IOU, _MEAN_IOU = "boxes of detections (px)", "mask IoU, least", "mask IoU, mean"


@dataclass(frozen=True)
class NetworkLimits:
    """The largest difference allowed between an exported file and its checkpoint.

    Attributes:
        outputs: of the tensors; that of the boxes also holds for the boxes of detections.
        mask_iou_min, mask_iou_mean: of the masks of the same detections; here more is better.
        mask_iou_from_px: the least IoU is of masks with at least so many pixels: in FP16 a mask of three may lose two.

    Example:
        >>> FP32.outputs.scores, FP16.outputs.scores
        (0.0001, 0.02)
    """

    outputs: OutputLimits
    mask_iou_min: float
    mask_iou_mean: float
    mask_iou_from_px: int

    def by_quantity(self) -> dict[str, float | None]:
        """Quantity → limit, for `Comparison.findings`.

        Example:
            >>> list(FP32.by_quantity())[-2:]
            ['mask IoU, least', 'mask IoU, mean']
        """
        masks = {_LEAST_IOU: self.mask_iou_min, _MEAN_IOU: self.mask_iou_mean}
        return {**self.outputs.by_quantity(), _DETECTED_BOXES: self.outputs.boxes_px, **masks}


# Seen: 1e-3 px, scores 1e-6 and shares 2e-6 with the demo model; scores 6e-6 and shares 5e-6 with a random network
# of size x, which is what FP32 itself is off from FP64 there. A trained network of size x may be somewhat worse.
FP32 = NetworkLimits(OutputLimits(0.05, 0.0, 1e-4, 1e-4, 1e-4), 0.99, 0.999, 0)
# Seen: 0.5 px, scores 3e-3, shares 3e-3, least IoU 0.94, mean 0.999 with the demo model; scores 8e-3, shares 5e-3,
# least IoU 0.75, mean 0.990 with random networks, whose masks have long thin edges.
FP16 = NetworkLimits(OutputLimits(1.5, 0.05, 2e-2, 1.5e-2, 1.5e-2), 0.5, 0.98, 100)


class Reference(Protocol):
    """A network that a file is compared with: a `Checkpoint`.

    Example:
        >>> reference: Reference = load_checkpoint("FastSAM-s.pt")  # doctest: +SKIP
        >>> detections, prototypes = reference.run(images)  # doctest: +SKIP
    """

    @property
    def path(self) -> Path: ...

    def run(self, images: Array) -> tuple[Array, Array]:
        """Detections and prototypes, see `Checkpoint.run`."""
        ...


@dataclass(frozen=True)
class Proof:
    """What was compared and is equal.

    Attributes:
        path: the file.
        spec: stored in the file.
        findings: one for each quantity; empty where there was nothing to compare with (see `run_alone`).
        shapes: of the inputs that were run.
        detections: made by the checkpoint in all photographs.
        detections_exported: made by the file; may differ where a score is at the threshold.

    Example:
        >>> proof = export_onnx("FastSAM-s.pt", "fastsam-s.onnx")  # doctest: +SKIP
        >>> [finding.what for finding in proof.findings if not finding.passed]  # doctest: +SKIP
        []
    """

    path: Path
    spec: ModelSpec
    findings: tuple[Finding, ...]
    shapes: tuple[tuple[int, ...], ...]
    detections: int
    detections_exported: int


def validate(
    path: Path,
    source: Reference,
    spec: ModelSpec,
    photographs: Sequence[NDArray[np.uint8]],
    limits: NetworkLimits,
    step: Callable[[str], None] = lambda _: None,
    advice: str = "the other exporter",
) -> Proof:
    """Compare the ONNX file at `path` with the network that it was made from.

    Args:
        path: the file.
        source: the checkpoint, or an FP32 file that equals it.
        spec: what the file's metadata must say.
        photographs: RGB uint8 (h, w, 3), at least one.
        limits: `FP32` or `FP16`.
        step: called with a description of each step.
        advice: what to try where an FP32 file is not equal.

    Raises:
        ExportError: with the numbers of every comparison that failed.

    Example:
        >>> source, photographs = load_checkpoint("FastSAM-s.pt"), load_photographs()  # doctest: +SKIP
        >>> proof = validate(Path("fastsam-s.onnx"), source, spec, photographs, FP32)  # doctest: +SKIP
    """
    batches = batches_for(spec, photographs)
    compared = _NetworkComparison(raw_spec(spec), limits)
    try:
        with closing(open_engine(path)) as engine:
            compared.quantities.faults += differences(spec, engine.spec)
            for i, batch in enumerate(batches if not compared.quantities.faults else ()):
                step(f"comparing, input {i + 1} of {len(batches)}")
                compared.add(run_to_raw(engine, batch.images), source.run(batch.images), batch)
    except FastSamError as error:
        compared.quantities.faults.append(f"the runtime cannot open or run it: {error}")
    findings = compared.findings()
    if failed := [*compared.quantities.faults, *failures(findings)]:
        raise ExportError(
            f"the file is not equal to {source.path.name}: {'; '.join(failed)}. Nothing was written; try "
            f"{'FP32' if spec.precision != 'fp32' else advice}, and report it if that fails too"
        )
    before, after = np.sum(compared.counts, axis=0).tolist()
    return Proof(path, spec, findings, tuple(batch.images.shape for batch in batches), before, after)


def differences(expected: ModelSpec, spec: ModelSpec) -> list[str]:
    """Names, axes, dtypes and metadata: fields of the spec as the file has it and as it should be.

    Example:
        >>> differences(ModelSpec(imgsz=640), ModelSpec(imgsz=320))
        ['imgsz is 320, expected 640']
    """
    return [
        f"{f.name} is {getattr(spec, f.name)!r}, expected {getattr(expected, f.name)!r}"
        for f in fields(ModelSpec)
        if getattr(spec, f.name) != getattr(expected, f.name)
    ]


@dataclass
class _NetworkComparison:
    """Everything that is compared between the file and the checkpoint, over all inputs.

    Attributes:
        spec: of the outputs that are compared, in the layout "raw".
        ious: of the masks of the same detections.
        counts: detections of the checkpoint and of the file, in each image.
    """

    spec: ModelSpec
    limits: NetworkLimits
    quantities: Comparison = field(default_factory=Comparison)
    ious: list[float] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)

    def add(self, outputs: Mapping[str, NDArray[np.generic]], reference: tuple[Array, Array], batch: Batch) -> None:
        """Compare the outputs for one input with the checkpoint's detections and prototypes."""
        at = f"input {batch.images.shape}"
        expected = dict(zip(("detections", "prototypes"), reference, strict=True))
        problems = {name: malformed(outputs[name], tensor) for name, tensor in expected.items()}
        self.quantities.faults += [f"{name} at {at}: {problem}" for name, problem in problems.items() if problem]
        if any(problems.values()):
            return
        detections, prototypes = (np.asarray(outputs[name], np.float32) for name in expected)
        compare_raw(detections, reference[0], self.spec.class_count, self.limits.outputs, self.quantities, at)
        compare_prototypes(prototypes, reference[1], self.quantities, at)
        for i, place in enumerate(batch.places):
            self._add_masks((detections[i], prototypes[i]), (reference[0][i], reference[1][i]), place, at)

    def _add_masks(self, image: tuple[Array, Array], reference: tuple[Array, Array], place: Letterbox, at: str) -> None:
        """Boxes and masks in the photograph, of the detections that the checkpoint makes there."""
        spec = self.spec
        anchors = _kept_anchors(reference[0], spec, _SHOWN)
        exported = _kept_anchors(image[0], spec, _SHOWN)
        self.counts.append((len(anchors), len(exported)))
        if not len(anchors):
            anchors = _kept_anchors(reference[0], spec, _BEST)
        (boxes, masks), (true_boxes, true_masks) = (
            _boxes_and_masks(detections, prototypes, anchors, place, spec)
            for detections, prototypes in (image, reference)
        )
        scale = max(place.scale_xy)  # pixels of the network input, so that one limit serves photographs of any size
        self.quantities.add(_DETECTED_BOXES, float(np.abs(boxes - true_boxes).max(initial=0)) * scale, at)
        for i, area in enumerate(true_masks.areas.tolist()):
            self.ious.append(mask_iou(masks, i, true_masks, i))
            if area >= self.limits.mask_iou_from_px:
                self.quantities.add(_LEAST_IOU, self.ious[-1], at, more_is_better=True)

    def findings(self) -> tuple[Finding, ...]:
        """One for each quantity that was compared."""
        if self.ious:
            at = f"all inputs ({len(self.ious)} masks)"
            self.quantities.add(_MEAN_IOU, float(np.mean(self.ious)), at, more_is_better=True)
        return self.quantities.findings(self.limits.by_quantity())


def _kept_anchors(detections: Array, spec: ModelSpec, thresholds: Thresholds) -> NDArray[np.int64]:
    """Anchors that remain after the runtime's confidence cut and NMS; their numbers pass through as a coefficient."""
    numbered = np.concatenate((detections, np.arange(detections.shape[1], dtype=np.float32)[None]))
    return decode(numbered, spec, thresholds).coefficients[:, -1].astype(np.int64)


def _boxes_and_masks(
    detections: Array, prototypes: Array, anchors: NDArray[np.int64], place: Letterbox, spec: ModelSpec
) -> tuple[Array, Masks]:
    centre, half = detections[:2, anchors].T, detections[2:4, anchors].T / 2
    boxes = place.boxes_to_image(np.concatenate((centre - half, centre + half), axis=1))
    return boxes, assemble(detections[4 + spec.class_count :, anchors].T, prototypes, boxes, place)
