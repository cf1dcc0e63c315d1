"""Run a reference and its candidates over images, and check the results against limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError, ParameterError
from ..segments import Segments
from ..stages.image import load_image
from .fidelity import IOUS, Fidelity, ImageFidelity, compare
from .findings import Finding, failures


class Segmenter(Protocol):
    """A model that segments images, such as `FastSAM`.

    Example:
        >>> segmenter: Segmenter = FastSAM()  # doctest: +SKIP
    """

    def segment(self, image: NDArray[np.uint8]) -> Segments:
        """Segments of everything in an image, (h, w, 3) uint8 RGB."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Contender:
    """The reference, or one of the candidates.

    Attributes:
        name: used in reports.
        source: file or address.
        segmenter: open.
        description: the settings behind its answers, plain JSON values. The notes of a report are based on `imgsz`,
            `input`, `checkpoint_sha256` and `class_names`, if present.

    Example:
        >>> Contender("int8", "int8.onnx", FastSAM("int8.onnx"), {"engine": "onnxruntime"})  # doctest: +SKIP
    """

    name: str
    source: str
    segmenter: Segmenter
    description: Mapping[str, Any]


@dataclass(frozen=True)
class FidelityLimits:
    """The limits that a candidate has to meet. None: not checked.

    Attributes:
        recall, precision: smallest values allowed, at a mask IoU of `at_iou`.
        mean_iou: smallest mean IoU of the matched masks.
        min_iou: smallest IoU of a matched mask of at least `from_px` pixels.
        boundary_f: smallest mean F-measure of the outlines of matched masks.
        box_px: largest deviation of an edge of a matched box, pixels of the image.
        score: largest absolute difference of the scores of a pair.
        at_iou: 0.5 … 1.
        from_px: area of the mask in the reference.

    Raises:
        ParameterError: a value is out of range.

    Example:
        >>> from fastsam_deploy.runtime.measure.fidelity import Fidelity
        >>> limits = FidelityLimits(recall=0.98, mean_iou=0.95)
        >>> [finding.what for finding in limits.findings(Fidelity(()))]
        ['recall at IoU 0.75', 'mean mask IoU']
    """

    recall: float | None = None
    precision: float | None = None
    mean_iou: float | None = None
    min_iou: float | None = None
    boundary_f: float | None = None
    box_px: float | None = None
    score: float | None = None
    at_iou: float = 0.75
    from_px: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            top = np.inf if field.name in ("box_px", "from_px") else 1.0
            if value is not None and not 0 <= value <= top:
                raise ParameterError(f"limit of {field.name} is {value}, expected 0 … {top:g}")
        if self.at_iou < IOUS[0]:
            raise ParameterError(
                f"limit of at_iou is {self.at_iou}, expected {IOUS[0]} … 1, as detections below are not matched"
            )

    def findings(self, measured: Fidelity) -> tuple[Finding, ...]:
        """A finding for each limit that is set."""
        at = f"at IoU {self.at_iou:g}"
        least = f"least mask IoU from {self.from_px} pixels on" if self.from_px else "least mask IoU"
        figures = [
            (f"recall {at}", measured.recall(self.at_iou), self.recall, True),
            (f"precision {at}", measured.precision(self.at_iou), self.precision, True),
            ("mean mask IoU", measured.mean_iou, self.mean_iou, True),
            (least, measured.min_iou_from(self.from_px), self.min_iou, True),
            ("mean boundary F", measured.mean_boundary_f, self.boundary_f, True),
            ("largest box deviation (px)", measured.max_box_px, self.box_px, False),
            ("largest score deviation", measured.max_score, self.score, False),
        ]
        return tuple(
            Finding(what, value, limit, more_is_better=more)
            for what, value, limit, more in figures
            if limit is not None
        )


def judge(measured: Fidelity, limits: FidelityLimits) -> tuple[Finding, ...]:
    """The findings of a gate: one for each limit, and a further one if the reference has no detection in any image.

    Two answers without detections are equal, but that says nothing about the candidate: such a gate never passes.

    Example:
        >>> from fastsam_deploy.runtime.measure.fidelity import Fidelity
        >>> for finding in judge(Fidelity(()), FidelityLimits(recall=0.98)):
        ...     print(finding)
        detections of the reference is 0, expected at least 1
        recall at IoU 0.75 is 1, expected at least 0.98
    """
    findings = limits.findings(measured)
    if not findings or measured.reference_count:
        return findings
    return (Finding("detections of the reference", 0, 1, more_is_better=True), *findings)


