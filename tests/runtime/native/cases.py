"""Random inputs of the compiled functions, and what each must equal: its NumPy twin."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fastsam_deploy.runtime.errors import ModelError
from fastsam_deploy.runtime.masks import rle
from fastsam_deploy.runtime.masks.overlap import shared_in_pairs
from fastsam_deploy.runtime.masks.packed import PackedCrops
from fastsam_deploy.runtime.masks.store import Masks, PackedMasks
from fastsam_deploy.runtime.native.calls import (
    count_inside,
    count_shared,
    decoded_rows,
    kept_rows,
    rle_text,
    write_masks,
    write_planes,
    write_resized,
)
from fastsam_deploy.runtime.native.library import VARIABLE, Library
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.spec import SCORE_ROUNDING, ModelSpec
from fastsam_deploy.runtime.stages import assemble, decode
from fastsam_deploy.runtime.stages.letterbox import Letterbox, Resampling, fit, fit_rectangle, mask_resampling
from fastsam_deploy.runtime.system.variables import variables

SPACE = 2.0**-24
"""Half the distance between 1 and the next float32: what a rounding may change, as a share."""


def masks_equal(
    library: Library,
    coefficients: NDArray[np.float32],
    prototypes: NDArray[np.float32],
    boxes_xyxy: NDArray[np.float32],
    place: Letterbox,
) -> tuple[int, int]:
    """Pixels that differ from the twin's, and pixels in all. A pixel may differ only where rounding decides: where the
    logit is as near to 0 as the rounding of its products and sums.
    """
    axes = mask_resampling(place, (prototypes.shape[1], prototypes.shape[2]))
    corners = np.ceil(boxes_xyxy).astype(np.int64)
    sizes = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    twin, compiled = PackedCrops.blank(sizes), PackedCrops.blank(sizes)
    assert assemble._write_crops(twin, coefficients, prototypes, corners, axes)
    assert write_masks(
        library,
        coefficients,
        prototypes,
        corners,
        ((axes[0].first, axes[0].shares), (axes[1].first, axes[1].shares)),
        float(assemble.MASK_THRESHOLD),
        *(compiled.words, compiled.starts, compiled.areas),
    )
    assert compiled.areas.tolist() == [np.count_nonzero(crop) for crop in compiled]
    differing = 0
    for i in np.flatnonzero([not np.array_equal(twin.words_of(i), compiled.words_of(i)) for i in range(len(twin))]):
        # Bits past the width must be 0 in both: a whole crop is compared, then its words.
        rows, columns = np.nonzero(twin[i] != compiled[i])
        assert len(rows), "bits past the width of a crop"
        differing += len(rows)
        logits, errors = _logits(coefficients[i], prototypes, axes, rows + corners[i, 1], columns + corners[i, 0])
        assert (np.abs(logits) <= errors).all(), (i, logits, errors)
    return differing, int(sizes.prod(1).sum())


def _logits(
    coefficients: NDArray[np.float32],
    prototypes: NDArray[np.float32],
    axes: tuple[Resampling, Resampling],
    y: NDArray[np.int64],
    x: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits of single pixels in float64, and what float32 may be off: a product of k roundings, times the sum of the
    amounts (Higham, Accuracy and Stability of Numerical Algorithms, 3.5).
    """
    taps = np.arange(3)
    rows = (axes[0].first[y][:, None] + taps)[:, :, None]
    columns = (axes[1].first[x][:, None] + taps)[:, None, :]
    shares = axes[0].shares[y].astype(np.float64)[:, :, None] * axes[1].shares[x][:, None, :]
    values = prototypes.astype(np.float64)[:, rows, columns]  # (depth, n, 3, 3)
    terms = values * coefficients.astype(np.float64)[:, None, None, None] * shares
    roundings = 2 * (len(coefficients) + 1 + 6)
    return terms.sum((0, 2, 3)), roundings * SPACE * np.abs(terms).sum((0, 2, 3))


