"""Cut-outs and textures of free picture collections, for scenes that look more like photographs.

A library is a folder that `scripts.demo_model.collect` fills:

    cutouts/NAME.png     RGBA; alpha is the object's mask
    cutouts/NAME.npz     `parts` uint8 (H, W): 0 for none, k for the object's k-th part
    textures/NAME.jpg    RGB, one material a picture
    photographs/NAME.jpg RGB, pictures of whole scenes

Without a library (the default) scenes are painted from computed shapes and textures only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

Rng = np.random.Generator
VARIABLE = "FASTSAM_DEMO_LIBRARY"  # folder of the library; processes that paint inherit it


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object with its mask.

    Attributes:
        pixels: uint8 (H, W, 4) RGBA.
        parts: uint8 (H, W), number of the part that each pixel belongs to, 0 for none.
    """

    pixels: np.ndarray
    parts: np.ndarray


@dataclass(frozen=True)
class Library:
    """The files of a library; pictures are read when they are drawn.

    Attributes:
        cutouts: PNG files of each collection; a small collection is drawn from as often as a large one.
        textures: JPEG files.
    """

    cutouts: tuple[tuple[Path, ...], ...] = ()
    textures: tuple[Path, ...] = ()
    kept: dict[Path, np.ndarray] = field(default_factory=dict, compare=False)

    @classmethod
    def open(cls, folder: Path) -> Library:
        """List the library in `folder`."""
        pictures = sorted((folder / "cutouts").glob("*.png"))
        collections = sorted({path.name.rpartition("-")[0] for path in pictures})
        cutouts = tuple(tuple(p for p in pictures if p.name.rpartition("-")[0] == name) for name in collections)
        textures = tuple(sorted((folder / "textures").glob("*.jpg")))
        if not cutouts or not textures:
            raise ValueError(f"{folder}: found {len(pictures)} cut-outs and {len(textures)} textures, expected some of "
                             "each; fill the folder with scripts.demo_model.collect")  # fmt: skip
        return cls(cutouts, textures)

    def draw_cutout(self, rng: Rng) -> Cutout:
        """Draw a cut-out."""
        collection = self.cutouts[rng.integers(len(self.cutouts))]
        path = collection[rng.integers(len(collection))]
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        with np.load(path.with_suffix(".npz")) as stored:
            return Cutout(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA), stored["parts"])

    def draw_texture(self, rng: Rng) -> np.ndarray:
        """Draw a texture, uint8 (H, W, 3) RGB."""
        path = self.textures[rng.integers(len(self.textures))]
        if path not in self.kept:
            self.kept[path] = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return self.kept[path]


_SHARED: list[Library] = []


def shared_library() -> Library:
    """Return this process's library: that of the folder in FASTSAM_DEMO_LIBRARY, or an empty one."""
    if not _SHARED:
        folder = os.environ.get(VARIABLE)
        _SHARED.append(Library.open(Path(folder)) if folder else Library())
    return _SHARED[0]
