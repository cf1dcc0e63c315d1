"""Network output → detections: confidence cut, class, NMS. One image at a time.

Equal to ultralytics' `non_max_suppression` (8.4): score strictly above `conf`, best class only, at most
30 000 candidates, boxes of lower score dropped where IoU > `iou` within a class, at most `max_det` kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..native.calls import decoded_rows, kept_rows
from ..native.library import library
from ..settings import Thresholds
from ..spec import MAX_CLASSES, SCORE_ROUNDING, ModelSpec
from .distributions import boxes_of

MAX_CANDIDATES = 30_000

# Boxes of different classes are moved this far apart, so that one NMS serves all classes. It is also what
# the reference does, float32 rounding included.
CLASS_OFFSET_PX = np.float32(7680)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """n detections of one image in pixels of the network input, best score first.

    Attributes:
        boxes_xyxy: (n, 4) float32.
        scores: (n,) float32.
        classes: (n,) int64.
        coefficients: (n, mask_dim) float32, for the prototypes.

    Example:
        >>> output = np.array([[8, 8, 24, 24, 0.9, 0, 1.5]], np.float32)
        >>> detections = decode(output, ModelSpec(layout="nms", mask_dim=1), Thresholds())
        >>> detections.boxes_xyxy.tolist(), detections.coefficients.tolist()
        ([[8.0, 8.0, 24.0, 24.0]], [[1.5]])
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    coefficients: NDArray[np.float32]


def decode(
    output: NDArray[np.floating], spec: ModelSpec, thresholds: Thresholds, input_hw: tuple[int, int] | None = None
) -> Detections:
    """Detections of one image.

    Args:
        output: one image of the detections output: (4 + nc + mask_dim, anchors) in the layout "raw",
            (4 * bins + nc + mask_dim, anchors) in "distributions", (max_det, 6 + mask_dim) in "nms" and "split". Those
            two are suppressed in the graph, so `iou` has no effect.
        spec: of the model.
        thresholds: which detections are kept.
        input_hw: (H, W) of the network's input, pixels; needed in the layout "distributions" alone.

    Raises:
        ModelError: scores, or detections that are kept, hold NaN or infinity, or scores are outside [0, 1].
        ParameterError: the graph suppresses with thresholds that cannot give these.

    Example:
        >>> raw = np.array([[16, 17], [16, 17], [16, 16], [16, 16], [0.9, 0.8], [1.5, 2]], np.float32)  # 2 anchors
        >>> decode(raw, ModelSpec(mask_dim=1), Thresholds(iou=0.7)).scores  # the second overlaps the first
        array([0.9], dtype=float32)
    """
    if spec.suppression is not None:
        spec.suppression.check(thresholds)
    conf, max_det = thresholds.conf, int(thresholds.max_det)
    if spec.suppressed:
        _check_scores(output[:, 4])
        kept = output[output[:, 4] > np.float32(conf)][:max_det].astype(np.float32)
        _refuse_nonfinite(kept)
        return Detections(kept[:, :4], kept[:, 4], class_numbers(kept[:, 5]), kept[:, 6:])
    plain = _decoded_at_once(output, spec, thresholds)
    if plain is not None:
        return plain
    first = spec.box_values
    scores, classes, columns = _candidates(output[first : first + spec.class_count], conf)
    if spec.layout == "distributions":
        boxes = _xyxy_from_cxcywh(boxes_of(output, columns, spec, input_hw))
    else:
        boxes = _xyxy_from_cxcywh(output[:4, columns].T.astype(np.float32))
    _refuse_nonfinite(boxes)
    kept_rows = nms(boxes + (classes.astype(np.float32) * CLASS_OFFSET_PX)[:, None], scores, thresholds.iou, max_det)
    coefficients = output[first + spec.class_count :, columns[kept_rows]].T.astype(np.float32)
    _refuse_nonfinite(coefficients)
    return Detections(boxes[kept_rows], scores[kept_rows], classes[kept_rows], coefficients)


def _decoded_at_once(output: NDArray[np.floating], spec: ModelSpec, thresholds: Thresholds) -> Detections | None:
    """The usual case in compiled code, one call instead of some fifty; None: another case, or one with an error."""
    compiled = library()
    if compiled is None or spec.layout != "raw" or spec.class_count != 1 or not _has_plain_rows(output):
        return None
    conf, iou = float(np.float32(thresholds.conf)), float(largest_float32_below(thresholds.iou))
    rows = decoded_rows(compiled, output, conf, SCORE_ROUNDING, iou, MAX_CANDIDATES, int(thresholds.max_det))
    if rows is None:
        return None
    boxes, scores, coefficients = rows
    return Detections(boxes, scores, np.zeros(len(scores), np.int64), coefficients)


def _has_plain_rows(output: NDArray[np.floating]) -> TypeGuard[NDArray[np.float32]]:
    return output.dtype == np.float32 and output.size > 0 and output.strides[1] == 4 and output.strides[0] > 0


