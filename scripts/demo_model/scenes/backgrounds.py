"""What lies behind the things of a synthetic scene: land under a sky, patches, one blurred ground, a room."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .looks import colour, new_look
from .painter import STUFF, Painter, Rng, Size, blur, full, gradient, soft_field
from .shapes import bounds, outline, raster
from .textures import MAP_SIZE, shared_bank

SMOOTH_KINDS = ("cloud", "pink", "ripple", "warped")
GROUND_KINDS = ("pink", "fur", "ripple", "foliage", "pebbles", "strokes", "cells", "cloud", "bricks", "warped")


def ridge_line(rng: Rng, width: int, rough: float) -> np.ndarray:
    """A fractal height profile of one value per column, float (width,), about -1..1."""
    line, amplitude = np.zeros(width), 1.0
    for octave in range(1, 8):
        knots = rng.standard_normal(2**octave + 1) * amplitude
        line += np.interp(np.linspace(0, 2**octave, width), np.arange(2**octave + 1), knots)
        amplitude *= rough
    return line / max(np.abs(line).max(), 1e-6)


def below(rng: Rng, size_hw: Size, level: float, relief: float, rough: float) -> np.ndarray:
    """Alpha uint8 (H, W) of what lies under a horizon at `level` (0 top .. 1 bottom) of height `relief`."""
    height, width = size_hw
    line = (level + relief * ridge_line(rng, width, rough)) * height
    rows = np.arange(height, dtype=np.float32)[:, None]
    return (np.clip(rows - line[None].astype(np.float32) + 0.5, 0, 1) * 255).astype(np.uint8)


def scatter(rng: Rng, painter: Painter, alpha: np.ndarray, count: int) -> None:
    """Sprinkle specks without labels (stones, blossoms, litter) where `alpha` uint8 (H, W) lies; owners stay."""
    height, width = painter.size
    size = rng.uniform(0.006, 0.03) * min(height, width)
    shape, looks = outline(rng), [colour(rng, "any") for _ in range(int(rng.integers(1, 4)))]
    for _ in range(count):
        centre = rng.uniform(0, 1, 2) * [width, height]
        grow = size * (0.3 + 1.4 * centre[1] / height)
        c, s = np.cos(turn := rng.uniform(0, 6.3)), np.sin(turn)
        points = shape @ np.array([[c, s], [-s, c]]) * grow + centre
        rect = bounds(points, painter.size)
        cut = cv2.min(raster(points, rect), np.ascontiguousarray(alpha[rect[1] : rect[3], rect[0] : rect[2]]))
        tint = np.clip(looks[rng.integers(len(looks))] * rng.uniform(0.7, 1.3), 0, 255).astype(np.uint8)
        painter.blend(rect, cut, np.broadcast_to(tint, (*cut.shape, 3)))


def _layer(rng: Rng, painter: Painter, alpha: np.ndarray, family: str, plane: bool, parent: int = -1) -> int:
    """Paint one region of the background, perhaps with a gradient and specks; return its node."""
    node = painter.node(parent)
    kinds = SMOOTH_KINDS if family in ("sky", "cloud", "dusk") else GROUND_KINDS
    contrast = rng.uniform(2, 16) if family in ("sky", "dusk") else None
    painter.fill(alpha, painter.mood.look(rng, family, kinds, contrast=contrast), node, rng, plane)
    if rng.random() < 0.5:
        gradient(rng, painter, alpha)
    if family not in ("sky", "dusk") and rng.random() < 0.2:
        scatter(rng, painter, alpha, int(rng.integers(5, 60)))
    return node


def landscape(rng: Rng, painter: Painter) -> None:
    """Sky over layers of land or water under fractal horizons; hazier the farther."""
    sky = str(rng.choice(["sky", "sky", "cloud", "dusk"]))
    _layer(rng, painter, full(painter), sky, False)
    land = painter.node(labelled=bool(rng.random() < 0.35))
    level = rng.uniform(0.08, 0.6)
    haze, air = rng.uniform(0, 0.6), new_look(rng, sky).base
    for index in range(int(rng.integers(1, 5))):
        relief, rough = rng.choice([0.0, 0.02, 0.06, 0.15]), rng.uniform(0.35, 0.75)
        alpha = below(rng, painter.size, level, float(relief), rough)
        family = str(rng.choice(["green", "straw", "earth", "stone", "water", "dark"]))
        _layer(rng, painter, alpha, family, plane=relief < 0.03 and rng.random() < 0.7, parent=land)
        weight = (alpha * (haze * 0.5**index)).astype(np.uint8)
        painter.blend((0, 0, *painter.size[::-1]), weight, np.broadcast_to(air.astype(np.uint8), painter.image.shape))
        level += rng.uniform(0.08, 0.35)
        if level > 0.95:
            break


def patchwork(rng: Rng, painter: Painter) -> None:
    """A few regions between smooth or fractal borders, in related or unrelated looks."""
    count, cells = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    height, width = painter.size
    fields = [soft_field(rng, painter.size, cells) for _ in range(count)]
    if rng.random() < 0.6:  # fractal borders: coast lines, tree tops, scrub
        grey = shared_bank().pick(rng, "cloud").astype(np.float32) / 255 - 0.5
        rough = cv2.resize(grey[: MAP_SIZE // 2, : MAP_SIZE // 2], (width, height)) * rng.uniform(0.2, 1.5)
        fields = [plane + rough * rng.normal() for plane in fields]
    winner = np.argmax(fields, 0)
    family = str(rng.choice(STUFF))
    for index in range(count):
        alpha = np.where(winner == index, np.uint8(255), np.uint8(0))
        if rng.random() < 0.5:
            family = str(rng.choice(STUFF))
        _layer(rng, painter, alpha, family, plane=rng.random() < 0.15)


def backdrop(rng: Rng, painter: Painter) -> None:
    """One region, out of focus more often than not: the ground of a portrait or of a herd."""
    family = str(rng.choice(STUFF))
    _layer(rng, painter, full(painter), family, plane=rng.random() < 0.3)
    if rng.random() < 0.6:
        scatter(rng, painter, full(painter), int(rng.integers(10, 80)))
    if rng.random() < 0.6:
        blur(rng, painter.image, rng.uniform(1, 12))


def room(rng: Rng, painter: Painter) -> None:
    """Back wall, floor, and perhaps side walls and a ceiling, meeting in straight lines."""
    height, width = painter.size
    x0, x1 = sorted(rng.uniform(0.05, 0.95, 2) * width)
    y0, y1 = rng.uniform(0, 0.35) * height, rng.uniform(0.55, 0.9) * height
    wall = painter.mood.look(rng, str(rng.choice(["stone", "straw", "any", "earth"])))
    painter.fill(full(painter), wall, painter.node(), rng)
    far = 2.0 * max(height, width)
    faces = {"floor": ([x0, y1], [x1, y1], [far, far], [-far, far])}
    if rng.random() < 0.4:
        faces["left"] = ([x0, y0], [x0, y1], [-far, far], [-far, -far])
    if rng.random() < 0.4:
        faces["right"] = ([x1, y0], [x1, y1], [far, far], [far, -far])
    if rng.random() < 0.3:
        faces["ceiling"] = ([x0, y0], [x1, y0], [far, -far], [-far, -far])
    for name, corners in faces.items():
        alpha = raster(np.clip(np.array(corners, float), -far, far), (0, 0, width, height))
        side = name in ("left", "right") and rng.random() < 0.7
        look = painter.mood.look(rng, str(rng.choice(["stone", "earth", "any"])), near=wall.base if side else None)
        painter.fill(alpha, look, painter.node(), rng, plane=name == "floor")
        gradient(rng, painter, alpha)


BACKGROUNDS: dict[str, tuple[Callable[[Rng, Painter], None], float]] = {
    "landscape": (landscape, 3.5),
    "patchwork": (patchwork, 2.5),
    "backdrop": (backdrop, 2.5),
    "room": (room, 1.5),
}
