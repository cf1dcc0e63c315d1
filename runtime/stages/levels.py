"""Values of any type become 8 bits: which of them is black, and which white."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from .reading.decoded import ValueRange

_log = logging.getLogger(__name__)

_PERCENTILES = (1, 99)
_BRIGHT = 1 << 14
"""An image without a 16-bit value from here on looks almost black, and most likely has fewer than 16 bits."""


def to_uint8(pixels: NDArray[Any], value_range: ValueRange, name: str, bits: int | None = None) -> NDArray[np.uint8]:
    """Values as 0 … 255; those of 8 bits stay as they are, whatever the range, and bool becomes 0 and 255.

    - "full": the high byte of 16-bit values (v >> 8), over the full range 0 … 65535. Integers of other types are taken
      as 16-bit values where they fit. Fractions have no full range.
    - Any other range: round((v - low) * 255 / (high - low)), what is outside becomes 0 or 255. The range of a coloured
      image is that of its channels together, so that the colours stay. NaN is black.

    Args:
        pixels: any shape, at least one value; integers, fractions or bool.
        value_range: see `Selection.value_range`.
        name: what messages call the image.
        bits: of a value before decoding, where that has kept only the high bits; None: as many as `pixels` has.

    Raises:
        ImageError: "full" is asked of values that have no full range.

    >>> to_uint8(np.array([0, 2048, 4095], np.uint16), "minmax", "x").tolist()
    [0, 128, 255]
    """
    if pixels.dtype == np.bool_:
        return np.asarray(pixels * np.uint8(255), np.uint8)
    if pixels.dtype == np.uint8:
        if bits is not None and bits > 8:
            _check_high_bytes(pixels, value_range, name)
        return np.asarray(pixels, np.uint8)
    if pixels.dtype.kind not in "uif":
        raise ImageError(f"{name}: values of type {pixels.dtype}; expected numbers; convert to uint8")
    if value_range == "full":
        return _high_byte(pixels, name)
    return _stretched(pixels, value_range, name)


def _check_high_bytes(pixels: NDArray[Any], value_range: ValueRange, name: str) -> None:
    if value_range != "full":
        raise ImageError(
            f"{name}: only the high byte of its colours is read, and no range can be chosen; save it as PNG or TIFF"
        )
    _warn_if_dark(int(pixels.max()) << 8, name)


def _high_byte(pixels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f" or low < 0 or high > 0xFFFF:
        kind = " float" if pixels.dtype.kind == "f" else ""
        raise ImageError(
            f"{name}: {pixels.dtype.itemsize * 8}-bit{kind} pixels from {low} to {high}; expected 8 or 16 bits; "
            "choose which values are black and white: range='minmax' (--range minmax), or convert to uint8"
        )
    _warn_if_dark(int(high), name)
    high_byte: NDArray[np.uint8] = (pixels >> 8).astype(np.uint8)
    return high_byte


def _warn_if_dark(greatest: int, name: str) -> None:
    if 0 < greatest < _BRIGHT:
        bits = greatest.bit_length()
        _log.warning(
            "%s: its values use %d of 16 bits, so it is read almost black; range=(0, %d) (--range 0,%d) or 'minmax' "
            "spreads them from black to white", name, bits, (1 << bits) - 1, (1 << bits) - 1,
        )  # fmt: skip


def _stretched(pixels: NDArray[Any], value_range: ValueRange, name: str) -> NDArray[np.uint8]:
    low, high = _limits(pixels, value_range, name)
    scale = 255 / (high - low) if high > low else 0.0
    values = (pixels.astype(np.float32 if pixels.dtype.itemsize <= 2 else np.float64) - low) * scale
    rounded: NDArray[np.uint8] = np.rint(np.nan_to_num(values, nan=0).clip(0, 255)).astype(np.uint8)
    return rounded


def _limits(pixels: NDArray[Any], value_range: ValueRange, name: str) -> tuple[float, float]:
    if not isinstance(value_range, str):
        return value_range
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if not finite.size:
        raise ImageError(f"{name}: holds no finite value; expected an image; check how it was made")
    if value_range == "minmax":
        return float(finite.min()), float(finite.max())
    low, high = np.percentile(finite, _PERCENTILES)
    return float(low), float(high)
