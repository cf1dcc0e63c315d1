"""Network inputs made from photographs, on which both an exported file and its checkpoint are run."""

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


@dataclass(frozen=True, eq=False)
class Batch:
    """One network input and where its photographs lie in it.

    Attributes:
        images: (b, 3, H, W) float32 RGB in [0, 1].
        places: b letterboxes.

    Example:
        >>> batch = batches_for(ModelSpec(imgsz=64), [np.zeros((30, 60, 3), np.uint8)])[0]
        >>> batch.images.shape, batch.places[0].content_hw
        ((1, 3, 32, 64), (32, 64))
    """

    images: NDArray[np.float32]
    places: tuple[Letterbox, ...]


def load_photographs(folder: Path | None = None) -> list[NDArray[np.uint8]]:
    """Load the photographs of a folder, sorted by name, as RGB uint8 (h, w, 3).

    Args:
        folder: None: the photographs that the package includes.

    Raises:
        ExportError: there is no such folder, or no photograph in it.
        ImageError: a photograph cannot be read.

    Example:
        >>> [photograph.shape for photograph in load_photographs()]
        [(512, 512, 3), (300, 451, 3), (400, 600, 3)]
    """
    source = Path(str(files("fastsam_deploy.export.photographs"))) if folder is None else folder
    if not source.is_dir():
        raise ExportError(f"{source}: no such folder; expected one with photographs to compare on")
    paths = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ExportError(f"{source}: holds no photograph; expected {', '.join(sorted(SUFFIXES))}")
    return [load_image(path) for path in paths]


def batches_for(spec: ModelSpec, photographs: Sequence[NDArray[np.uint8]]) -> list[Batch]:
    """Make network inputs of the photographs, in shapes that the file accepts.

    A file of fixed size is given full batches of its size. A dynamic one is given each photograph alone in its smallest
    rectangle, then three at once in a square of about half the size, so that batch, height and width all vary.

    Args:
        spec: of the file.
        photographs: RGB uint8 (h, w, 3), at least one.

    Example:
        >>> photograph = np.zeros((30, 60, 3), np.uint8)
        >>> [batch.images.shape for batch in batches_for(ModelSpec(imgsz=64), [photograph])]
        [(1, 3, 32, 64), (3, 3, 32, 32)]
        >>> [batch.images.shape for batch in batches_for(ModelSpec(batch=2, size_hw=(64, 96)), [photograph])]
        [(2, 3, 64, 96)]
    """
    if spec.fixed_hw is not None and spec.batch is not None:
        size = spec.batch
        count = -(-len(photographs) // size)
        repeated = [photographs[i % len(photographs)] for i in range(count * size)]
        return [_batch(repeated[i : i + size], spec.fixed_hw) for i in range(0, len(repeated), size)]
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
