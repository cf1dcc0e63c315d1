"""Segments as a `supervision.Detections`, and back.

Boxes, masks, scores and tracks are `xyxy`, `mask`, `confidence` and `tracker_id`. What supervision has no column
for is in `data`: `class_name`, `prompt`, `fit` and `probability`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependencyError, ParameterError, pip_install
from ..formats import NO_PROMPT, NO_TRACK, Columns, LoadedColumns, is_tracked
from ..masks.store import Masks

if TYPE_CHECKING:
    from supervision import Detections

CLASS_NAME = "class_name"
_MISSING = {"prompt": NO_PROMPT, "fit": np.nan, "probability": np.nan}


def to_supervision(columns: Columns, *, compact: bool = False) -> Detections:
    """Detections of one image.

    Args:
        columns: the segments of one image.
        compact: masks as supervision's `CompactMask`, which keeps them cropped, instead of an (n, h, w) array.

    Raises:
        MissingDependencyError: supervision is not installed, or too old for compact masks.

    Example:
        >>> to_supervision(segments).class_id  # doctest: +SKIP
        array([0, 0])
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise MissingDependencyError(f"to_supervision: {error}; run: {pip_install('supervision')}") from error
    return Detections(
        xyxy=columns.boxes_xyxy.copy(),
        mask=_compact(columns.masks) if compact else columns.masks.dense(),
        confidence=columns.scores.copy(),
        class_id=columns.classes.copy(),
        tracker_id=columns.track_ids.copy() if is_tracked(columns) else None,
        data={
            CLASS_NAME: np.array([columns.class_names[i] for i in columns.classes], dtype=str),
            "prompt": columns.prompts.copy(),
            "fit": columns.fits.copy(),
            "probability": columns.probabilities.copy(),
        },
    )


def columns_of(
    detections: Detections, image_hw: tuple[int, int] | None = None, class_names: Sequence[str] | None = None
) -> LoadedColumns:
    """The columns of detections with masks, whichever model they are of.

    Args:
        detections: of one image. Without `confidence`, scores are 1; without `class_id`, classes are 0.
        image_hw: (h, w) of the image; None: that of the masks.
        class_names: name of each class number; None: from `data["class_name"]`.

    Raises:
        ParameterError: the detections have no masks, or they are of another size.

    Example:
        >>> columns_of(segments.to_supervision()).scores  # doctest: +SKIP
        array([0.9, 0.8], dtype=float32)
    """
    n = len(detections)
    if n and detections.mask is None:
        raise ParameterError("from_supervision: the detections have no masks; expected those of a segmentation model")
    if image_hw is None and detections.mask is None:
        raise ParameterError("from_supervision: no detections; expected masks or image_hw=(h, w), to know the image")
    masks = _masks_of(detections.mask, image_hw)
    classes = np.zeros(n, np.int64) if detections.class_id is None else np.asarray(detections.class_id, np.int64)
    confidence = np.ones(n) if detections.confidence is None else detections.confidence
    tracks = np.full(n, NO_TRACK) if detections.tracker_id is None else detections.tracker_id
    extra = {name: detections.data.get(name, np.full(n, missing)) for name, missing in _MISSING.items()}
    return LoadedColumns(
        boxes_xyxy=np.asarray(detections.xyxy, np.float32).reshape(n, 4),
        scores=np.asarray(confidence, np.float32),
        classes=classes,
        masks=masks,
        prompts=np.asarray(extra["prompt"], np.int64),
        fits=np.asarray(extra["fit"], np.float32),
        probabilities=np.asarray(extra["probability"], np.float32),
        track_ids=np.asarray(tracks, np.int64),
        class_names=_names_of(classes, detections.data.get(CLASS_NAME)) if class_names is None else tuple(class_names),
    )


def _masks_of(stack: Any, image_hw: tuple[int, int] | None) -> Masks:
    """Masks of an (n, h, w) array or a `CompactMask`, one full-size mask at a time."""
    if stack is None:
        return Masks.empty(image_hw or (0, 0))
    height, width = stack.shape[1:]
    if image_hw is not None and tuple(image_hw) != (height, width):
        raise ParameterError(f"from_supervision: masks of {height} × {width}, expected image_hw {tuple(image_hw)}")
    full = (np.asarray(stack[i]).astype(bool) for i in range(len(stack)))
    return Masks.from_crops((height, width), full, np.zeros((len(stack), 2), np.int64)).trimmed()


def _names_of(classes: NDArray[np.int64], names: Any) -> tuple[str, ...]:
    """The name of each class number that occurs; others are called by their numbers."""
    if names is None or not len(classes):
        return ("object",)
    known = dict(zip(classes.tolist(), map(str, names), strict=True))
    return tuple(known.get(number, f"class{number}") for number in range(max(known) + 1))


def _compact(masks: Masks) -> Any:
    try:
        from supervision.detection.compact_mask import CompactMask
    except ImportError as error:
        raise MissingDependencyError(
            f"to_supervision: {error}; compact masks need a newer version: pip install --upgrade supervision"
        ) from error
    boxes = masks.boxes_xyxy() - np.array([0, 0, 1, 1], np.float32)  # it counts the last pixel as inside
    return CompactMask.from_coco_rle(masks.rle(), boxes.clip(0), masks.image_hw)
