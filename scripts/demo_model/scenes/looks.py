"""Looks: a texture map coloured through a ramp, in the colours that photographs are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from .library import shared_library
from .textures import KINDS, MAP_SIZE, PATCH_KINDS, Rng, shared_bank

# Hue (degrees), saturation and value ranges of what photographs are made of; "any" keeps strange colours in.
FAMILIES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "sky": ((195, 235), (0.02, 0.6), (0.55, 1.0)),
    "cloud": ((20, 260), (0.0, 0.12), (0.6, 1.0)),
    "dusk": ((-20, 50), (0.2, 0.8), (0.4, 1.0)),
    "green": ((55, 140), (0.15, 0.8), (0.1, 0.7)),
    "straw": ((35, 60), (0.2, 0.65), (0.35, 0.9)),
    "earth": ((10, 45), (0.15, 0.65), (0.15, 0.75)),
    "stone": ((0, 260), (0.0, 0.15), (0.15, 0.9)),
    "dark": ((0, 360), (0.0, 0.5), (0.02, 0.25)),
    "water": ((160, 230), (0.05, 0.6), (0.15, 0.8)),
    "skin": ((8, 30), (0.2, 0.6), (0.25, 0.95)),
    "fur": ((12, 45), (0.05, 0.6), (0.08, 0.9)),
    "paint": ((0, 360), (0.35, 1.0), (0.25, 1.0)),
    "any": ((0, 360), (0.0, 0.8), (0.05, 1.0)),
}

PHOTOGRAPHED = 0.5  # share of looks that show a photographed texture, when a library of them is in use


def colour(rng: Rng, family: str) -> np.ndarray:
    """Draw one RGB colour of `family` as float32 (3,) in 0..255."""
    hue, saturation, value = (rng.uniform(*limits) for limits in FAMILIES[family])
    pixel = np.array([[[hue % 360, saturation, value]]], np.float32)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0] * 255


@dataclass(frozen=True)
class Look:
    """What a region is painted with.

    Attributes:
        grey: texture map, uint8 (MAP_SIZE, MAP_SIZE), or a photographed texture (MAP_SIZE, MAP_SIZE, 3).
        ramp: colour of each grey level, uint8 (256, 3) RGB; of each level of each channel for a photographed one.
        scale: pixels of the scene per pixel of the map.
        angle: direction of the texture in radians.
        offset: place in the map that the scene's origin shows, in map pixels.
        base: mean colour, float32 (3,); a look for a similar neighbour starts from it.
        over: second look that shows through in patches (stripes of a coat, dirt between grass), or None.
        patches: where it shows, float32 (MAP_SIZE, MAP_SIZE) of 0..1, or None.
    """

    grey: np.ndarray
    ramp: np.ndarray
    scale: float
    angle: float
    offset: tuple[float, float]
    base: np.ndarray
    over: Look | None = None
    patches: np.ndarray | None = None

    def render(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Paint the scene rectangle at (x, y) of width x height pixels; uint8 (height, width, 3) RGB."""
        paint = self._render_own(x, y, width, height)
        if self.over is None or self.patches is None:
            return paint
        top = self.over._render_own(x, y, width, height)
        weight = self._warp(self.patches, x, y, width, height)
        return cv2.blendLinear(top, paint, weight, 1 - weight)

    def _render_own(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        return self._tinted(self._warp(self.grey, x, y, width, height))

    def _tinted(self, levels: np.ndarray) -> np.ndarray:
        return self.ramp[levels] if levels.ndim == 2 else cv2.LUT(levels, self.ramp[None])

    def _warp(self, grey: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
        c, s = np.cos(self.angle) / self.scale, np.sin(self.angle) / self.scale
        matrix = np.array([[c, -s, c * x - s * y + self.offset[0]], [s, c, s * x + c * y + self.offset[1]]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(grey, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)

    def render_plane(self, rng: Rng, width: int, height: int) -> np.ndarray:
        """Paint a plane that recedes towards the top edge; uint8 (height, width, 3) RGB."""
        near, far = MAP_SIZE / rng.uniform(1.0, 3.0) / self.scale, MAP_SIZE * rng.uniform(0.9, 1.6)
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        middle = MAP_SIZE / 2
        source = np.array(
            [[middle - far, 0], [middle + far, 0], [middle + near / 2, MAP_SIZE], [middle - near / 2, MAP_SIZE]],
            np.float32,
        )
        matrix = cv2.getPerspectiveTransform(source, corners)
        grey = cv2.warpPerspective(self.grey, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
        return self._tinted(grey)


def _ramp(rng: Rng, base: np.ndarray, contrast: float) -> np.ndarray:
    """Build 256 colours around `base` whose lightness spreads by `contrast`; uint8 (256, 3)."""
    count = int(rng.integers(2, 6))
    light = rng.standard_normal(count) * contrast
    if rng.random() < 0.6:
        light = np.sort(light)
    tint = rng.standard_normal((count, 3)) * contrast * rng.choice([0.1, 0.25, 0.7], p=[0.6, 0.3, 0.1])
    # Light scales colour rather than adding grey: shadows of a red cloth are dark red.
    knots = base * (1 + light[:, None] / 110) + 0.35 * light[:, None] + tint
    grid = np.linspace(0, count - 1, 256)
    channels = [np.interp(grid, np.arange(count), knots[:, channel]) for channel in range(3)]
    return np.clip(np.stack(channels, 1), 0, 255).astype(np.uint8)


def _photographed_look(rng: Rng, base: np.ndarray, contrast: float) -> Look:
    """Draw a look of a photographed texture, in its own colours or moved to the colour `base` (3,)."""
    picture = shared_library().draw_texture(rng)
    low, spread = picture.reshape(-1, 3).mean(0), max(float(picture.std()), 1.0)
    moved = rng.random() < 0.6
    middle = base if moved else low * rng.uniform(0.7, 1.3)
    gain = np.clip(contrast / spread, 0.15, 1.6) if moved else rng.uniform(0.5, 1.2)
    ramp = (np.arange(256)[:, None] - low) * gain + middle
    scale = float(np.exp(rng.uniform(np.log(0.35), np.log(1.6))))
    offset = tuple(float(v) for v in rng.uniform(0, MAP_SIZE, 2))
    colours = np.clip(ramp, 0, 255).astype(np.uint8)
    return Look(picture, colours, scale, rng.uniform(0, 2 * np.pi), offset, np.asarray(middle, np.float32))


def _plain_look(rng: Rng, base: np.ndarray, kinds: tuple[str, ...], contrast: float) -> Look:
    """Draw a look of one texture around the colour `base` (3,)."""
    if shared_library().textures and rng.random() < PHOTOGRAPHED:
        return _photographed_look(rng, base, contrast)
    grey = shared_bank().pick(rng, str(rng.choice(kinds)))
    scale = float(np.exp(rng.uniform(np.log(0.5), np.log(1.8))))
    offset = tuple(float(v) for v in rng.uniform(0, MAP_SIZE, 2))
    return Look(grey, _ramp(rng, base, contrast), scale, rng.uniform(0, 2 * np.pi), offset, base.astype(np.float32))


def new_look(
    rng: Rng,
    family: str = "any",
    kinds: tuple[str, ...] = KINDS,
    near: np.ndarray | None = None,
    contrast: float | None = None,
    mixed: float = 0.3,
    spread: tuple[float, float] = (4.0, 70.0),
) -> Look:
    """Draw a look.

    Args:
        family: colour family, a key of `FAMILIES`.
        kinds: texture kinds to choose from.
        near: an RGB colour (3,) to stay close to instead of drawing one of `family`.
        contrast: spread of lightness in grey levels; None draws one from `spread`.
        mixed: chance that a second texture shows through in patches. The region stays one region: this is what
            teaches that a change of texture alone need not be a border.
        spread: range of contrasts.
    """
    base = colour(rng, family) if near is None else np.clip(near + rng.standard_normal(3) * 14, 4, 252)
    drawn = float(np.exp(rng.uniform(*np.log(spread)))) if contrast is None else contrast
    look = _plain_look(rng, base, kinds, drawn)
    if contrast is not None or rng.random() >= mixed:
        return look
    second = colour(rng, family) if rng.random() < 0.5 else np.clip(base * rng.uniform(0.3, 1.6), 0, 255)
    over = _plain_look(rng, second, kinds, drawn * rng.uniform(0.3, 1))
    grey = shared_bank().pick(rng, str(rng.choice(PATCH_KINDS)))
    level = np.arange(256, dtype=np.float32)
    curve = np.clip((level - rng.uniform(70, 190)) * rng.uniform(0.01, 0.12) + 0.5, 0, 1).astype(np.float32)
    return replace(look, over=over, patches=curve[grey])
