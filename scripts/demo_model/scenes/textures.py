"""Grey texture maps: what the regions of a synthetic scene are filled with.

A `TextureBank` is made once per process from a fixed seed. A region then takes a random crop of one map, turned
and scaled, and colours it through a ramp of 256 colours, which costs far less than making a texture per region.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

MAP_SIZE = 512
BANK_SEED = 20_250
VARIANTS = 7

Rng = np.random.Generator


def to_bytes(field: np.ndarray) -> np.ndarray:
    """Stretch a float field (H, W) to uint8 so that mean ± 2.2 deviations span 0..255."""
    spread = max(float(field.std()), 1e-6)
    return np.clip(128 + (field - field.mean()) * (58 / spread), 0, 255).astype(np.uint8)


def _frequencies(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequency grids (fy, fx), each broadcastable to (size, size // 2 + 1), in cycles per pixel."""
    return np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]


def filtered_noise(rng: Rng, weight: np.ndarray, size: int = MAP_SIZE) -> np.ndarray:
    """Filter white noise by `weight` (size, size // 2 + 1) in the frequency domain; float (size, size), tileable."""
    return np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * weight, (size, size))


def power_noise(rng: Rng, slope: float) -> np.ndarray:
    """Return 1/f**slope noise as float (MAP_SIZE, MAP_SIZE)."""
    fy, fx = _frequencies(MAP_SIZE)
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1
    weight = radius**-slope
    weight[0, 0] = 0
    return filtered_noise(rng, weight)


def _pink(rng: Rng) -> np.ndarray:
    return power_noise(rng, rng.uniform(0.5, 1.3))


def _cloud(rng: Rng) -> np.ndarray:
    return power_noise(rng, rng.uniform(1.4, 2.4))


def _marble(rng: Rng) -> np.ndarray:
    """Folded noise: veins where the field crosses zero."""
    field = power_noise(rng, rng.uniform(1.3, 1.9))
    return -(np.abs(field) ** rng.uniform(0.4, 1.0))


def _warped(rng: Rng) -> np.ndarray:
    """Noise looked up at places displaced by other noise: swirls."""
    source = to_bytes(power_noise(rng, rng.uniform(0.9, 1.6)))
    ys, xs = np.mgrid[:MAP_SIZE, :MAP_SIZE].astype(np.float32)
    reach = rng.uniform(8, 40)
    dx, dy = (power_noise(rng, 2.0) for _ in range(2))
    map_x = (xs + dx / dx.std() * reach).astype(np.float32)
    map_y = (ys + dy / dy.std() * reach).astype(np.float32)
    return cv2.remap(source, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT).astype(np.float32)


def _fur(rng: Rng) -> np.ndarray:
    """Strokes along one direction: fur, grass, wood grain, brushed metal."""
    fy, fx = _frequencies(MAP_SIZE)
    length, width = rng.uniform(12, 50), rng.uniform(1.0, 3.0)
    weight = np.exp(-((fy * length) ** 2 + (fx * width) ** 2) * 4)
    return filtered_noise(rng, weight) + 0.3 * filtered_noise(rng, weight**0.3)


def _ripple(rng: Rng) -> np.ndarray:
    """Band-passed noise stretched sideways: water, sand, folds of cloth."""
    fy, fx = _frequencies(MAP_SIZE)
    centre, ratio = rng.uniform(0.02, 0.12), rng.uniform(2, 6)
    radius = np.hypot(fy, fx * ratio)
    return filtered_noise(rng, np.exp(-(((radius - centre) / (0.4 * centre)) ** 2)))


def _spots(rng: Rng) -> np.ndarray:
    """Band-passed noise pushed to two levels: spots and mazes of an animal's coat."""
    fy, fx = _frequencies(MAP_SIZE)
    centre = rng.uniform(0.015, 0.06)
    field = filtered_noise(rng, np.exp(-(((np.hypot(fy, fx) - centre) / (0.25 * centre)) ** 2)))
    return np.tanh((field / field.std() + rng.uniform(-0.8, 0.8)) * rng.uniform(2, 6))


def _stripes(rng: Rng) -> np.ndarray:
    """Warped stripes, between sinusoidal and hard-edged."""
    xs = np.arange(MAP_SIZE)[None, :]
    bend = power_noise(rng, 2.0)
    period = MAP_SIZE / rng.integers(12, 50)
    wave = np.sin(2 * np.pi * xs / period + bend / bend.std() * rng.uniform(0, 2.5))
    return np.tanh(wave * rng.uniform(0.5, 6))


def _cells(rng: Rng) -> np.ndarray:
    """Cells of the nearest of random points, toned one by one, dark or not at the joints: scales, paving, stone."""
    count = int(rng.integers(150, 2500))
    seeds = np.full((MAP_SIZE, MAP_SIZE), 255, np.uint8)
    points = rng.integers(0, MAP_SIZE, (count, 2))
    seeds[points[:, 0], points[:, 1]] = 0
    distance, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    tone = rng.standard_normal(int(label.max()) + 1)[label]
    return tone * rng.uniform(0.3, 1) - distance / distance.std() * rng.uniform(0, 0.8)


