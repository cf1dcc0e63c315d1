"""Things of a synthetic scene and where they stand: painting an object, and arrangements of objects."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .library import Cutout, shared_library
from .looks import Look
from .objects import OBJECTS
from .painter import Mood, Painter, Rect, Rng, Size, shade
from .shapes import Part, blob, bounds, limb, raster, ribbon

CUT_OUT = 0.6  # share of objects that are cut-outs, when a library of them is in use


def pose(rng: Rng, parts: list[Part], centre: np.ndarray, size: float) -> list[np.ndarray]:
    """Turn, stretch, mirror and place the outlines of `parts`; returns pixel polygons (N, 2) in the same order."""
    turn = rng.normal() * 0.12 if rng.random() < 0.8 else rng.uniform(0, 2 * np.pi)
    stretch = np.exp(rng.normal(size=2) * 0.18) * [rng.choice([-1, 1]), 1]
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.diag(stretch) @ np.array([[c, s], [-s, c]]) * size
    return [part.outline @ matrix + centre for part in parts]


def drop_shadow(rng: Rng, painter: Painter, polygons: list[np.ndarray], size: float) -> None:
    """Darken what lies behind an object beside its silhouette."""
    shift = rng.normal(size=2) * size * 0.15
    points = np.concatenate(polygons) + shift
    spread = float(np.clip(size * rng.uniform(0.01, 0.12), 0.8, 12))
    rect = bounds(points, painter.size, margin=int(3 * spread) + 2)
    if rect[2] - rect[0] < 4 or rect[3] - rect[1] < 4:
        return
    alpha = np.zeros((rect[3] - rect[1], rect[2] - rect[0]), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(alpha, [np.round(polygon + shift - rect[:2]).astype(np.int32)], 255)
    alpha = cv2.GaussianBlur(alpha, (0, 0), spread).astype(np.float32) / 255
    shade(painter.image[rect[1] : rect[3], rect[0] : rect[2]], 1 - alpha * np.float32(rng.uniform(0.15, 0.7)))


def volume(rng: Rng, painter: Painter, rect: Rect, visible: np.ndarray) -> None:
    """Shade the pixels `visible` bool (h, w) of the rectangle as a rounded body lit from one side."""
    x0, y0, x1, y1 = rect
    if min(visible.shape) < 6 or not visible.any():
        return
    padded = cv2.copyMakeBorder(visible.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    reach = max(float(depth.max()) * rng.uniform(0.3, 1), 1.0)
    height = np.sqrt(1 - (1 - np.minimum(depth / reach, 1)) ** 2) * reach
    height = cv2.GaussianBlur(height, (0, 0), max(0.8, reach * 0.12))
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    light = rng.uniform(0, 2 * np.pi)
    facing = slope_x * np.float32(np.cos(light)) + slope_y * np.float32(np.sin(light))
    lit = facing / np.sqrt(1 + slope_x**2 + slope_y**2)
    gain = np.exp(lit * np.float32(rng.uniform(0.2, 0.8)))
    shade(painter.image[y0:y1, x0:x1], np.where(visible, gain, np.float32(1)).astype(np.float32))


def _placed(rng: Rng, cutout: Cutout, centre: np.ndarray, size: float, room: Size) -> tuple[Rect, np.ndarray]:
    """Turn, stretch, mirror and place a cut-out: its rectangle, and the affine map float (2, 3) to the rectangle."""
    height, width = cutout.parts.shape
    turn = rng.normal() * 0.12 if rng.random() < 0.85 else rng.uniform(0, 2 * np.pi)
    stretch = np.exp(rng.normal(size=2) * 0.1) * [rng.choice([-1, 1]), 1] * (2 * size / max(height, width))
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.array([[c, -s], [s, c]]) @ np.diag(stretch)
    corners = (np.array([[0, 0], [width, 0], [width, height], [0, height]]) - [width / 2, height / 2]) @ matrix.T
    rect = bounds(corners + centre, room)
    shift = centre - matrix @ [width / 2, height / 2] - rect[:2]
    return rect, np.concatenate([matrix, shift[:, None]], 1)


def _resampled(cutout: Cutout, matrix: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Warp a cut-out by `matrix` (2, 3): pixels uint8 (height, width, 4) and numbers of parts uint8 (height, width)."""
    shrink = min(1.0, float(np.hypot(*matrix[:, 0])))
    pixels, parts = cutout.pixels, cutout.parts
    if shrink < 0.5:  # a smaller copy first: linear sampling alone would alias
        smaller = (max(2, round(parts.shape[1] * shrink)), max(2, round(parts.shape[0] * shrink)))
        matrix = matrix @ np.diag([parts.shape[1] / smaller[0], parts.shape[0] / smaller[1], 1])
        pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
        parts = cv2.resize(parts, smaller, interpolation=cv2.INTER_NEAREST)
    paint = cv2.warpAffine(pixels, matrix, size_wh, flags=cv2.INTER_LINEAR)
    return paint, cv2.warpAffine(parts, matrix, size_wh, flags=cv2.INTER_NEAREST)


