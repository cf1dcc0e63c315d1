"""Outlines of synthetic things: polygons in object coordinates (about -1..1, y down), and their rasters."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Rng = np.random.Generator


@dataclass(frozen=True)
class Part:
    """A polygon of an object.

    Attributes:
        outline: float (N, 2) x, y in object coordinates.
        look: name of the look; parts of one name wear the same.
        label: name of the labelled part it belongs to, "" when it only belongs to the whole.
        family: colour family of a new look of that name.
    """

    outline: np.ndarray
    look: str = "body"
    label: str = ""
    family: str = "any"


def circle_angles(count: int) -> np.ndarray:
    """Return `count` angles around the circle, float (count,)."""
    return np.linspace(0, 2 * np.pi, count, endpoint=False)


def polar(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Turn radii and angles (N,) into points (N, 2)."""
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def blob(rng: Rng, roughness: float | None = None, count: int = 96) -> np.ndarray:
    """Closed curve of random Fourier radii (count, 2); roughness 0 is a circle, 0.5 smooth, 1 fractal."""
    rough = rng.uniform(0.15, 0.9) if roughness is None else roughness
    angle = circle_angles(count)
    radius = np.ones(count)
    for k in range(1, 24):
        amplitude = rng.normal() * 0.45 * rough * k ** -(2.3 - 1.3 * rough)
        radius += amplitude * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    points = polar(np.clip(radius, 0.12, None), angle)
    return points / np.abs(points).max()


def superformula(rng: Rng) -> np.ndarray:
    """Gielis curve (120, 2): petals, stars, rounded squares."""
    angle = circle_angles(120)
    order, n1, n2, n3 = rng.integers(2, 9), rng.uniform(0.5, 6), rng.uniform(0.5, 6), rng.uniform(0.5, 6)
    inner = np.abs(np.cos(order * angle / 4)) ** n2 + np.abs(np.sin(order * angle / 4)) ** n3
    radius = np.clip(inner, 1e-3, None) ** (-1 / n1)
    points = polar(radius, angle)
    return points / np.abs(points).max()


def polygon(rng: Rng) -> np.ndarray:
    """Polygon (3..9, 2), convex or not, with corners on random radii."""
    count = int(rng.integers(3, 10))
    angle = np.sort(circle_angles(count) + rng.uniform(-0.35, 0.35, count))
    points = polar(rng.uniform(0.6 if rng.random() < 0.6 else 0.25, 1, count), angle)
    return points / np.abs(points).max()


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    """Ellipse (28, 2) about (x, y)."""
    points = polar(np.ones(28), circle_angles(28)) * [rx, ry]
    c, s = np.cos(turn), np.sin(turn)
    return points @ np.array([[c, s], [-s, c]]) + [x, y]


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Axis-aligned rectangle (4, 2)."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def limb(start: tuple[float, float], end: tuple[float, float], r0: float, r1: float) -> np.ndarray:
    """Capsule (18, 2) from `start` (radius r0) to `end` (radius r1)."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    heading = np.arctan2(b[1] - a[1], b[0] - a[0])
    half = np.linspace(np.pi / 2, 3 * np.pi / 2, 9) + heading
    return np.concatenate([a + polar(np.full(9, r0), half), b + polar(np.full(9, r1), half + np.pi)])


def ribbon(rng: Rng, width: float) -> np.ndarray:
    """Bent strip (48, 2): a branch, a rope, a road, a snake."""
    x = np.linspace(-1, 1, 24)
    y = sum(rng.normal() * 0.3 / k * np.sin(k * np.pi * x / 2 + rng.uniform(0, 6)) for k in range(1, 5))
    thick = width * (1 + rng.uniform(-0.6, 0.6) * x)
    return np.concatenate([np.stack([x, y - thick], 1), np.stack([x, y + thick], 1)[::-1]])


def outline(rng: Rng) -> np.ndarray:
    """Draw a random closed shape of any of the simple sorts."""
    sort = rng.random()
    if sort < 0.45:
        return blob(rng)
    if sort < 0.6:
        return superformula(rng)
    if sort < 0.75:
        return polygon(rng)
    if sort < 0.87:
        return ellipse(0, 0, 1, rng.uniform(0.3, 1))
    return box(-1, -rng.uniform(0.2, 1), 1, rng.uniform(0.2, 1)) if rng.random() < 0.6 else ribbon(rng, 0.12)


def bounds(points: np.ndarray, size_hw: tuple[int, int], margin: int = 2) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 of the pixel rectangle that holds `points` (N, 2), cut to the image; may be empty."""
    low, high = np.floor(points.min(0)) - margin, np.ceil(points.max(0)) + margin
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    return x0, y0, min(int(high[0]) + 1, size_hw[1]), min(int(high[1]) + 1, size_hw[0])


def raster(points: np.ndarray, rect: tuple[int, int, int, int]) -> np.ndarray:
    """Draw a polygon (N, 2) in pixels into the rectangle x0, y0, x1, y1; alpha uint8 (y1 - y0, x1 - x0)."""
    x0, y0, x1, y1 = rect
    alpha = np.zeros((y1 - y0, x1 - x0), np.uint8)
    fixed = np.round((points - [x0, y0]) * 16).astype(np.int32)
    cv2.fillPoly(alpha, [fixed], 255, cv2.LINE_AA, shift=4)
    return alpha
