"""What users take away: what is shown, as files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError, ParameterError
from ..formats import coco, labelmap, yolo
from ..render import cutout, draw_prompts, draw_segments, encode_image
from ..segments import Prompt, Segments


@dataclass(frozen=True)
class Download:
    """A file.

    Example:
        >>> Download("cat.txt", "text/plain", b"").name
        'cat.txt'
    """

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, eq=False)
class Shown:
    """What is on the page.

    Attributes:
        name: of the image's file.
        pixels: (h, w, 3) uint8 RGB.
        segments: those that are shown.
        prompt: that they answer.
        contours: whether they are outlined.

    Example:
        >>> Shown("a/cat.jpg", np.zeros((4, 5, 3), np.uint8), Segments.empty((4, 5)), None, True).stem
        'cat'
    """

    name: str
    pixels: NDArray[np.uint8]
    segments: Segments
    prompt: Prompt | None
    contours: bool

    @property
    def stem(self) -> str:
        """Name of the image without folder and suffix."""
        return PurePosixPath(self.name.replace("\\", "/")).stem or "image"


def _overlay(shown: Shown) -> Download:
    drawn = draw_segments(shown.pixels, shown.segments, contours=shown.contours)
    name = f"{shown.stem}.overlay.jpg"
    return Download(name, "image/jpeg", encode_image(name, draw_prompts(drawn, shown.prompt)))


def _cutout(shown: Shown) -> Download:
    segments = shown.segments[shown.segments.areas > 0]
    if not len(segments):
        raise FastSamError("nothing is selected that could be cut out; click on an object first")
    whole = replace(segments[0], masks=segments.masks.merged(clean=False))
    name = f"{shown.stem}.cutout.png"
    return Download(name, "image/png", encode_image(name, cutout(shown.pixels, whole, 0)))


def _coco(shown: Shown) -> Download:
    content = coco.encode(shown.segments, file_name=PurePosixPath(shown.name).name, boxes="masks")
    return Download(f"{shown.stem}.coco.json", "application/json", content)


def _yolo(shown: Shown) -> Download:
    return Download(f"{shown.stem}.txt", "text/plain", yolo.encode(shown.segments))


def _labelmap(shown: Shown) -> Download:
    return Download(f"{shown.stem}.labelmap.png", "image/png", labelmap.encode(shown.segments))


KINDS = {
    "overlay": ("Overlay", _overlay),
    "cutout": ("Cut-out", _cutout),
    "coco": ("COCO", _coco),
    "yolo": ("YOLO", _yolo),
    "labelmap": ("Label map", _labelmap),
}
"""Kind → its title and what makes it of what is shown."""


def download(kind: str, shown: Shown) -> Download:
    """A file of what is shown.

    Args:
        kind: one of `KINDS`.
        shown: an image and segments of it.

    Raises:
        ParameterError: there is no such kind. FastSamError: the file cannot be made.

    Example:
        >>> download("yolo", Shown("cat.jpg", np.zeros((4, 5, 3), np.uint8), Segments.empty((4, 5)), None, True))
        Download(name='cat.txt', media_type='text/plain', content=b'')
    """
    if kind not in KINDS:
        raise ParameterError(f"download is {kind!r:.60}, expected one of {', '.join(KINDS)}")
    _, make = KINDS[kind]
    return make(shown)
