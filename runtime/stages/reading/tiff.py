"""TIFF: the strips or tiles of one page become its bands, and the bands its colours.

Pillow is asked only to decompress segments, never for a picture: of what TIFF allows it reads some kinds wrongly
(docs/adr/0018-reading-tiff.md).
"""

from __future__ import annotations

import logging
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import ImageError
from . import tiff_page as tag
from .decoded import Decoded, Selection, no_such_band, pick_bands
from .faults import decoder_faults
from .tiff_page import TiffPage, read_page
from .tiff_segments import JPEG, read_bands

_log = logging.getLogger(__name__)

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
"""Samples of a pixel that are its colour; those behind are alpha or other bands."""

_OTHERS = {
    4: "a mask", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "a camera's raw mosaic", 32844: "LogL", 32845: "LogLuv",
    34892: "a camera's raw values",
}  # fmt: skip

_NOT_ALPHA, _PREMULTIPLIED = 0, 1
"""Values of ExtraSamples; 2 is alpha that colours have not been multiplied with."""


def read_tiff(stream: IO[bytes], selection: Selection, max_pixels: int | None, name: str) -> Decoded:
    """One page of a TIFF file.

    Args:
        stream: at any place.
        selection: page and bands.
        max_pixels: see `limits.check_size`; it limits the size of strips and tiles, too.
        name: what messages call the file.

    Returns:
        Its values as they are stored, but: white is never zero, values of 1 to 7 bits fill 8 bits and those of 9 to 15
        bits fill 16, and palettes, CMYK and YCbCr are converted to RGB.

    Raises:
        ImageError: it is damaged, too large, has no such page or bands, or is of a kind that is not read.
    """
    with decoder_faults(name, "TIFF image is damaged or cut short"):
        page = read_page(stream, selection, max_pixels, name)
        photometric = _photometric(page, name)
        if photometric in (_PALETTE, _CMYK, _YCBCR):
            values = read_bands(stream, page, range(_COLOURS[photometric]), max_pixels, name)
            pixels = _rgb(values, page, photometric)
            if selection.bands is not None:
                pixels = pick_bands(pixels, selection.bands, name)
        else:
            values = read_bands(stream, page, _bands(page, photometric, selection, name), max_pixels, name)
            pixels = _full_scale(values, page, inverted=photometric == _WHITE_IS_ZERO)
            if selection.bands is None and values.shape[2] in (2, 4):
                pixels = _without_alpha(pixels)
        return Decoded(pixels, page.bits, page.number(tag.ORIENTATION, 1))


def _photometric(page: TiffPage, name: str) -> int:
    """What the values mean.

    Raises:
        ImageError: a kind that is not read.
    """
    photometric = page.number(tag.PHOTOMETRIC, -1)
    if photometric == _YCBCR and page.number(tag.COMPRESSION, 1) == JPEG:
        photometric = _RGB  # libtiff converts it
    if photometric not in _COLOURS:
        what = _OTHERS.get(photometric, "not given" if photometric < 0 else f"of kind {photometric}")
        problem = f"whose colours are {what}"
    elif page.samples < _COLOURS[photometric]:
        problem = f"with {page.samples} of {_COLOURS[photometric]} colours"
    elif photometric in (_CMYK, _YCBCR) and (page.kind != "u" or page.bits != 8):
        problem = f"of CMYK or YCbCr with {page.bits} bits"
    elif photometric == _PALETTE and (page.kind != "u" or page.bits > 16 or tag.COLOR_MAP not in page.tags):
        problem = f"of a palette with {page.bits} bits"
    elif photometric == _YCBCR and (page.tags.get(tag.SUBSAMPLING, np.array([2, 2])) != 1).any():
        problem = "whose colours have a lower resolution, without JPEG"
    elif photometric == _WHITE_IS_ZERO and page.kind != "u":
        problem = "whose white is zero, with signed values or fractions"
    else:
        return photometric
    raise ImageError(f"{name}: a TIFF image {problem}, which is not read; save it as RGB or gray")


def _bands(page: TiffPage, photometric: int, selection: Selection, name: str) -> list[int]:
    """Which samples of a pixel are read, from 0: one or three, and alpha where colours were multiplied with it."""
    if selection.bands is not None:
        if max(selection.bands) > page.samples:
            raise no_such_band(selection.bands, page.samples, name)
        return [band - 1 for band in selection.bands]
    colours = _COLOURS[photometric]
    kinds = [int(kind) for kind in page.tags.get(tag.EXTRA_SAMPLES, ())][: page.samples - colours]
    kinds += [_NOT_ALPHA] * (page.samples - colours - len(kinds))
    others = [colours + i for i, kind in enumerate(kinds) if kind == _NOT_ALPHA]
    taken = list(range(colours))
    if colours + len(others) >= 3:
        taken = [*taken, *others][:3]
    if others:
        _log.warning(
            "%s: has %d bands, of which %s were read; bands=(3, 2, 1) (--bands 3,2,1) reads others",
            name, page.samples, ", ".join(str(band + 1) for band in taken),
        )  # fmt: skip
    return [*taken, colours] if kinds[:1] == [_PREMULTIPLIED] else taken


def _full_scale(values: NDArray[Any], page: TiffPage, *, inverted: bool) -> NDArray[Any]:
    """Unsigned values fill their type, and zero is black."""
    if page.kind != "u" or page.bits > 16:
        return ~values if inverted else values
    if inverted:
        values = values.dtype.type((1 << page.bits) - 1) - values
    if page.bits < 8:
        return (values.astype(np.uint16) * 255 // ((1 << page.bits) - 1)).astype(np.uint8)
    return values << (16 - page.bits) if 8 < page.bits < 16 else values


def _without_alpha(pixels: NDArray[Any]) -> NDArray[Any]:
    """Colours as they were before they were multiplied with alpha, the last band."""
    colours, alpha = pixels[..., :-1], pixels[..., -1:]
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
        return colours
    full = np.iinfo(pixels.dtype).max
    divided = np.minimum(colours.astype(np.uint32) * full // np.maximum(alpha, 1), full).astype(pixels.dtype)
    return np.where(alpha == 0, colours, divided)


def _rgb(values: NDArray[Any], page: TiffPage, photometric: int) -> NDArray[np.uint8]:
    if photometric == _PALETTE:
        entries = page.tags[tag.COLOR_MAP].reshape(3, -1).T
        shift = 8 if entries.max() > 255 else 0  # some writers have 8 bits in mind
        colours: NDArray[np.uint8] = (entries >> shift).astype(np.uint8)
        return np.asarray(colours[values[..., 0]], np.uint8)
    mode = "CMYK" if photometric == _CMYK else "YCbCr"
    h, w = page.hw
    return np.asarray(Image.frombytes(mode, (w, h), values.tobytes()).convert("RGB"))
