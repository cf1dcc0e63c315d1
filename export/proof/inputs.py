"""Network inputs made of photographs: what an exported file and its checkpoint are both run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime.spec import ModelSpec
from ...runtime.stages.image import SUFFIXES, load_image
from ...runtime.stages.letterbox import Letterbox, fit, fit_rectangle, letterbox
from ..errors import ExportError


@dataclass(frozen=True)
class Batch:
    """One network input and where its photographs lie in it.

    Attributes:
        images: (b, 3, H, W) float32 RGB in [0, 1].
        places: b letterboxes.
    """

    images: NDArray[np.float32]
    places: tuple[Letterbox, ...]


def load_photographs(folder: Path | None = None) -> list[NDArray[np.uint8]]:
    """RGB uint8 (h, w, 3) photographs of a folder, by name; those that come with the package where it is None.

    Raises:
        ExportError: no such folder, or no photograph in it.
        ImageError: one cannot be read.
    """
    place = Path(str(files("fastsam_deploy.export.photographs"))) if folder is None else folder
    if not place.is_dir():
        raise ExportError(f"{place}: no such folder; expected one with photographs to compare on")
    paths = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ExportError(f"{place}: holds no photograph; expected {', '.join(sorted(SUFFIXES))}")
    return [load_image(path) for path in paths]


def batches_for(spec: ModelSpec, photographs: Sequence[NDArray[np.uint8]]) -> list[Batch]:
    """Every photograph in the shape(s) that the file takes.

    A file of fixed size gets full batches of its size. A dynamic one gets each photograph alone in its smallest
    rectangle, then three at once in a square of about half the size: other batch, other height, other width.
    """
    if spec.fixed_hw is not None and spec.batch is not None:
        size = spec.batch
        count = -(-len(photographs) // size)
        taken = [photographs[i % len(photographs)] for i in range(count * size)]
        return [_batch(taken[i : i + size], spec.fixed_hw) for i in range(0, len(taken), size)]
    alone = [
        _batch([photo], fit_rectangle((photo.shape[0], photo.shape[1]), spec.imgsz, spec.stride).input_hw)
        for photo in photographs
    ]
    half = spec.imgsz // 2 // spec.stride * spec.stride
    side = half if half >= spec.stride else spec.imgsz + spec.stride
    three = [photographs[i % len(photographs)] for i in range(3)]
    return [*alone, _batch(three, (side, side))]


def _batch(photographs: Sequence[NDArray[np.uint8]], input_hw: tuple[int, int]) -> Batch:
    places = tuple(fit((photo.shape[0], photo.shape[1]), input_hw) for photo in photographs)
    images = np.stack([letterbox(photo, place) for photo, place in zip(photographs, places, strict=True)])
    return Batch(images, places)
