"""How large an image may be, and what is stored about it."""

from __future__ import annotations

import math

from .errors import FastSamError, ImageError

MAX_PIXELS = 178_956_970
"""Default limit of width x height of a file: 512 MiB as RGB, the limit of Pillow too."""

MAX_PIXELS_ON_SERVER = 50_000_000
"""Default limit of a server, which holds the images of many requests at once: 150 MB as RGB each."""


MAX_SEGMENTS = 1_000_000
"""Rows of a file of segments. A network gives 30,000 at most, but a list of prompts may repeat them."""

MAX_MASK_PIXELS = 2**33
"""Pixels of the crops of all masks in a file: 1 GiB in memory, as much as 300 masks that each cover 28 megapixels."""

MAX_CROP_PIXELS = 2**28
"""Pixels of one mask that is read: a run of RLE is a few characters, however long it is."""

MAX_SIDE = 1 << 20
"""Limit of width and of height, of any image. Tables along a side take up to 50 bytes for each of its pixels; in a
strip, that is far more than the image itself."""


def check_sides(width: int, height: int, name: str) -> None:
    """Refuse an image without a pixel, or with a side that is too long, before memory for its tables is asked for.

    Raises:
        ImageError: a side is below 1 or above MAX_SIDE.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{name}: is {width}×{height} pixels; expected at least 1×1; get the file again")
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{name}: is {width}×{height} pixels; expected sides of at most {MAX_SIDE:,}; cut the image into parts"
        )


def check_size(width: int, height: int, max_pixels: int | None, name: str) -> None:
    """Refuse an image by the size that its header claims, before memory for its pixels is asked for.

    Raises:
        ImageError: it has no pixel, more than `max_pixels`, or a side above MAX_SIDE.
    """
    if max_pixels is not None and width * height > max_pixels:
        w, h = _fitting(width, height, max_pixels)
        # Only the default is told how to move: another limit was set by the caller, or is that of a server.
        in_python = "; in Python, load_image(…, max_pixels=None) reads an image that you trust"
        raise ImageError(
            f"{name}: {width}×{height} are {width * height:,} pixels, the limit is {max_pixels:,}; make the image "
            f"smaller, {w}×{h} at most{in_python if max_pixels == MAX_PIXELS else ''}"
        )
    check_sides(width, height, name)


def check_mask_pixels(pixels: int) -> None:
    """Refuse masks by the pixels of all their crops, before memory for them is asked for.

    Raises:
        FastSamError: they are more than MAX_MASK_PIXELS.
    """
    if pixels > MAX_MASK_PIXELS:
        raise FastSamError(f"masks of {pixels:,} pixels or more, expected at most {MAX_MASK_PIXELS:,}; split the file")


def _fitting(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """(width, height) of about the same shape within the limit, at least 1 x 1."""
    scale = math.sqrt(max_pixels / (width * height))
    short, long = sorted((width, height))
    new_short = max(1, int(short * scale))
    new_long = min(int(long * scale), max_pixels // new_short, MAX_SIDE)
    return (new_short, new_long) if width < height else (new_long, new_short)