def class_numbers(column: NDArray[np.number[Any]]) -> NDArray[np.int64]:
    """(n,) int64 class numbers as the network gave them.

    Raises:
        ModelError: a number is negative, or too large for any network.

    Example:
        >>> class_numbers(np.array([0, 79], np.float32))
        array([ 0, 79])
    """
    outside = (column < 0) | (column >= MAX_CLASSES)
    if np.count_nonzero(outside):
        wrong = column[outside]
        raise ModelError(
            f"the network's output holds class {wrong[0]:g}, expected 0 to {MAX_CLASSES - 1}; is the column of classes "
            "the sixth, after x1, y1, x2, y2 and the score?"
        )
    return column.astype(np.int64)


def nms(boxes_xyxy: NDArray[np.float32], scores: NDArray[np.float32], iou: float, max_det: int) -> NDArray[np.int64]:
    """Rows to keep, best score first; equal scores in their order. As torchvision.ops.nms, cut at `max_det`.

    Args:
        boxes_xyxy: (n, 4) float32.
        scores: (n,) float32.
        iou: a box is dropped if its IoU with a kept box is above it.

    Example:
        >>> boxes = np.array([[0, 0, 9, 8], [20, 0, 30, 9], [0, 0, 9, 9]], np.float32)
        >>> nms(boxes, np.array([0.5, 0.6, 0.9], np.float32), iou=0.7, max_det=300)
        array([2, 1])
    """
    order = np.argsort(-scores, kind="stable")
    threshold = largest_float32_below(iou)
    compiled = library()
    sorted_boxes = boxes_xyxy[order]
    if compiled is None:
        return order[_kept_rows(sorted_boxes, threshold, max_det)]
    return order[kept_rows(compiled, sorted_boxes, float(threshold), max_det)]


def _kept_rows(boxes_xyxy: NDArray[np.float32], threshold: np.float32, max_det: int) -> NDArray[np.int64]:
    """The NumPy twin of `native.calls.kept_rows`. Boxes are (n, 4) float32, best score first."""
    x1, y1, x2, y2 = boxes_xyxy.T
    areas = (x2 - x1) * (y2 - y1)
    alive = np.ones(len(boxes_xyxy), np.bool_)
    kept: list[int] = []
    for i in range(len(boxes_xyxy)):
        if not alive[i]:
            continue
        kept.append(i)
        if len(kept) == max_det:
            break
        rest = slice(i + 1, None)
        width = np.minimum(x2[rest], x2[i]) - np.maximum(x1[rest], x1[i])
        height = np.minimum(y2[rest], y2[i]) - np.maximum(y1[rest], y1[i])
        inter = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(invalid="ignore", divide="ignore"):  # two boxes without area: 0 / 0, which is not above
            alive[rest] &= ~(inter / (areas[i] + areas[rest] - inter) > threshold)
    return np.array(kept, np.int64)


def _candidates(
    scores: NDArray[np.floating], conf: float
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Best score, its class and the column of each anchor above `conf`, from (nc, anchors) scores."""
    best = scores[0] if len(scores) == 1 else scores.max(0)
    _check_scores(best)
    columns = np.flatnonzero(best > np.float32(conf))
    if len(columns) > MAX_CANDIDATES:
        columns = columns[np.argsort(-best[columns], kind="stable")[:MAX_CANDIDATES]]
    return best[columns].astype(np.float32), scores[:, columns].argmax(0), columns


def _check_scores(scores: NDArray[np.floating]) -> None:
    """Scores are probabilities: without the sigmoid at its end, a network's scores fit no threshold."""
    _refuse_nonfinite(scores)
    low, high = float(scores.min(initial=0)), float(scores.max(initial=0))
    if low < -SCORE_ROUNDING or high > 1 + SCORE_ROUNDING:
        raise ModelError(
            f"the network's scores are from {low:.4g} to {high:.4g}; expected 0 to 1; "
            "export it with the sigmoid of its head, as ultralytics does"
        )


def _refuse_nonfinite(values: NDArray[np.floating]) -> None:
    """NaN is above no threshold: it would look like an image with nothing in it."""
    if not np.isfinite(values).all():
        raise ModelError(
            f"the network's output holds {np.count_nonzero(~np.isfinite(values))} values that are NaN or infinite; "
            "expected finite numbers; an FP16 file can overflow on an image: use the FP32 one"
        )


def _xyxy_from_cxcywh(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    centre, half = boxes[:, :2], boxes[:, 2:] / np.float32(2)
    return np.concatenate((centre - half, centre + half), axis=1)


def largest_float32_below(value: float) -> np.float32:
    """The float32 for which x > value, as real numbers, is the same as x > float32, for every float32 x.

    Example:
        >>> float(largest_float32_below(0.9))  # float32(0.9) itself, which is below 0.9
        0.8999999761581421
        >>> float(largest_float32_below(0.1))  # float32(0.1) is above 0.1: the one before it
        0.09999999403953552
    """
    rounded = np.float32(value)
    below: np.float32 = np.nextafter(rounded, np.float32(-np.inf))
    return rounded if float(rounded) <= value else below
