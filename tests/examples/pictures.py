"""Generated pictures with known answers: a part with defects, an object that stands out, a town from above."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def _noise(hw: tuple[int, int], seed: int, sigma: float, amplitude: float) -> NDArray[np.float32]:
    field = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=hw).astype(np.float32), (0, 0), sigma)
    return (amplitude * field / field.std()).astype(np.float32)


def _textured(base: NDArray[np.float32], seed: int) -> Image:
    grain = _noise(base.shape[:2], seed, 0.8, 3.0) + _noise(base.shape[:2], seed + 1, 12, 4.0)
    return np.clip(base + grain[..., None], 0, 255).astype(np.uint8)


def part_with_defects() -> tuple[Image, dict[str, Mask]]:
    """A brushed metal plate with a stain, a dent and a hole."""
    height, width = 400, 560
    base = np.full((height, width, 3), (168, 172, 178), np.float32)
    base += np.random.default_rng(5).normal(0, 4, (height, 1, 1)).astype(np.float32)  # brushed along x
    masks = {}
    for name, color, center, axes, angle in (
        ("stain", (112, 66, 38), (150, 120), (44, 30), 25),
        ("dent", (70, 78, 96), (395, 110), (34, 22), -15),
        ("hole", (22, 22, 26), (330, 290), (26, 26), 0),
    ):
        mask = np.zeros((height, width), np.uint8)
        cv2.ellipse(mask, center, axes, angle, 0, 360, 1, -1)
        base[mask > 0] = color
        masks[name] = mask.astype(bool)
    return _textured(base, 1), masks


def object_that_stands_out() -> tuple[Image, Mask]:
    """A red balloon before hills, with dull stones in front."""
    height, width = 400, 600
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    base = (1 - rows) * np.array([150, 185, 220], np.float32) + rows * np.array([205, 215, 220], np.float32)
    base = np.broadcast_to(base, (height, width, 3)).copy()
    columns = np.arange(width)
    hill = (300 + 30 * np.sin(columns / 90)).astype(int)
    base[np.arange(height)[:, None] > hill] = (110, 130, 88)
    for x, y, r in ((90, 360, 24), (480, 350, 32), (560, 375, 20)):
        cv2.circle(base, (x, y), r, (124, 126, 110), -1)
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (310, 170), (74, 88), 0, 0, 360, 1, -1)
    base[mask > 0] = (208, 40, 44)
    return _textured(base, 3), mask.astype(bool)


def town() -> tuple[Image, list[Mask]]:
    """Roofs along two streets, with trees; 640 pixels a side."""
    side = 640
    base = np.full((side, side, 3), (112, 134, 86), np.float32)
    cv2.rectangle(base, (0, 290), (side, 345), (92, 92, 96), -1)
    cv2.rectangle(base, (300, 0), (350, side), (92, 92, 96), -1)
    rng = np.random.default_rng(9)
    masks = []
    roofs = ((182, 84, 62), (160, 96, 80), (206, 202, 196), (122, 88, 84), (196, 120, 84))
    for i, (x, y) in enumerate((x, y) for y in (80, 200, 440, 560) for x in (75, 205, 445, 570)):
        size = rng.integers(66, 92), rng.integers(50, 74)
        corners = cv2.boxPoints(((x, y), (float(size[0]), float(size[1])), float(rng.uniform(-12, 12))))
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 1)
        base[mask > 0] = roofs[i % len(roofs)]
        masks.append(mask.astype(bool))
    for x, y in ((140, 140), (260, 260), (510, 130), (390, 380), (140, 500), (600, 260), (520, 500), (30, 270)):
        cv2.circle(base, (x, y), int(rng.integers(12, 18)), (52, 88, 46), -1)
    return _textured(base, 7), masks


def iou(a: Mask, b: Mask) -> float:
    """Pixels in both by pixels in any."""
    return float((a & b).sum() / max((a | b).sum(), 1))
