"""The canvas of a synthetic scene: paint, owners of pixels, and the labels that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from .looks import Look, colour, new_look
from .textures import KINDS

Rng = np.random.Generator
Size = tuple[int, int]
Rect = tuple[int, int, int, int]

MIN_AREA = 0.004  # of the image: smaller regions are texture, not things
SAME_REGION_IOU = 0.88  # two labels closer than this are one
STUFF = ("sky", "cloud", "green", "straw", "earth", "stone", "water", "dark", "any")


@dataclass
class Scene:
    """A picture and its regions.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        masks: bool (N, H, W), visible pixels of each labelled region; regions nest and overlap.
        parents: int (N,), index of the smallest labelled region that a mask is a part of, -1 for none.
    """

    image: np.ndarray
    masks: np.ndarray
    parents: np.ndarray


@dataclass(frozen=True)
class Mood:
    """What the regions of one scene have in common, as those of one photograph do.

    Attributes:
        contrast: range of the lightness spread inside a region, in grey levels.
        mixed: chance that a region shows two textures.
        colours: float32 (K, 3), the scene's own colours.
        loyalty: chance that a region takes its colour from them.
    """

    contrast: tuple[float, float] = (4.0, 70.0)
    mixed: float = 0.3
    colours: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    loyalty: float = 0.0

    @classmethod
    def draw(cls, rng: Rng) -> Mood:
        """Draw a mood: calm, mixed or busy; of few colours or many."""
        contrast, mixed = [((3.0, 25.0), 0.15), ((4.0, 70.0), 0.35), ((25.0, 85.0), 0.6)][rng.integers(3)]
        count = int(rng.integers(1, 5))
        colours = np.array([colour(rng, str(rng.choice(STUFF))) for _ in range(count)], np.float32)
        return cls(contrast, mixed, colours, float(rng.choice([0.0, 0.3, 0.8])))

    def look(self, rng: Rng, family: str, kinds: tuple[str, ...] = KINDS, near: np.ndarray | None = None,
             contrast: float | None = None) -> Look:  # fmt: skip
        """Draw a look that fits the mood; see `new_look`."""
        if near is None and contrast is None and len(self.colours) and rng.random() < self.loyalty:
            near = self.colours[rng.integers(len(self.colours))] * np.float32(rng.uniform(0.6, 1.4))
        return new_look(rng, family, kinds, near, contrast, self.mixed, self.contrast)


@dataclass
class Painter:
    """A canvas painted from back to front.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        owner: int16 (H, W), node that each pixel shows; -1 before anything is painted.
        mood: what the scene's regions have in common.
        parents: parent node of each node, -1 for none.
        labelled: whether each node is a region to report.
    """

    image: np.ndarray
    owner: np.ndarray
    mood: Mood = field(default_factory=Mood)
    parents: list[int] = field(default_factory=list)
    labelled: list[bool] = field(default_factory=list)

    @classmethod
    def blank(cls, size_hw: Size, mood: Mood | None = None) -> Painter:
        """Return an empty canvas of (height, width) pixels."""
        return cls(np.full((*size_hw, 3), 127, np.uint8), np.full(size_hw, -1, np.int16), mood or Mood())

    @property
    def size(self) -> Size:
        """Canvas (height, width)."""
        return self.owner.shape

    def node(self, parent: int = -1, labelled: bool = True) -> int:
        """Add a node to the tree of regions and return its number."""
        self.parents.append(parent)
        self.labelled.append(labelled)
        return len(self.parents) - 1

    def blend(self, rect: Rect, alpha: np.ndarray, paint: np.ndarray) -> None:
        """Mix `paint` uint8 (h, w, 3) into rectangle x0, y0, x1, y1 by `alpha` uint8 (h, w); owners stay."""
        x0, y0, x1, y1 = rect
        spot = self.image[y0:y1, x0:x1]
        weight = alpha.astype(np.float32) * (1 / 255)
        spot[...] = cv2.blendLinear(np.ascontiguousarray(paint), np.ascontiguousarray(spot), weight, 1 - weight)

    def own(self, rect: Rect, alpha: np.ndarray, node: int) -> None:
        """Give the pixels of the rectangle where `alpha` is over a half to `node`."""
        x0, y0, x1, y1 = rect
        self.owner[y0:y1, x0:x1][alpha > 127] = node

    def fill(self, alpha: np.ndarray, look: Look, node: int, rng: Rng, plane: bool = False) -> None:
        """Paint a region of the whole canvas given by `alpha` uint8 (H, W) and own it."""
        height, width = self.size
        paint = look.render_plane(rng, width, height) if plane else look.render(0, 0, width, height)
        rect = (0, 0, width, height)
        self.blend(rect, alpha, paint)
        self.own(rect, alpha, node)

    def regions(self, min_area: float) -> tuple[np.ndarray, np.ndarray]:
        """Collect the labelled nodes' visible pixels.

        Returns:
            masks bool (N, H, W), large enough and distinct, and the nearest kept ancestor of each, int (N,), or -1.
        """
        count = len(self.parents)
        member = np.zeros((count, count + 1), bool)  # one row per node: which owners it shows; last column is "none"
        for node in range(count):
            above = node
            while above >= 0:
                member[above, node] = True
                above = self.parents[above]
        areas = np.bincount(self.owner.ravel() + 1, minlength=count + 1)[1:]
        shown = member[:, :count] @ areas
        kept: list[int] = []
        for node in np.argsort(-shown, kind="stable"):
            if not self.labelled[node] or shown[node] < max(min_area * self.owner.size, 1):
                continue
            if not any(_same(member[node, :count], member[other, :count], areas) for other in kept):
                kept.append(int(node))
        masks = [member[node][self.owner] for node in kept]
        return np.array(masks, bool).reshape(-1, *self.size), self._kept_parents(kept)

    def _kept_parents(self, kept: list[int]) -> np.ndarray:
        place = {node: index for index, node in enumerate(kept)}
        parents = []
        for node in kept:
            above = self.parents[node]
            while above >= 0 and above not in place:
                above = self.parents[above]
            parents.append(place.get(above, -1))
        return np.array(parents, int)


def _same(first: np.ndarray, second: np.ndarray, areas: np.ndarray) -> bool:
    """Tell whether two sets of owners (bool (N,)) cover nearly the same pixels."""
    both = areas[first & second].sum()
    return bool(both > SAME_REGION_IOU * max(areas[first | second].sum(), 1))


def soft_field(rng: Rng, size_hw: Size, cells: int) -> np.ndarray:
    """Smooth noise, float32 (H, W), with about `cells` bumps along the longer side."""
    height, width = size_hw
    step = max(height, width) / cells
    coarse = rng.standard_normal((max(2, round(height / step)) + 1, max(2, round(width / step)) + 1))
    return cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def shade(image: np.ndarray, gain: np.ndarray) -> None:
    """Multiply an image view uint8 (h, w, 3) by `gain` float32 (h, w) in place."""
    image[...] = cv2.multiply(np.ascontiguousarray(image), cv2.merge([gain] * 3), dtype=cv2.CV_8U)


def gradient(rng: Rng, painter: Painter, alpha: np.ndarray | None = None, strength: float = 0.5) -> None:
    """Darken or brighten smoothly along a direction, over the canvas or where `alpha` uint8 (H, W) says."""
    height, width = painter.size
    turn = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else np.pi / 2 * rng.choice([-1, 1])
    ys = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(turn))
    xs = np.linspace(-1, 1, width, dtype=np.float32)[None] * np.float32(np.cos(turn))
    gain = np.exp((ys + xs) * np.float32(rng.uniform(0, strength)))
    if alpha is not None:
        gain = np.where(alpha > 127, gain, np.float32(1))
    shade(painter.image, gain)


def blur(rng: Rng, image: np.ndarray, sigma: float) -> None:
    """Blur an image uint8 (H, W, 3) in place; large blurs run on a smaller copy."""
    if sigma < 3:
        image[...] = cv2.GaussianBlur(image, (0, 0), sigma)
        return
    shrink = 2 if sigma < 6 else 4
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, width // shrink), max(1, height // shrink)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    image[...] = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def full(painter: Painter) -> np.ndarray:
    """Alpha uint8 (H, W) of the whole canvas."""
    return np.full(painter.size, 255, np.uint8)
