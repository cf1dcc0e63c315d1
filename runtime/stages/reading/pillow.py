"""Formats that Pillow decodes, which are all but TIFF.

Pillow's pixels are those of OpenCV's decoder; it takes 5–30 % longer on JPEG and PNG, and, unlike OpenCV, it reports a
file that ends too early instead of filling the rest with gray.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import ImageError
from ...limits import check_size
from .decoded import Decoded, Selection, no_such_page, pick_bands, report_pages
from .faults import decoder_faults

_ORIENTATION_TAG = 0x0112


def read_with_pillow(
    stream: IO[bytes], format_name: str, selection: Selection, max_pixels: int | None, name: str
) -> Decoded:
    """One image of a file.

    Args:
        stream: at its start.
        format_name: one of `formats.image_format`.
        selection: page, and whether more than 8 bits are of use.
        max_pixels: see `limits.check_size`.
        name: what messages call the file.

    Raises:
        ImageError: it is damaged, too large, or of a kind that is not read here (HEIF without pillow-heif).
    """
    plugin = _plugin(format_name, name)
    with decoder_faults(name, f"begins like {format_name}, but its header cannot be read"):
        # Called directly: Image.open also applies a limit and a warning that are set for the whole process.
        image = plugin(stream, "")
    # Most phones put previews behind a photograph (MPO), of which nobody needs to hear.
    level = logging.INFO if image.format == "MPO" else logging.WARNING
    report_pages(_page_count(image), selection, name, level)
    decoded = decode_pil(image, selection, max_pixels, name)
    if format_name != "PNG" or decoded.bits == 8 or decoded.pixels.dtype != np.uint8 or selection.value_range == "full":
        return decoded
    # Pillow keeps 8 bits of each colour.
    return Decoded(_picked(_deep_png(stream, name), selection, name), decoded.bits, decoded.orientation)


def decode_pil(image: Image.Image, selection: Selection, max_pixels: int | None, name: str) -> Decoded:
    """The pixels of an image that Pillow has opened; decoded here if they are not yet.

    Raises:
        ImageError: it is damaged, too large, or has no such page.
    """
    if selection.page:
        _turn_to(image, selection.page, name)
    check_size(*image.size, max_pixels, name)
    bits = _stored_bits(image)
    with decoder_faults(name, f"{image.width}×{image.height} {image.format or 'PIL'} image is damaged or cut short"):
        image.load()
    with decoder_faults(name, f"pixels of Pillow's mode {image.mode} cannot be converted to RGB"):
        pixels = _channels(image)
    return Decoded(_picked(pixels, selection, name), bits, _orientation(image))


def _plugin(format_name: str, name: str) -> Any:
    if format_name == "HEIF":
        if find_spec("pillow_heif") is None:
            raise ImageError(
                f"{name}: a HEIC/HEIF file, and pillow-heif is not installed; run: pip install pillow-heif (the extra "
                "[heif]), or convert it to JPEG"
            )
        from pillow_heif import HeifImageFile

        return HeifImageFile
    for load_plugins in (Image.preinit, Image.init):  # the common ones; all, which takes longer
        if format_name not in Image.OPEN:
            load_plugins()
    if format_name not in Image.OPEN:
        raise ImageError(f"{name}: a {format_name} file, which the installed Pillow cannot read; convert it to PNG")
    return Image.OPEN[format_name][0]


def _page_count(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1)) if getattr(image, "is_animated", False) else 1
    except Exception:  # noqa: BLE001 - damage behind the first image does no harm to it
        return 1


def _turn_to(image: Image.Image, page: int, name: str) -> None:
    with decoder_faults(name, f"page {page} cannot be read"):
        try:
            image.seek(page)
        except EOFError as error:
            raise no_such_page(page, _page_count(image), name) from error


def _stored_bits(image: Image.Image) -> int:
    """Bits of a value before Pillow decodes it; afterwards, those that Pillow has."""
    if image.mode in ("I", "F"):
        return 32
    tiles: Any = getattr(image, "tile", None)
    raw_mode: object = tiles[0][3] if tiles else image.mode
    return 16 if ";16" in str(raw_mode) else 8


def _orientation(image: Image.Image) -> int:
    """To be called after `load`: PNG can hold EXIF behind the pixels."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - a photograph with broken EXIF is still one; viewers show it as it is stored, too
        return 1


def _picked(pixels: NDArray[Any], selection: Selection, name: str) -> NDArray[Any]:
    return pixels if selection.bands is None else pick_bands(pixels, selection.bands, name)


def _channels(image: Image.Image) -> NDArray[Any]:
    if image.mode in ("1", "L", "RGB", "RGBA", "I", "F") or image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB warns when the transparency is a table
    elif image.mode in ("RGBa", "La"):
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    return np.asarray(image.convert("RGB"))


def _deep_png(stream: IO[bytes], name: str) -> NDArray[np.uint16]:
    """A PNG of 16-bit colours, (h, w, 3) or (h, w, 4) RGB(A); Pillow has found it whole."""
    import cv2

    stream.seek(0)
    with decoder_faults(name, "16-bit PNG image is damaged or cut short"):
        pixels = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError("OpenCV reads nothing from it")
        return np.asarray(pixels[..., 2::-1], np.uint16)
