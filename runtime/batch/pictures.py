"""Pictures of an answer, for each image of a run: overlays, masks, cut-outs and crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from ..render import crop, cutout, draw_prompts, draw_segments, mask_image, save_image
from ..segments import Prompt, Segments
from ..sources.paths import CROPS, CUTOUTS, MASKS, OVERLAY_STEM
from .outputs import OutputFolder

KINDS = ("overlay", "masks", "cutouts", "crops")
"""Kinds of pictures, in the order in which they are written."""

TYPES = ("jpg", "png", "webp")
"""File types of overlays and crops. Masks and cut-outs are PNG."""


@dataclass(frozen=True)
class Pictures:
    """The pictures to write for each image.

    Attributes:
        kinds: of `KINDS`. overlay: the segments over the image. masks: black and white, as large as the image. cutouts:
            the pixels of a segment, transparent around it. crops: the rectangle of the image around a segment.
        contours: outline the segments in the overlay.
        type: of overlays and crops, one of `TYPES`.

    Raises:
        ParameterError: there is no such kind or type.

    Example:
        >>> Pictures(("overlay", "masks")).to_json()
        {'pictures': ['overlay', 'masks'], 'contours': True, 'type': 'jpg'}
    """

    kinds: tuple[str, ...] = ()
    contours: bool = True
    type: str = "jpg"

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise ParameterError(f"pictures {unknown[0]!r}, expected some of {', '.join(KINDS)}")
        if self.type not in TYPES:
            raise ParameterError(f"type of pictures is {self.type!r}, expected one of {', '.join(TYPES)}")

    def to_json(self) -> dict[str, Any]:
        """Plain values, for records; empty without pictures."""
        kinds = [kind for kind in KINDS if kind in self.kinds]
        return {"pictures": kinds, "contours": self.contours, "type": self.type} if kinds else {}

    def write(
        self,
        output: OutputFolder,
        name: Path,
        image: NDArray[np.uint8],
        segments: Segments,
        prompt: Prompt | Sequence[Prompt] | None,
        files: dict[str, list[str]],
    ) -> None:
        """Write the pictures of an image.

        Args:
            output: folder.
            name: of the outputs of this image.
            image: (h, w, 3) uint8 RGB.
            segments: of the image.
            prompt: drawn over the overlay.
            files: gets each file as soon as it is written, by kind.

        Raises:
            FastSamError: a file cannot be written; those in `files` are.
        """
        for kind in KINDS:
            if kind in self.kinds:
                files[kind] = []
                for path, picture in self._of_kind(kind, output, name, image, segments, prompt):
                    save_image(path, picture)
                    files[kind].append(str(path))

    def _of_kind(
        self,
        kind: str,
        output: OutputFolder,
        name: Path,
        image: NDArray[np.uint8],
        segments: Segments,
        prompt: Prompt | Sequence[Prompt] | None,
    ) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
        rows = range(len(segments))
        if kind == "overlay":
            drawn = draw_prompts(draw_segments(image, segments, contours=self.contours), prompt)
            yield output.file(name, f"{OVERLAY_STEM}.{self.type}"), drawn
        elif kind == "masks":
            yield from zip(
                output.numbered(name, MASKS, len(rows)), (mask_image(segments, i) for i in rows), strict=True
            )
        elif kind == "cutouts":
            paths = output.numbered(name, CUTOUTS, len(rows))
            yield from zip(paths, (cutout(image, segments, i) for i in rows), strict=True)
        else:
            paths = output.numbered(name, CROPS, len(rows), self.type)
            yield from zip(paths, (crop(image, segments, i) for i in rows), strict=True)
