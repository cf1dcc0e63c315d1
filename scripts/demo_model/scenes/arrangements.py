"""Things of a synthetic scene and where they stand: painting an object, and arrangements of objects."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .looks import Look
from .objects import OBJECTS
from .painter import Mood, Painter, Rect, Rng, shade
from .shapes import Part, blob, bounds, limb, raster, ribbon


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


def _wardrobe(rng: Rng, mood: Mood, parts: list[Part], near: np.ndarray | None) -> dict[str, Look]:
    """One look per look name; a camouflaged object starts from the colour `near` (3,)."""
    looks: dict[str, Look] = {}
    for part in parts:
        if part.look not in looks:
            close = near if near is not None and (part.look == "body" or rng.random() < 0.5) else None
            looks[part.look] = mood.look(rng, part.family, near=close)
    return looks


def put(rng: Rng, painter: Painter, parts: list[Part], centre: np.ndarray, size: float, parent: int = -1,
        looks: dict[str, Look] | None = None) -> int:  # fmt: skip
    """Paint an object: shadow, parts, volume. Nodes: one for the whole, one per part label. Returns the whole's."""
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


def draw_object(rng: Rng, names: tuple[str, ...] = tuple(OBJECTS)) -> list[Part]:
    """Draw an object of one of `names` by their weights."""
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
    looks = _wardrobe(rng, painter.mood, parts, None)
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