@dataclass(frozen=True)
class Sample:
    """The two answers to one image, kept for drawing.

    Attributes:
        path: of the image.
        reference, candidate: the answers.
        compared: their comparison.

    Example:
        >>> result.worst[0].compared.quality  # doctest: +SKIP
        0.91
    """

    path: Path
    reference: Segments
    candidate: Segments
    compared: ImageFidelity


@dataclass(frozen=True)
class Result:
    """The measurements of one candidate.

    Attributes:
        candidate: the candidate.
        fidelity: its images are in the order of the paths.
        findings: see `judge`.
        worst: the images with the lowest quality, lowest first. Perfect ones are left out.
        notes: reasons to doubt the comparison, one sentence each.

    Example:
        >>> result = measure(reference, [candidate], paths, FidelityLimits(mean_iou=0.95))[0]  # doctest: +SKIP
        >>> result.passed, result.fidelity.mean_iou  # doctest: +SKIP
        (True, 0.993)
    """

    candidate: Contender
    fidelity: Fidelity
    findings: tuple[Finding, ...]
    worst: tuple[Sample, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all limits are met."""
        return not failures(self.findings)


def measure(
    reference: Contender,
    candidates: Sequence[Contender],
    paths: Sequence[Path],
    limits: FidelityLimits | None = None,
    *,
    worst: int = 0,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = iter,
) -> list[Result]:
    """Segment every image with all models, and compare each candidate with the reference.

    Images are processed one at a time. Of the answers, only the figures and the `worst` samples are kept.

    Args:
        reference: what the candidates are compared with.
        candidates: at least one.
        paths: image files, at least one.
        limits: to check; None for no limits.
        worst: number of samples to keep for each candidate, those with the lowest quality.
        progress: wraps the loop over the images.

    Returns:
        A result for each candidate.

    Raises:
        ParameterError: no candidate or no image.
        FastSamError: an image cannot be read or segmented. A gate must not leave images out.

    Example:
        >>> measure(reference, [candidate], [Path("photo.jpg")])[0].fidelity.quality  # doctest: +SKIP
        0.99
    """
    if not candidates or not paths:
        raise ParameterError(f"{len(candidates)} candidates and {len(paths)} images; expected at least one of each")
    limits = limits or FidelityLimits()
    rows: list[list[ImageFidelity]] = [[] for _ in candidates]
    kept: list[list[Sample]] = [[] for _ in candidates]
    for path in progress(paths):
        image = load_image(path)
        expected = _answer(reference, image, path)
        for i, candidate in enumerate(candidates):
            segments = _answer(candidate, image, path)
            rows[i].append(compare(expected, segments))
            kept[i] = _worst([*kept[i], Sample(path, expected, segments, rows[i][-1])], worst)
    results = []
    for candidate, images, samples in zip(candidates, rows, kept, strict=True):
        measured = Fidelity(tuple(images))
        notes = _notes(reference, candidate, measured)
        results.append(Result(candidate, measured, judge(measured, limits), tuple(samples), notes))
    return results


def _answer(contender: Contender, image: NDArray[np.uint8], path: Path) -> Segments:
    try:
        return contender.segmenter.segment(image)
    except FastSamError as error:
        raise FastSamError(f"{contender.name}, {path}: {error}") from error


def _worst(samples: list[Sample], count: int) -> list[Sample]:
    """At most `count` samples, lowest quality first; ties keep their order."""
    imperfect = [sample for sample in samples if sample.compared.quality < 1]
    return sorted(imperfect, key=lambda sample: sample.compared.quality)[:count]


def _notes(reference: Contender, candidate: Contender, measured: Fidelity) -> tuple[str, ...]:
    descriptions = reference.description, candidate.description
    notes = []
    if not measured.reference_count:
        notes.append("the reference found nothing in any image, so this proves little; lower --conf or use others")
    for key in ("imgsz", "input"):
        both = [description[key] for description in reversed(descriptions) if key in description]
        if len(both) == 2 and both[0] != both[1]:
            notes.append(f"its {key} is {both[0]}, that of the reference {both[1]}: part of the difference")
            break  # one follows from the other
    shas = {description.get("checkpoint_sha256") for description in descriptions}
    if len(shas - {None}) > 1:
        notes.append("it was made from another checkpoint than the reference")
    names = [description["class_names"] for description in descriptions if "class_names" in description]
    if len(names) == 2 and names[0] != names[1]:
        notes.append(f"its {len(names[1])} classes are not the {len(names[0])} of the reference")
    return tuple(notes)
