"""Synthetic scenes with nested region labels: dead leaves grown into landscapes, rooms, streets, herds and still lifes.

Occlusion makes the labels: things are painted from back to front, every pixel remembers its topmost owner, and a
label is the visible pixels of one node of a tree (part < object < group, or a region of the background). Textures,
shading, cast shadows, blur and noise never carry a label, so that a network learns to look through them.

    python -m scripts.demo_model.scenes.scene --preview sheet.png --seed 7
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from .arrangements import ARRANGEMENTS, foreground
from .backgrounds import BACKGROUNDS
from .looks import new_look
from .painter import MIN_AREA, Mood, Painter, Rng, Scene, Size, blur, gradient, shade, soft_field


def cast_shadows(rng: Rng, painter: Painter) -> None:
    """Dapple the canvas with light and dark that follow no region."""
    field = soft_field(rng, painter.size, int(rng.integers(2, 14)))
    edge = np.float32(rng.uniform(1, 7))
    dark = 1 / (1 + np.exp(-np.clip((field - np.float32(rng.uniform(-0.5, 1))) * edge, -30, 30)))
    shade(painter.image, (1 - dark * np.float32(rng.uniform(0.15, 0.6))).astype(np.float32))


def mirror_in_water(rng: Rng, painter: Painter) -> None:
    """Turn the lower part into water that mirrors what stands above it; one region, whatever it mirrors."""
    height, width = painter.size
    line = int(rng.uniform(0.5, 0.85) * height)
    rows = height - line
    mirrored = np.ascontiguousarray(painter.image[max(0, line - rows) : line][::-1])
    mirrored = cv2.resize(mirrored, (width, rows))
    shift = soft_field(rng, (rows, width), int(rng.integers(4, 30))) * rng.uniform(0, 4)
    ys, xs = np.mgrid[:rows, :width].astype(np.float32)
    mirrored = cv2.remap(mirrored, xs + shift, ys + shift * 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    water = new_look(rng, "water", ("ripple", "fur", "pink"), mixed=0).render(0, 0, width, rows)
    share = rng.uniform(0.25, 0.7)
    painter.image[line:] = cv2.addWeighted(mirrored, share, water, 1 - share, 0)
    painter.owner[line:] = painter.node()


def camera(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Lens and sensor: soft shadows aside, everything from blur to JPEG; uint8 (H, W, 3) in and out."""
    height, width = image.shape[:2]
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
    values = np.arange(256, dtype=np.float32) / 255
    gain, gamma, lift = rng.uniform(0.8, 1.2, 3), np.exp(rng.normal() * 0.25), rng.uniform(0, 0.12)
    contrast = rng.uniform(0.75, 1.1)
    # Exposure: a photographer seldom leaves a picture nearly black or white.
    mean = float(image.mean()) / 255
    gain = gain * np.clip(mean, 0.28, 0.7) / max(mean, 0.05)
    curve = np.stack([np.clip((values * g) ** gamma * contrast + lift, 0, 1) * 255 for g in gain], -1)
    image = cv2.LUT(image, curve.astype(np.uint8)[None])
    if rng.random() < 0.1:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.5:
        noise = cv2.randn(np.empty((height, width, 3), np.int16), 0, rng.uniform(1, 9))
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.6:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image


def _choose(rng: Rng, table: dict[str, tuple[Callable[[Rng, Painter], None], float]]) -> Callable[[Rng, Painter], None]:
    names = list(table)
    weights = np.array([table[name][1] for name in names])
    return table[names[int(rng.choice(len(names), p=weights / weights.sum()))]][0]


def scene(seed: int, size_hw: Size = (320, 480), min_area: float = MIN_AREA) -> Scene:
    """Paint the scene of `seed`; the same arguments give the same bytes.

    Args:
        seed: any non-negative integer.
        size_hw: (height, width) in pixels, at least 32 each.
        min_area: smallest labelled region as a share of the image.

    Raises:
        ValueError: the size or the area limit makes no scene.
    """
    if min(size_hw) < 32:
        raise ValueError(f"scene size: found (height, width) {size_hw}, expected at least 32 each; pass a larger one")
    if not 0 <= min_area < 1:
        raise ValueError(f"min_area: found {min_area}, expected a share of the image in [0, 1); 0.004 is the default")
    rng = np.random.default_rng([seed, *size_hw])
    cv2.setRNGSeed(int(rng.integers(1, 2**31 - 1)))  # cv2.randn draws the sensor noise
    painter = Painter.blank(size_hw, Mood.draw(rng))
    _choose(rng, BACKGROUNDS)(rng, painter)
    if rng.random() < 0.25:
        blur(rng, painter.image, rng.uniform(0.8, 6))
    if rng.random() < 0.97:
        _choose(rng, ARRANGEMENTS)(rng, painter)
    if rng.random() < 0.25:
        _choose(rng, ARRANGEMENTS)(rng, painter)
    if rng.random() < 0.06:
        mirror_in_water(rng, painter)
    if rng.random() < 0.15:
        foreground(rng, painter)
    if rng.random() < 0.35:
        cast_shadows(rng, painter)
    if rng.random() < 0.4:
        gradient(rng, painter)
    masks, parents = painter.regions(min_area)
    return Scene(camera(rng, painter.image), masks, parents)


def label_overlay(found: Scene) -> np.ndarray:
    """Draw each mask's outline in a colour of its own; uint8 (H, W, 3) RGB."""
    picture = cv2.addWeighted(found.image, 0.6, np.full_like(found.image, 128), 0.4, 0)
    rng = np.random.default_rng(0)
    for mask in found.masks:
        edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, edges, -1, [int(v) for v in rng.integers(60, 256, 3)], 2)
    return picture


def contact_sheet(seed: int, rows: int, columns: int, size_hw: Size) -> np.ndarray:
    """Tile scenes beside their outlines; uint8 (rows * H, columns * 2 * W, 3) RGB."""
    tiles = []
    for row in range(rows):
        scenes = [scene(seed + row * columns + column, size_hw) for column in range(columns)]
        tiles.append(np.concatenate([half for one in scenes for half in (one.image, label_overlay(one))], 1))
    return np.concatenate(tiles, 0)


def main() -> None:
    """Write a contact sheet."""
    parser = argparse.ArgumentParser(description="Preview the synthetic scenes.")
    parser.add_argument("--preview", type=Path, required=True, help="PNG to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(240, 360), metavar=("HEIGHT", "WIDTH"))
    args = parser.parse_args()
    sheet = contact_sheet(args.seed, args.rows, args.columns, tuple(args.size))
    if not cv2.imwrite(str(args.preview), sheet[..., ::-1]):
        raise SystemExit(f"--preview: cannot write {args.preview}; expected a .png path in an existing folder")
    print(f"wrote {args.rows * args.columns} scenes to {args.preview}")


if __name__ == "__main__":
    main()