def random_masks(rng: np.random.Generator, largest: int = 260) -> tuple[Any, ...]:
    """All arguments of `masks_equal` but the library: any image and boxes; smooth, rough, or logits of exactly 0."""
    h, w = rng.integers(1, largest, 2).tolist()
    imgsz = int(rng.choice([32, 64, 96, 160, 320]))
    place = fit_rectangle((h, w), imgsz) if rng.random() < 0.5 else fit((h, w), (imgsz, imgsz))
    n, depth = int(rng.integers(0, 20)), int(rng.choice([1, 4, 32, 33]))
    shape = depth, place.input_hw[0] // 4, place.input_hw[1] // 4
    prototypes = rng.standard_normal(shape).astype(np.float32)
    if rng.random() < 0.5:  # large areas of one sign
        prototypes = np.cumsum(np.cumsum(prototypes, 1), 2, dtype=np.float32) - np.float32(0.5)
    if rng.random() < 0.3:
        prototypes[:, : shape[1] // 2] = 0
    coefficients = rng.standard_normal((n, depth)).astype(np.float32)
    corners = rng.random((n, 2, 2)) * 1.4 - 0.2
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1) * (w, h, w, h)
    return coefficients, prototypes, boxes.clip(0, (w, h, w, h)).astype(np.float32), place


def check_boxes(library: Library, rng: np.random.Generator) -> None:
    """NMS of boxes that overlap, repeat, touch, and have no area."""
    n = int(rng.integers(0, 400))
    corners = rng.integers(0, 40, (n, 2)).astype(np.float32) + rng.choice([0, 0.5, 0.1])
    boxes = np.concatenate([corners, corners + rng.integers(0, 20, (n, 2))], 1).astype(np.float32)
    threshold = decode.largest_float32_below(float(rng.choice([0.1, 0.5, 0.9, 1.0])))
    most = int(rng.choice([1, 10, 300]))
    expected = decode._kept_rows(boxes, threshold, most)
    np.testing.assert_array_equal(kept_rows(library, boxes, float(threshold), most), expected)


def check_decoded(library: Library, rng: np.random.Generator) -> None:
    """Detections of one class: equal scores, boxes that repeat, none at all, parts of larger outputs, wrong numbers."""
    anchors, depth = int(rng.integers(1, 300)), int(rng.integers(1, 34))
    whole = rng.normal(size=(5 + depth, anchors + 3)).astype(np.float32)
    whole[:2] = rng.integers(0, 60, whole[:2].shape)
    whole[2:4] = rng.integers(0, 30, whole[:2].shape) + rng.choice([0, 0.1])
    whole[4] = np.round(rng.random(anchors + 3), int(rng.choice([1, 3, 7])))
    output = whole[:, 1 : anchors + 1]
    if rng.random() < 0.2:
        output[rng.integers(len(output)), rng.integers(anchors)] = rng.choice([np.nan, np.inf, -np.inf, -0.02, 1.02])
    conf, iou = float(rng.choice([0, 0.3, 0.9])), float(rng.choice([0.01, 0.1, 0.7, 0.9, 1]))
    spec, limits = ModelSpec(mask_dim=depth), Thresholds(conf, iou, int(rng.choice([1, 10, 300])))
    expected: decode.Detections | None = None
    with variables({VARIABLE: "0"}), suppress(ModelError):
        expected = decode.decode(output, spec, limits)
    threshold = float(decode.largest_float32_below(iou))
    rows = decoded_rows(library, output, conf, SCORE_ROUNDING, threshold, decode.MAX_CANDIDATES, limits.max_det)
    if rows is None or expected is None:
        assert rows is None and expected is None
        return
    for row, wanted in zip(rows, (expected.boxes_xyxy, expected.scores, expected.coefficients), strict=True):
        np.testing.assert_array_equal(row, wanted)


