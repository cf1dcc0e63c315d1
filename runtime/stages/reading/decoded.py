"""What reading a file gives, and what can be asked of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

from numpy.typing import NDArray

from ...errors import ImageError, ParameterError

_log = logging.getLogger(__name__)

ValueRange = str | tuple[float, float]
"""Which values become 0 and 255: "full", "minmax", "percentile", or the two values themselves."""

VALUE_RANGES = ("full", "minmax", "percentile")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a file is read, and how values of more than 8 bits become 8.

    Attributes:
        page: of a file with several images (TIFF, GIF, animations), from 0. None: the first, with a warning that there
            are others.
        bands: one band, read as gray, or three, read as red, green and blue; from 1, as GDAL counts them. None: the
            file's own colours; of several bands without colours the first one or three, with a warning.
        value_range: "full": all values that the type can hold; "minmax": from the least to the greatest value of the
            image; "percentile": from its 1st to its 99th percentile; or (low, high), which become 0 and 255.

    Raises:
        ParameterError: one of them is out of its range.

    >>> Selection(bands=(3, 2, 1)).bands
    (3, 2, 1)
    """

    page: int | None = None
    bands: Sequence[int] | None = None
    value_range: ValueRange = "full"

    def __post_init__(self) -> None:
        if self.page is not None and (isinstance(self.page, bool) or not isinstance(self.page, int) or self.page < 0):
            raise ParameterError(f"page is {self.page!r}, expected a whole number; pages are counted from 0")
        if self.bands is not None:
            object.__setattr__(self, "bands", _checked_bands(self.bands))
        if not _is_range(self.value_range):
            raise ParameterError(
                f"range is {self.value_range!r}, expected {', '.join(VALUE_RANGES)}, or two numbers (low, high)"
            )

    def to_json(self) -> dict[str, Any]:
        """What was chosen, for records; empty where nothing was.

        >>> Selection(bands=(3, 2, 1)).to_json()
        {'bands': [3, 2, 1]}
        """
        value_range = self.value_range if isinstance(self.value_range, str) else list(self.value_range)
        chosen = {
            "page": self.page,
            "bands": None if self.bands is None else list(self.bands),
            "range": None if value_range == "full" else value_range,
        }
        return {name: value for name, value in chosen.items() if value is not None}


def _checked_bands(bands: Sequence[int]) -> tuple[int, ...]:
    try:
        numbers = tuple(index(band) for band in bands)
    except TypeError:
        numbers = ()
    if len(numbers) not in (1, 3) or min(numbers) < 1:
        raise ParameterError(
            f"bands is {bands!r}, expected one or three whole numbers from 1, such as (3, 2, 1) for red, green and blue"
        )
    return numbers


def _is_range(value_range: Any) -> bool:
    if isinstance(value_range, str):
        return value_range in VALUE_RANGES
    if not isinstance(value_range, tuple) or len(value_range) != 2:
        return False
    low, high = value_range
    return isinstance(low, int | float) and isinstance(high, int | float) and low < high


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The pixels of a file, as they are stored; of the bands that were asked for.

    Attributes:
        pixels: (h, w) gray, or (h, w, bands): gray, RGB or RGBA; of the file's own type.
        bits: of a value in the file: more than those of `pixels` where the decoder has kept only the high bits.
        orientation: how to turn the pixels to see them upright, 1 … 8 as EXIF has it.
    """

    pixels: NDArray[Any]
    bits: int
    orientation: int = 1


def report_pages(count: int | str, selection: Selection, name: str, level: int = logging.WARNING) -> None:
    """Say that a file has other images than the one that is read, unless the caller has chosen one."""
    if selection.page is None and count != 1:
        _log.log(level, "%s: holds %s images, the first was read; page=… (--page) reads another, from 0", name, count)


def no_such_page(page: int, count: int | str, name: str) -> ImageError:
    """The error for a page that a file does not have."""
    return ImageError(f"{name}: has no page {page}; it holds {count}, counted from 0; choose another page")


def pick_bands(pixels: NDArray[Any], bands: Sequence[int], name: str) -> NDArray[Any]:
    """Bands of (h, w) or (h, w, n), counted from 1.

    Raises:
        ImageError: there are fewer.
    """
    layers = pixels[..., None] if pixels.ndim == 2 else pixels
    if max(bands) > layers.shape[2]:
        raise no_such_band(bands, layers.shape[2], name)
    return layers[..., [band - 1 for band in bands]]


def no_such_band(bands: Sequence[int], count: int, name: str) -> ImageError:
    """The error for bands that an image does not have."""
    return ImageError(f"{name}: has no band {max(bands)}; it holds {count}, counted from 1; choose other bands")