def _foliage(rng: Rng) -> np.ndarray:
    """Small overlapping leaves (ellipses), each of one tone: a dead-leaves pattern that counts as ONE texture."""
    canvas = np.full((MAP_SIZE, MAP_SIZE), 60, np.uint8)
    largest, slim = rng.uniform(5, 15), rng.uniform(0.25, 1)
    lean, spread = rng.uniform(0, 180), rng.uniform(10, 180)
    for _ in range(int(500_000 / largest**2)):
        x, y = rng.uniform(0, MAP_SIZE, 2)
        length = largest * rng.uniform(0.2, 1)
        angle = lean + rng.uniform(-spread, spread)
        box = ((x, y), (length * 2, length * 2 * slim * rng.uniform(0.6, 1)), angle)
        cv2.ellipse(canvas, box, int(rng.integers(0, 256)), -1, cv2.LINE_AA)
    return canvas.astype(np.float32)


def _pebbles(rng: Rng) -> np.ndarray:
    """Shaded discs with a dark outline: pebbles, fruit, a crowd from afar."""
    canvas = np.full((MAP_SIZE, MAP_SIZE), 20, np.uint8)
    largest = rng.uniform(4, 13)
    for _ in range(int(400_000 / largest**2)):
        x, y = (int(v) for v in rng.uniform(0, MAP_SIZE, 2))
        radius = int(max(2, largest * rng.uniform(0.4, 1)))
        tone = int(rng.integers(60, 220))
        cv2.circle(canvas, (x, y), radius, tone // 2, -1, cv2.LINE_AA)
        cv2.circle(canvas, (x - radius // 6, y - radius // 6), max(1, radius * 3 // 4), tone, -1, cv2.LINE_AA)
    return canvas.astype(np.float32)


def _bricks(rng: Rng) -> np.ndarray:
    """Offset rows of rectangles with joints: bricks, tiles, planks, shingles, rows of windows."""
    high = int(rng.integers(6, 28))
    wide = int(high * rng.uniform(0.6, 5))
    joint = max(1, int(high * rng.uniform(0.05, 0.35)))
    row, column = np.indices((MAP_SIZE, MAP_SIZE))
    line = row // high
    shifted = column + line * int(wide * rng.choice([0, 0.5, 0.37]))
    tone = rng.standard_normal(4096)[(line * 67 + shifted // wide) % 4096] * rng.uniform(0, 1)
    gap = (row % high < joint) | (shifted % wide < joint)
    return np.where(gap, rng.choice([-2.0, 2.0]), tone)


def _strokes(rng: Rng) -> np.ndarray:
    """Many straight strokes on a plain ground: hay, twigs, grass blades, scratches, wires."""
    canvas = np.full((MAP_SIZE, MAP_SIZE), int(rng.integers(30, 220)), np.uint8)
    lean, spread, length = rng.uniform(0, np.pi), rng.uniform(0.1, 1.6), rng.uniform(10, 60)
    for _ in range(int(rng.integers(500, 6000))):
        start = rng.uniform(0, MAP_SIZE, 2)
        angle = lean + rng.normal() * spread
        end = start + length * rng.uniform(0.3, 1) * np.array([np.cos(angle), np.sin(angle)])
        ends = [tuple(int(v) for v in point) for point in (start, end)]
        cv2.line(canvas, ends[0], ends[1], int(rng.integers(0, 256)), int(rng.integers(1, 3)), cv2.LINE_AA)
    return canvas.astype(np.float32)


MAKERS: dict[str, Callable[[Rng], np.ndarray]] = {
    "pink": _pink,
    "cloud": _cloud,
    "marble": _marble,
    "warped": _warped,
    "fur": _fur,
    "ripple": _ripple,
    "spots": _spots,
    "stripes": _stripes,
    "cells": _cells,
    "foliage": _foliage,
    "pebbles": _pebbles,
    "bricks": _bricks,
    "strokes": _strokes,
}
KINDS = tuple(MAKERS)
# Patches of a second texture come from maps without large structure: large patches would be regions to a person.
PATCH_KINDS = ("pink", "spots", "stripes", "foliage", "fur", "strokes", "cells")


class TextureBank:
    """Grey maps by kind: `maps[kind]` is a list of uint8 arrays (MAP_SIZE, MAP_SIZE)."""

    def __init__(self, seed: int = BANK_SEED, variants: int = VARIANTS) -> None:
        self.maps: dict[str, list[np.ndarray]] = {}
        for number, (kind, make) in enumerate(MAKERS.items()):
            rng = np.random.default_rng([seed, number])
            self.maps[kind] = [to_bytes(make(rng)) for _ in range(variants)]

    def pick(self, rng: Rng, kind: str) -> np.ndarray:
        """Return one map of `kind`, blended half of the time with one of another kind; uint8 (MAP_SIZE, MAP_SIZE)."""
        chosen = self.maps[kind][rng.integers(len(self.maps[kind]))]
        if rng.random() < 0.5:
            return chosen
        other = self.maps[str(rng.choice(KINDS))]
        share = rng.uniform(0.1, 0.4)
        return cv2.addWeighted(chosen, 1 - share, other[rng.integers(len(other))], share, 0)


_BANK: list[TextureBank] = []


def shared_bank() -> TextureBank:
    """Return this process's bank, made on the first call (about two seconds)."""
    if not _BANK:
        _BANK.append(TextureBank())
    return _BANK[0]
