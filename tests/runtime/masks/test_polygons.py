"""Outlines of masks: exact, valid, with holes, simplified without harm, and read back by pycocotools."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.masks.polygons import Polygon, signed_area
from fastsam_deploy.runtime.masks.seams import joined
from fastsam_deploy.runtime.masks.store import Masks

SHAPES = hnp.arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)))
TOLERANCES = st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.5, 3.0, 30.0])


def _drawn(*parts: tuple[int, int, int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros((60, 80), np.bool_)
    for value, top, bottom, left, right in parts:
        mask[top:bottom, left:right] = value
    return mask


CASES = {
    "square": (_drawn((1, 5, 15, 5, 15)), [0]),
    "pixel": (_drawn((1, 5, 6, 5, 6)), [0]),
    "line": (_drawn((1, 5, 6, 5, 30)), [0]),
    "hole": (_drawn((1, 10, 40, 10, 50), (0, 18, 30, 20, 40)), [1]),
    "hole of a pixel": (_drawn((1, 5, 30, 5, 30), (0, 15, 16, 15, 16)), [1]),
    "island in a hole": (_drawn((1, 5, 55, 5, 70), (0, 12, 48, 12, 60), (1, 22, 36, 25, 45)), [1, 0]),
    "two parts": (_drawn((1, 5, 20, 5, 20), (1, 30, 50, 40, 70)), [0, 0]),
    "two that touch diagonally": (_drawn((1, 5, 10, 5, 10), (1, 10, 15, 10, 15)), [0, 0]),
    "holes that touch diagonally": (_drawn((1, 0, 60, 0, 80), (0, 5, 10, 5, 10), (0, 10, 15, 10, 15)), [2]),
    "the whole image": (np.ones((60, 80), np.bool_), [0]),
    "a hole open at one corner": (np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.bool_), [1]),
    "nothing": (np.zeros((3, 4), np.bool_), []),
}


def _even_odd(rings: list[NDArray[np.int64]], shape: tuple[int, int], per_pixel: int = 1) -> NDArray[np.bool_]:
    """Pixels whose centres lie inside an odd number of rings: written without any code of the runtime."""
    ys, xs = (np.arange(side * per_pixel)[:, None] / per_pixel + 0.5 / per_pixel for side in shape)
    inside = np.zeros((len(ys), len(xs)), np.bool_)
    for ring in rings:
        for (x1, y1), (x2, y2) in zip(ring.tolist(), np.roll(ring, -1, 0).tolist(), strict=True):
            if y1 != y2:
                spans = (min(y1, y2) <= ys) & (ys < max(y1, y2))
                inside ^= spans & (x1 + (ys - y1) * (x2 - x1) / (y2 - y1) > xs.T)
    return inside


def _decoded(parts: list[Polygon], shape: tuple[int, int]) -> NDArray[np.bool_]:
    from pycocotools import mask as coco

    flat = [joined(part).ravel().tolist() for part in parts]
    return coco.decode(coco.merge(coco.frPyObjects(flat, *shape))).astype(bool)


def _crossings(rings: list[NDArray[np.int64]]) -> int:
    """Pairs of edges that cross properly or lie on each other, and corners inside an edge, by brute force."""
    edges = [(a, b) for ring in rings for a, b in zip(ring.tolist(), np.roll(ring, -1, 0).tolist(), strict=True)]

    def side(a: list[int], b: list[int], c: list[int]) -> int:
        value = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        return (value > 0) - (value < 0)

    def within(a: list[int], b: list[int], c: list[int]) -> bool:
        inner = (c[0] - a[0]) * (c[0] - b[0]) + (c[1] - a[1]) * (c[1] - b[1]) < 0
        return side(a, b, c) == 0 and inner

    count = 0
    for i, (a, b) in enumerate(edges):
        for c, d in edges[:i]:
            proper = side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
            inner = within(a, b, c) or within(a, b, d) or within(c, d, a) or within(c, d, b)
            count += proper or inner or (sorted((a, b)) == sorted((c, d)))
    return count


def _check_valid(parts: list[Polygon]) -> None:
    for part in parts:
        assert signed_area(part.outer) > 0 and all(signed_area(hole) < 0 for hole in part.holes)
        for ring in part.rings:
            assert ring.dtype == np.int64 and len(ring) >= 3
            assert len(np.unique(ring, axis=0)) == len(ring), "a ring passes no corner twice"
        assert part.area > 0
    assert _crossings([ring for part in parts for ring in part.rings]) == 0


@pytest.mark.parametrize("name", CASES)
def test_parts_holes_and_areas(name: str) -> None:
    mask, holes = CASES[name]
    (parts,) = Masks.from_dense(mask[None]).polygons()
    assert sorted(len(part.holes) for part in parts) == sorted(holes)
    assert sum(part.area for part in parts) == mask.sum(), "pixels are squares with an area of 1"
    _check_valid(parts)
    if parts:
        np.testing.assert_array_equal(_decoded(parts, mask.shape), mask)


def test_coordinates_are_edges_of_pixels_of_the_image() -> None:
    (((part,),)) = Masks.from_dense(CASES["square"][0][None]).polygons()
    assert part.outer.tolist() == [[5, 5], [15, 5], [15, 15], [5, 15]] and part.area == 100


@settings(deadline=None)
@given(SHAPES)
def test_outlines_are_the_mask(mask: NDArray[np.bool_]) -> None:
    (parts,) = Masks.from_dense(mask[None]).polygons()
    assert len(parts) == cv2.connectedComponents(mask.view(np.uint8), connectivity=4)[0] - 1
    assert sum(part.area for part in parts) == mask.sum()
    np.testing.assert_array_equal(_even_odd([ring for part in parts for ring in part.rings], mask.shape), mask)
    if parts:
        np.testing.assert_array_equal(_decoded(parts, mask.shape), mask)
        united = np.any([_even_odd(list(part.rings), mask.shape) for part in parts], axis=0)
        np.testing.assert_array_equal(united, mask)


@settings(deadline=None, max_examples=60)
@given(SHAPES, TOLERANCES)
def test_simplified_polygons_are_valid_and_none_is_lost(mask: NDArray[np.bool_], tolerance_px: float) -> None:
    masks = Masks.from_dense(mask[None])
    (exact,), (parts,) = masks.polygons(), masks.polygons(tolerance_px)
    _check_valid(parts)
    assert [len(part.holes) for part in parts] == [len(part.holes) for part in exact]
    assert sum(map(len, (r for p in parts for r in p.rings))) <= sum(map(len, (r for p in exact for r in p.rings)))
    # Each part covers its holes' surroundings and no other part: areas add up to what even-odd filling covers.
    fine = _even_odd([ring for part in parts for ring in part.rings], mask.shape, 8)
    each = [_even_odd(list(part.rings), mask.shape, 8) for part in parts]
    assert sum(part.sum() for part in each) == fine.sum()


def test_simplified_outlines_stay_within_the_tolerance() -> None:
    ys, xs = np.mgrid[:200, :200]
    disc = (xs - 99.5) ** 2 + (ys - 99.5) ** 2 < 90**2
    ((exact,),), ((part,),) = (Masks.from_dense(disc[None]).polygons(t) for t in (0, 2.0))
    contour = part.outer.astype(np.float32).reshape(-1, 1, 2)
    distances = [abs(cv2.pointPolygonTest(contour, (float(x), float(y)), True)) for x, y in exact.outer.tolist()]
    assert len(part.outer) < len(exact.outer) / 5 and max(distances) <= 2.001


@pytest.mark.parametrize("picture", ["coffee", "cat"])
def test_masks_of_photographs(picture: str, request: pytest.FixtureRequest, demo_onnx: Path) -> None:
    with FastSAM(demo_onnx, conf=0.3, imgsz=512) as model:
        segments = model.segment(request.getfixturevalue(picture))
    assert len(segments) > 10
    rounder = segments.masks.polygons(1.5)
    for i, annotation in enumerate(segments.to_coco(polygons=True)):
        mask, parts = segments.masks.full(i), segments.masks.polygons()[i] if i < 3 else None
        if parts is not None:
            assert sum(part.area for part in parts) == mask.sum()
        np.testing.assert_array_equal(_decode_flat(annotation["segmentation"], mask.shape), mask)
        assert all(len(ring) >= 3 for part in rounder[i] for ring in part.rings) and len(rounder[i]) > 0
        if mask.sum() > 5000 and i < 40:
            again = _decoded(rounder[i], mask.shape)
            assert (again & mask).sum() > 0.9 * (again | mask).sum()


def _decode_flat(flat: list[list[float]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    from pycocotools import mask as coco

    return coco.decode(coco.merge(coco.frPyObjects(flat, *shape))).astype(bool)