def put_cutout(rng: Rng, painter: Painter, cutout: Cutout, centre: np.ndarray, size: float, parent: int = -1) -> int:
    """Paint a cut-out. Nodes: one for the whole, one for each of its parts. Returns the whole's."""
    whole = painter.node(parent)
    rect, matrix = _placed(rng, cutout, centre, size, painter.size)
    width, height = rect[2] - rect[0], rect[3] - rect[1]
    if width < 3 or height < 3:
        return whole
    paint, numbers = _resampled(cutout, matrix, (width, height))
    alpha = np.ascontiguousarray(paint[..., 3])
    if rng.random() < 0.45:
        outlines, _ = cv2.findContours((alpha > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if outlines:
            drop_shadow(rng, painter, [outline[:, 0].astype(float) + rect[:2] for outline in outlines], size)
    levels = (np.arange(256)[:, None] - 128) * np.exp(rng.normal() * 0.15) + 128 + rng.normal() * 12
    tint = np.clip(levels * np.exp(rng.normal(size=3) * 0.08), 0, 255).astype(np.uint8)
    painter.blend(rect, alpha, cv2.LUT(np.ascontiguousarray(paint[..., :3]), tint[None]))
    painter.own(rect, alpha, whole)
    for number in range(1, int(cutout.parts.max()) + 1):
        shown = np.where((numbers == number) & (alpha > 127), np.uint8(255), np.uint8(0))
        painter.own(rect, shown, painter.node(whole))
    if rng.random() < 0.25:
        volume(rng, painter, rect, alpha > 127)
    return whole


def _wardrobe(rng: Rng, mood: Mood, parts: list[Part], near: np.ndarray | None) -> dict[str, Look]:
    """One look per look name; a camouflaged object starts from the colour `near` (3,)."""
    looks: dict[str, Look] = {}
    for part in parts:
        if part.look not in looks:
            close = near if near is not None and (part.look == "body" or rng.random() < 0.5) else None
            looks[part.look] = mood.look(rng, part.family, near=close)
    return looks


def put(rng: Rng, painter: Painter, parts: list[Part] | Cutout, centre: np.ndarray, size: float, parent: int = -1,
        looks: dict[str, Look] | None = None) -> int:  # fmt: skip
    """Paint an object: shadow, parts, volume. Nodes: one for the whole, one per part label. Returns the whole's."""
    if isinstance(parts, Cutout):
        return put_cutout(rng, painter, parts, centre, size, parent)
    polygons = pose(rng, parts, centre, size)
    rect = bounds(np.concatenate(polygons), painter.size)
    whole = painter.node(parent)
    if rect[2] - rect[0] < 3 or rect[3] - rect[1] < 3:
        return whole
    x, y = int(np.clip(centre[0], 0, painter.size[1] - 1)), int(np.clip(centre[1], 0, painter.size[0] - 1))
    near = painter.image[y, x].astype(np.float32) if rng.random() < 0.3 else None
    looks = looks or _wardrobe(rng, painter.mood, parts, near)
    if rng.random() < 0.45:
        drop_shadow(rng, painter, polygons, size)
    nodes: dict[str, int] = {"": whole}
    silhouette = np.zeros((rect[3] - rect[1], rect[2] - rect[0]), np.uint8)
    for part, points in zip(parts, polygons, strict=True):
        piece = bounds(points, painter.size)
        if piece[2] <= piece[0] or piece[3] <= piece[1]:
            continue
        alpha = raster(points, piece)
        spot = (slice(piece[1] - rect[1], piece[3] - rect[1]), slice(piece[0] - rect[0], piece[2] - rect[0]))
        if part.look in ("marking", "band", "facet", "patch"):  # markings stay inside the body
            alpha = cv2.min(alpha, np.ascontiguousarray(silhouette[spot]))
        silhouette[spot] = cv2.max(np.ascontiguousarray(silhouette[spot]), alpha)
        if part.label not in nodes:
            nodes[part.label] = painter.node(whole)
        width, height = piece[2] - piece[0], piece[3] - piece[1]
        painter.blend(piece, alpha, looks[part.look].render(piece[0], piece[1], width, height))
        painter.own(piece, alpha, nodes[part.label])
    if rng.random() < 0.55:
        volume(rng, painter, rect, silhouette > 127)
    return whole


def draw_object(rng: Rng, names: tuple[str, ...] = tuple(OBJECTS)) -> list[Part] | Cutout:
    """Draw an object of one of `names` by their weights, or a cut-out of the library."""
    if shared_library().cutouts and rng.random() < CUT_OUT:
        return shared_library().draw_cutout(rng)
    weights = np.array([OBJECTS[name][1] for name in names])
    name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    return OBJECTS[name][0](rng)


def few_large(rng: Rng, painter: Painter) -> None:
    """One to four things that fill a good part of the frame, sometimes beyond its edges."""
    height, width = painter.size
    for _ in range(int(rng.integers(1, 5))):
        size = min(height, width) * rng.uniform(0.22, 0.65)
        put(rng, painter, draw_object(rng), rng.uniform(0.1, 0.9, 2) * [width, height], size)


def perspective_crowd(rng: Rng, painter: Painter) -> None:
    """Things that stand on the ground, larger and lower the nearer."""
    height, width = painter.size
    names = tuple(rng.choice(list(OBJECTS), int(rng.integers(1, 5)), replace=False))
    horizon, near = rng.uniform(0.25, 0.55), rng.uniform(0.25, 0.6)
    for depth in np.sort(rng.uniform(0, 1, int(rng.integers(3, 12)))):
        size = min(height, width) * (0.06 + near * depth**1.5)
        foot = (horizon + (1 - horizon) * depth) * height
        put(rng, painter, draw_object(rng, names), np.array([rng.uniform(0, width), foot - size * 0.7]), size)


def group(rng: Rng, painter: Painter) -> None:
    """Similar things side by side in similar looks, perhaps labelled together as well."""
    height, width = painter.size
    parts = draw_object(rng)
    looks = None if isinstance(parts, Cutout) else _wardrobe(rng, painter.mood, parts, None)
    cluster = painter.node(labelled=bool(rng.random() < 0.3))
    centre, spread = rng.uniform(0.25, 0.75, 2) * [width, height], rng.uniform(0.1, 0.3) * min(height, width)
    size = min(height, width) * rng.uniform(0.07, 0.2)
    for _ in range(int(rng.integers(3, 9))):
        own = looks if rng.random() < 0.8 else None
        put(rng, painter, parts, centre + rng.normal(size=2) * [spread * 1.8, spread], size * rng.uniform(0.8, 1.25),
            cluster, own)  # fmt: skip


def leaves(rng: Rng, painter: Painter) -> None:
    """Plain dead leaves: overlapping shapes of power-law sizes all over the frame."""
    height, width = painter.size
    sizes = min(height, width) * np.clip(0.06 * rng.uniform(0, 1, int(rng.integers(8, 30))) ** -0.5, 0.06, 0.6)
    for size in np.sort(sizes)[::-1]:
        names = ("plain", "compound", "rock", "crate", "plain")
        put(rng, painter, draw_object(rng, names), rng.uniform(0, 1, 2) * [width, height], float(size))


def skyline(rng: Rng, painter: Painter) -> None:
    """Buildings and trees in a row on a common foot line."""
    height, width = painter.size
    foot, x = rng.uniform(0.55, 1.05) * height, rng.uniform(-0.1, 0.2) * width
    while x < width:
        size = min(height, width) * rng.uniform(0.15, 0.55)
        put(rng, painter, draw_object(rng, ("building", "building", "tree")), np.array([x, foot - size]), size)
        x += size * rng.uniform(0.7, 2.2)


def foreground(rng: Rng, painter: Painter) -> None:
    """Thin or blurred things before the scene: a branch, a pole, leaves at the edge. They split what they cross."""
    height, width = painter.size
    size = max(height, width) * rng.uniform(0.3, 0.9)
    shape = ribbon(rng, rng.uniform(0.01, 0.05)) if rng.random() < 0.6 else limb((-1, 0), (1, 0), 0.03, 0.03)
    parts = [Part(shape, "bark", "", "dark")]
    for _ in range(int(rng.integers(0, 5))):
        leaf = blob(rng, 0.4) * [0.15, 0.07] + [rng.uniform(-1, 1), rng.normal() * 0.08]
        parts.append(Part(leaf, "leaf", "", "green"))
    put(rng, painter, parts, rng.uniform(0, 1, 2) * [width, height], size)


ARRANGEMENTS: dict[str, tuple[Callable[[Rng, Painter], None], float]] = {
    "few_large": (few_large, 4.0),
    "perspective_crowd": (perspective_crowd, 2.0),
    "group": (group, 1.2),
    "leaves": (leaves, 1.2),
    "skyline": (skyline, 1.2),
}
