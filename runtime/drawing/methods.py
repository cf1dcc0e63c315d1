"""The methods of `Segments` that draw."""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps

from ..errors import FastSamError
from ..formats import Columns
from . import notebook
from .overlay import Contours, draw_segments

_PLAIN = 24
"""Grey of the background where there is no image."""

Picture = NDArray[np.uint8] | Image.Image
"""(h, w, 3) uint8 RGB, or a Pillow image, which is turned as its EXIF data says."""


class Drawable(Columns, Protocol):
    """Segments that may keep their image.

    Example:
        >>> from fastsam_deploy.runtime import Segments
        >>> segments: Drawable = Segments.empty((4, 5))
    """

    @property
    def image(self) -> NDArray[np.uint8] | None: ...
    @property
    def features(self) -> object | None: ...


class Pictures:
    """Drawing and showing. The image is given to `plot` each time, or kept with `on`.

    Example:
        >>> from fastsam_deploy.runtime import Segments
        >>> Segments.empty((400, 600))
        Segments(0 in 400×600)
    """

    def plot(
        self: Drawable,
        image: Picture | None = None,
        *,
        alpha: float = 0.5,
        contours: Contours = True,
        colors: ArrayLike | None = None,
        color_by: str | ArrayLike = "rank",
        boxes: bool = False,
        labels: bool = False,
        scores: bool = False,
        ids: bool = False,
    ) -> NDArray[np.uint8]:
        """A picture of the segments.

        Args:
            image: the image of the segments; None: the one that they keep (see `on`, or `FastSAM.segment` with
                `keep_image`), or a plain background if they keep none.
            alpha: strength of the tints, from 0 (none) to 1 (opaque).
            contours: outline the segments; "only": no tints.
            colors: one RGB colour for all, or (n, 3), in 0 … 255.
            color_by: without `colors`, what has the same colour: "rank" (each segment its own), "class", "prompt",
                "track", or n whole numbers.
            boxes: draw the boxes of the detections.
            labels: write the names of the classes.
            scores: write the scores.
            ids: write the numbers of the tracks, as #7.

        Returns:
            (h, w, 3) uint8 RGB; `PIL.Image.fromarray` makes a Pillow image of it, `save_image` a file.

        Raises:
            ParameterError: the image is of another size, or an option is not as described.

        Example:
            >>> segments.plot(image, labels=True, scores=True, contours="only")  # doctest: +SKIP
        """
        return draw_segments(
            _background(self) if image is None else pixels_of(image),
            self,
            alpha=alpha,
            contours=contours,
            colors=colors,
            color_by=color_by,
            boxes=boxes,
            labels=labels,
            scores=scores,
            ids=ids,
        )

    def show(self: Drawable, image: Picture | None = None, **options: Any) -> None:
        """Show the picture: in a notebook below its cell, elsewhere in the viewer of the system.

        Args:
            image: see `plot`.
            options: see `plot`.

        Raises:
            FastSamError: the system has no viewer. ParameterError: as for `plot`.

        Example:
            >>> segments.show(image, boxes=True)  # doctest: +SKIP
        """
        from PIL import ImageShow

        picture = Image.fromarray(Pictures.plot(self, image, **options))
        if _in_notebook():
            from IPython.display import display

            display(picture)
        elif not ImageShow.show(picture, "segments"):
            raise FastSamError(
                "no program that shows pictures was found; write a file: save_image(path, segments.plot())"
            )

    def __repr__(self: Columns) -> str:
        height, width = self.masks.image_hw
        scores = ""
        if len(self.scores):
            low, high = f"{self.scores.min():.2f}", f"{self.scores.max():.2f}"
            scores = f", score {low}" if len(self.scores) == 1 else f", scores {low}–{high}"
        return f"Segments({len(self.scores)} in {height}×{width}{scores})"

    def _repr_png_(self: Drawable) -> bytes:
        return notebook.png(Pictures.plot(self))

    def _repr_html_(self: Drawable) -> str:
        return notebook.html(self, repr(self), Pictures.plot(self))


def _background(segments: Drawable) -> NDArray[np.uint8]:
    """The image that is kept, for drawing or for text prompts, or a plain one."""
    kept: NDArray[np.uint8] | None = getattr(segments.features, "image", None)
    kept = kept if segments.image is None else segments.image
    return np.full((*segments.masks.image_hw, 3), _PLAIN, np.uint8) if kept is None else kept


def pixels_of(image: Picture) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB; an array is returned itself.

    Example:
        >>> pixels_of(Image.new("L", (3, 2), 7)).shape
        (2, 3, 3)
    """
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return image


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
