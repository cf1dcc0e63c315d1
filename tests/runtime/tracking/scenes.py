"""Videos whose objects are known: shapes that move, cross, hide one another, enter and leave, and have parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from fastsam_deploy.runtime import Masks, Segments

SIZE_HW = (240, 320)


@dataclass(frozen=True)
class Shape:
    """One object.

    Attributes:
        number: its true number, from 0.
        kind: "circle", "box" or "triangle".
        start_xy, velocity_xy: middle in frame 0, pixels, and pixels a frame.
        radius_px: half its size; it grows by `growth` a frame.
        color: RGB.
        bend_px: how far it sways from side to side.
        part_of: number of the object that it is a part of and moves with, from -1 for none.
    """

    number: int
    kind: str
    start_xy: tuple[float, float]
    velocity_xy: tuple[float, float]
    radius_px: float
    color: tuple[int, int, int] = (255, 255, 255)
    growth: float = 1.0
    bend_px: float = 0.0
    part_of: int = -1

    def mask(self, frame: int) -> np.ndarray:
        """(h, w) bool, as if nothing were before it."""
        x, y = np.array(self.start_xy) + frame * np.array(self.velocity_xy)
        x += self.bend_px * np.sin(frame / 6)
        r = self.radius_px * self.growth**frame
        canvas = np.zeros(SIZE_HW, np.uint8)
        if self.kind == "circle":
            cv2.circle(canvas, (round(x), round(y)), round(r), 1, -1)
        else:
            corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)] if self.kind == "box" else [(0, -1), (1, 1), (-1, 1)]
            cv2.fillPoly(canvas, [np.rint([(x + r * u, y + r * v) for u, v in corners]).astype(np.int32)], 1)
        return canvas.astype(bool)


@dataclass(frozen=True)
class Seen:
    """One frame.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        masks: (n, h, w) bool, what is visible of each object; parts belong to their wholes.
        numbers: (n,) the true numbers.
    """

    image: np.ndarray
    masks: np.ndarray
    numbers: np.ndarray


def frames_of(shapes: list[Shape], count: int, least_px: int = 40) -> Iterator[Seen]:
    """The frames of a scene; later shapes lie in front of earlier ones. Less than `least_px` visible is not listed."""
    background = cv2.GaussianBlur(np.random.default_rng(0).integers(60, 120, (*SIZE_HW, 3), np.uint8), (0, 0), 3)
    for frame in range(count):
        whole = [shape.mask(frame) for shape in shapes]
        image, visible = background.copy(), []
        for i, (shape, mask) in enumerate(zip(shapes, whole, strict=True)):
            image[mask] = shape.color
            before = [
                other
                for later, other in zip(shapes[i + 1 :], whole[i + 1 :], strict=True)
                if later.part_of != shape.number
            ]
            visible.append(mask & ~np.any(before, 0) if before else mask)
        kept = [i for i, mask in enumerate(visible) if mask.sum() >= least_px]
        masks = np.array([visible[i] for i in kept]).reshape(-1, *SIZE_HW)
        yield Seen(image, masks, np.array([shapes[i].number for i in kept], np.int64))


def detected(
    seen: Seen, rng: np.random.Generator, drop: float = 0.0, noise: bool = False
) -> tuple[Segments, list[int]]:
    """Segments as a network would give them, and their true numbers: in any order, some missing, edges uneven."""
    order = [i for i in rng.permutation(len(seen.numbers)).tolist() if rng.random() >= drop]
    masks = [seen.masks[i] for i in order]
    if noise:
        element = np.ones((3, 3), np.uint8)
        change = [cv2.erode, cv2.dilate, lambda mask, _: mask]
        masks = [change[rng.integers(3)](mask.astype(np.uint8), element).astype(bool) for mask in masks]
    stack = Masks.from_dense(np.array(masks).reshape(-1, *SIZE_HW))
    scores = rng.uniform(0.45, 0.95, len(order)).astype(np.float32)
    segments = Segments.unprompted(stack.boxes_xyxy(), scores, np.zeros(len(order), np.int64), stack)
    return segments, [int(seen.numbers[i]) for i in order]


def share_kept(observed: list[tuple[int, int]]) -> float:
    """Of all observations (true number, id), the share that has the id that is usual for its object.

    An id that is usual for several objects counts for the one that has it most often.
    """
    kept, taken = 0, set[int]()
    counts = Counter(observed)
    used = set[int]()
    for (number, track), count in counts.most_common():
        if number not in used and track not in taken and track >= 0:
            used.add(number)
            taken.add(track)
            kept += count
    return kept / len(observed)


CROSSING = [
    Shape(0, "circle", (30, 80), (5, 0), 24, (220, 60, 60)),
    Shape(1, "circle", (290, 90), (-5, 0), 24, (60, 90, 230)),
    Shape(2, "box", (160, 20), (0, 4), 18, (240, 220, 60)),
    Shape(3, "triangle", (40, 215), (4, -3), 22, (60, 200, 90)),
]
"""Two circles of one size meet head-on, and a box and a triangle cross their ways."""

NESTED = [
    Shape(0, "box", (70, 120), (3, 0), 44, (200, 60, 60)),
    Shape(1, "circle", (70, 120), (3, 0), 26, (240, 230, 80), part_of=0),
    Shape(2, "box", (240, 90), (-3, 1), 40, (60, 90, 200)),
    Shape(3, "circle", (240, 90), (-3, 1), 30, (240, 240, 240), part_of=2),
    Shape(4, "circle", (240, 90), (-3, 1), 12, (20, 20, 20), part_of=3),
]
"""Boxes with circles in them, one with a circle in the circle, that pass in front of one another."""

HIDDEN = [
    Shape(0, "circle", (20, 120), (5, 0), 20, (220, 60, 60)),
    Shape(1, "triangle", (300, 190), (-6, 0), 20, (60, 200, 90)),
    Shape(2, "box", (160, 130), (0, 0), 62, (90, 90, 230)),
]
"""A circle and a triangle pass behind a large box: each is out of sight for many frames."""

GROWING = [
    Shape(0, "circle", (60, 60), (1, 1), 12, (220, 60, 60), growth=1.03),
    Shape(1, "box", (240, 180), (-1, -1), 50, (60, 90, 230), growth=0.975),
    Shape(2, "triangle", (150, 200), (0, -2), 20, (240, 220, 60), bend_px=25),
    Shape(3, "circle", (-10, 120), (7, 0), 18, (60, 200, 90)),
]
"""Objects that become larger and smaller, that sway, and one that enters and leaves."""

PASSING = [
    Shape(0, "circle", (40, 60), (5, 0), 24, (220, 60, 60)),
    Shape(1, "box", (280, 66), (-5, 0), 22, (60, 90, 230)),
    Shape(2, "triangle", (40, 180), (4, 0), 26, (60, 200, 90)),
    Shape(3, "circle", (270, 186), (-4, 0), 22, (240, 220, 60)),
]
"""Two pairs that meet: each hides the other one for some frames."""

SCENES = {"passing": PASSING, "crossing": CROSSING, "nested": NESTED, "hidden": HIDDEN, "growing": GROWING}


def shifted(shapes: list[Shape], rng: np.random.Generator) -> list[Shape]:
    """The scene with other places and speeds; parts stay with their wholes."""
    moves: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    changed = []
    for shape in shapes:
        root = shape.number if shape.part_of < 0 else next(k for k in (shape.part_of,))
        if shape.part_of < 0 or root not in moves:
            moves[shape.number] = rng.uniform(-8, 8, 2), rng.uniform(-0.6, 0.6, 2)
        else:
            moves[shape.number] = moves[root]
        step, speed = moves[shape.number]
        start, velocity = np.array(shape.start_xy) + step, np.array(shape.velocity_xy) + speed
        changed.append(replace(shape, start_xy=tuple(start.tolist()), velocity_xy=tuple(velocity.tolist())))
    return changed
