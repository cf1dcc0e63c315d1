"""Which formats are read, how a file of each begins, and how such files are usually named."""

from __future__ import annotations

import re
from importlib.util import find_spec

from ...errors import ImageError

_SUFFIXES = {
    "AVIF": "avif avifs",
    "BMP": "bmp dib",
    "GIF": "gif",
    "JPEG": "jpg jpeg jpe jfif jif mpo",
    "JPEG2000": "jp2 j2k j2c jpc jpf jpx",
    "PNG": "png apng",
    "PPM": "pbm pgm pnm ppm",
    "TIFF": "tif tiff btf",
    "WEBP": "webp",
}
_HEIF_SUFFIXES = "heic heif hif heics heifs"
_OTHER_SUFFIXES = (
    "3fr ai arw cr2 cr3 cur dcm dds dng emf eps exr fits hdr icns ico jls jxl jxr nef nrw orf pcx pef psb psd qoi raf "
    "raw rw2 sgi srw svg svgz tga wdp wmf xbm xcf xpm"
)


def _dotted(*endings: str) -> frozenset[str]:
    return frozenset(f".{ending}" for text in endings for ending in text.split())


SUFFIXES = _dotted(*_SUFFIXES.values())
"""Usual endings of the files that can be read; the content decides, not the ending."""

HEIF_SUFFIXES = _dotted(_HEIF_SUFFIXES)
"""Usual endings of HEIF files, which are read where pillow-heif is installed."""

OTHER_SUFFIXES = _dotted(_OTHER_SUFFIXES)
"""Usual endings of images that are not read."""

# How a file begins. Formats that are not here are never handed to a decoder: some of Pillow's plugins start other
# programs (EPS), and few people look after the rare ones. The names are Pillow's.
_SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+"), "TIFF"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb"....ftyp(hei|hev|mif|msf)", re.DOTALL), "HEIF"),
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "JPEG2000"),
    (re.compile(rb"P[1-6]\s"), "PPM"),
)
SIGNATURE_BYTES = 32
"""`image_format` looks at no more than this."""

_KNOWN = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIF, JPEG 2000 and PPM files are read"


def begins_as_image(start: bytes) -> bool:
    """Whether a file that begins so is of a format that is read.

    >>> begins_as_image(b"GIF89a"), begins_as_image(b"<html>")
    (True, False)
    """
    return any(signature.match(start) for signature, _ in _SIGNATURES)


def image_format(start: bytes, name: str) -> str:
    """The format of a file by its first bytes.

    Raises:
        ImageError: it is empty, or of no format that is read.

    >>> image_format(b"GIF89a", "x")
    'GIF'
    """
    if not start:
        raise ImageError(f"{name}: is empty (0 bytes); expected an image; get the file again")
    for signature, format_name in _SIGNATURES:
        if signature.match(start):
            return format_name
    raise ImageError(f"{name}: not an image, it begins with {start[:12]!r}; {_KNOWN}")


def readable_suffixes() -> frozenset[str]:
    """Usual endings of the files that can be read here: `SUFFIXES`, and HEIF's where pillow-heif is installed."""
    return SUFFIXES | HEIF_SUFFIXES if find_spec("pillow_heif") else SUFFIXES
