"""What is drawn for a prompt: points, boxes and lines, in pixels of the image. `render.draw_prompts` draws them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PointMarks:
    """Points, drawn as discs.

    Attributes:
        xy: (m, 2) float64, pixels of the image.
        foreground: (m,) bool; True is drawn green, False red.

    Raises:
        ValueError: a shape is not as described.

    Example:
        >>> PointMarks(np.array([[320.0, 180.0]]), np.array([True])).xy.shape
        (1, 2)
    """

    xy: NDArray[np.float64]
    foreground: NDArray[np.bool_]

    def __post_init__(self) -> None:
        _require_rows("points", self.xy, 2)
        if self.foreground.shape != (len(self.xy),):
            raise ValueError(f"{len(self.xy)} points with foreground {self.foreground.shape}; expected one for each")


@dataclass(frozen=True, eq=False)
class BoxMarks:
    """Boxes, drawn as outlines.

    Attributes:
        xyxy: (m, 4) float64, left, top, right, bottom in pixels of the image; right and bottom are exclusive.

    Raises:
        ValueError: the shape is not as described.

    Example:
        >>> BoxMarks(np.array([[10.0, 20.0, 110.0, 120.0]])).xyxy.shape
        (1, 4)
    """

    xyxy: NDArray[np.float64]

    def __post_init__(self) -> None:
        _require_rows("boxes", self.xyxy, 4)


@dataclass(frozen=True, eq=False)
class LineMark:
    """One line through several points.

    Attributes:
        xy: (m, 2) float64, pixels of the image, in the order of the line.
        closed: whether the last point is joined to the first.

    Raises:
        ValueError: the shape is not as described.

    Example:
        >>> LineMark(np.array([[10.0, 20.0], [110.0, 20.0], [60.0, 90.0]]), closed=True).closed
        True
    """

    xy: NDArray[np.float64]
    closed: bool = False

    def __post_init__(self) -> None:
        _require_rows("line", self.xy, 2)


Mark = PointMarks | BoxMarks | LineMark


def _require_rows(what: str, values: NDArray[np.float64], width: int) -> None:
    if values.ndim != 2 or values.shape[1] != width:
        raise ValueError(f"{what} have shape {values.shape}; expected (m, {width})")