def check_planes(library: Library, rng: np.random.Generator) -> None:
    """Planes of pixels whose rows lie apart, inside larger planes."""
    h, w, margin = rng.integers(1, 90, 3).tolist()
    pixels = rng.integers(0, 256, (h, w + margin, 3), np.uint8)[:, margin:]
    planes = np.zeros((3, h + 2, w + margin), np.float32)
    part = planes[:, 1:-1, :w]
    write_planes(library, pixels, part)
    expected = np.zeros_like(planes)
    expected[:, 1:-1, :w] = np.moveaxis(pixels / np.float32(255), 2, 0)
    np.testing.assert_array_equal(planes, expected)


def check_resized(library: Library, rng: np.random.Generator) -> None:
    """Pixels of any size, whose rows lie apart, at any other size inside larger planes: as OpenCV resizes them."""
    (h, w), (height, width) = rng.integers(1, 90, (2, 2)).tolist()
    margin = int(rng.integers(0, 9))
    if (h, w) == (2 * height, 2 * width):  # not promised
        height += 1
    pixels = rng.choice([0, 255, 1], (h, w + margin, 3)).astype(np.uint8)
    pixels = (pixels if rng.random() < 0.3 else rng.integers(0, 256, pixels.shape, np.uint8))[:, margin:]
    planes = np.zeros((3, height + 2, width + margin), np.float32)
    write_resized(library, pixels, planes[:, 1:-1, :width])
    expected = np.zeros_like(planes)
    resized = cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=cv2.INTER_LINEAR)
    expected[:, 1:-1, :width] = np.moveaxis(resized / np.float32(255), 2, 0)
    np.testing.assert_array_equal(planes, expected)


def check_runs(library: Library, rng: np.random.Generator) -> None:
    """RLE of masks of all densities, at any place of the image, up to its corners."""
    h, w = rng.integers(1, 120, 2).tolist()
    ch, cw = int(rng.integers(0, h + 1)), int(rng.integers(0, w + 1))
    corner = int(rng.integers(0, w - cw + 1)), int(rng.integers(0, h - ch + 1))
    crop = rng.random((ch, cw)) < rng.choice([0, 0.05, 0.5, 0.97, 1])
    words = PackedCrops.of([crop]).words_of(0)
    expected = rle.encode(crop, corner, (h, w))["counts"]
    assert rle_text(library, words, corner, (h, w)).decode("ascii") == expected


def check_overlaps(library: Library, rng: np.random.Generator) -> None:
    """Pixels in boxes and those that pairs share: crops of any width and place, empty ones, boxes beyond the image."""
    h, w = rng.integers(1, 150, 2).tolist()
    masks, others = (_random_crops(rng, h, w) for _ in range(2))
    corners = rng.integers(-20, 160, (int(rng.integers(0, 5)), 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    window = np.array([*rng.integers(-5, w, 1), *rng.integers(-5, h, 1), *rng.integers(0, w + 9, 1), h])
    pairs = np.argwhere(np.ones((len(masks), len(others)), np.bool_))
    words, other_words = (side.crops.as_words(side.corners_xy) for side in (masks, others))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTSAM_NATIVE", "0")
        inside, shared = masks.box_overlap(boxes), shared_in_pairs(masks, others, pairs, window)
    np.testing.assert_array_equal(count_inside(library, words, boxes), inside)
    np.testing.assert_array_equal(count_shared(library, words, other_words, pairs, window), shared)


def _random_crops(rng: np.random.Generator, h: int, w: int) -> PackedMasks:
    crops, corners = [], []
    for _ in range(int(rng.integers(0, 8))):
        ch, cw = int(rng.integers(0, h + 1)), int(rng.integers(0, w + 1))
        crops.append(rng.random((ch, cw)) < rng.choice([0, 0.05, 0.5, 1]))
        corners.append((rng.integers(0, w - cw + 1), rng.integers(0, h - ch + 1)))
    return Masks.from_crops((h, w), crops, np.array(corners, np.int64).reshape(-1, 2))
