"""Whatever a caller has — a path, bytes, a PIL image, an array — becomes one RGB array.

Files are decoded by Pillow: its pixels are those of OpenCV's decoder, it takes 5–30 % longer on JPEG and PNG,
and, unlike OpenCV, it reports a file that ends too early instead of filling the rest with gray.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError, ParameterError

ImageSource = str | Path | bytes | bytearray | memoryview | Image.Image | NDArray[Any]
"""What `load_image` takes."""

MAX_PIXELS = 178_956_970
"""Default limit of width x height of a file: 512 MiB as RGB, the limit of Pillow too."""

MAX_PIXELS_ON_SERVER = 50_000_000
"""Default limit of a server, which holds the images of many requests at once: 150 MB as RGB each."""

SUFFIXES = frozenset(
    f".{ending}"
    for ending in "avif bmp gif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp".split()  # noqa: SIM905
)
"""Usual endings of the files that can be read; the content decides, not the ending."""

# How a file begins -> Pillow's name of the format. Formats that are not here are never handed to a decoder:
# some of Pillow's plugins start other programs (EPS), and few people look after the rare ones.
_SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+"), "TIFF"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "JPEG2000"),
    (re.compile(rb"P[1-6]\s"), "PPM"),
)
_HEIC = re.compile(rb"....ftyp(hei|hev|mif|msf)", re.DOTALL)
_KNOWN = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000 and PPM files are read"

# What Pillow's decoders are seen to raise on damaged files.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(
    source: ImageSource, *, color: str = "RGB", max_pixels: int | None = MAX_PIXELS, name: str | None = None
) -> NDArray[np.uint8]:
    """Read an image as RGB.

    - Files and PIL images are turned upright as their EXIF orientation says; of an animation the first frame is read.
    - Gray is repeated in the three channels; black and white (1 bit, or bool) becomes 0 and 255.
    - Of 16-bit values the high byte is kept (v >> 8), over the full range 0 … 65535: a 12-bit camera's values need
      stretching first.
    - Alpha is dropped, not blended: the colours are taken as they are stored, as OpenCV and ultralytics do.

    Args:
        source: path; bytes of a file; PIL image; or array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) of
            uint8, uint16 or bool.
        color: order of the channels of an array: "RGB" (also RGBA) or "BGR" (also BGRA), as OpenCV has it.
            Files and PIL images know their own.
        max_pixels: limit of width x height of a file or PIL image, read from its header before any pixel is
            decoded; None for no limit. Arrays are in memory already and have none.
        name: what messages call the image; by default its path or kind.

    Returns:
        (h, w, 3) uint8, RGB, contiguous. An array that is so already is returned itself, not copied.

    Raises:
        ImageError: it is missing, empty, damaged, too large, or no image.
        ParameterError: `color` is something else.
    """
    if color not in ("RGB", "BGR"):
        raise ParameterError(f"color is {color!r}, expected 'RGB' or 'BGR'; it is the order of an array's channels")
    if isinstance(source, np.ndarray):
        return _from_array(source, color, name or "array")
    if isinstance(source, Image.Image):
        return _from_pil(source, max_pixels, name or getattr(source, "filename", "") or "PIL image")
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_stream(io.BytesIO(source), max_pixels, name or "bytes")
    if isinstance(source, str | Path):
        return _from_path(Path(source), max_pixels, name or str(source))
    raise ImageError(
        f"image is a {type(source).__module__}.{type(source).__qualname__}; expected a path, bytes, a PIL image "
        "or a NumPy array; convert it with numpy.asarray"
    )


def load_images(sources: Sequence[ImageSource], color: str = "RGB") -> list[tuple[NDArray[np.uint8], float]]:
    """Several images as `load_image` reads them, each with the milliseconds that it took.

    Raises:
        ImageError: see `load_image`; of several images it says which.
    """
    loaded = []
    for i, source in enumerate(sources):
        start = perf_counter()
        try:
            pixels = load_image(source, color=color)
        except ImageError as error:
            if len(sources) == 1:
                raise
            raise ImageError(f"image {i} of {len(sources)}: {error}") from error
        loaded.append((pixels, (perf_counter() - start) * 1000))
    return loaded


def read_file(path: Path) -> bytes:
    """The content of an image file, not decoded.

    Raises:
        ImageError: it is missing or cannot be read.
    """
    with _opened(path, str(path)) as stream:
        return stream.read()


def _from_path(path: Path, max_pixels: int | None, name: str) -> NDArray[np.uint8]:
    with _opened(path, name) as stream:
        return _from_stream(stream, max_pixels, name)


def _opened(path: Path, name: str) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        hint = "download it first" if re.match(r"\w{2,}:/", name) else f"looked in {Path.cwd()}"
        raise ImageError(f"{name}: no such file; expected an image; {hint}") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name}: is a folder; expected an image file; give the files in it one by one") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name}: cannot be opened ({reason}); check the path and its permissions") from error


def _from_stream(stream: IO[bytes], max_pixels: int | None, name: str) -> NDArray[np.uint8]:
    start = stream.read(32)
    format_name = _format(start, name)
    stream.seek(0)
    # The plugin is called directly: Image.open also applies a limit and a warning that are set process-wide.
    for load_plugins in (Image.preinit, Image.init):  # the common ones; all, which takes longer
        if format_name not in Image.OPEN:
            load_plugins()
    if format_name not in Image.OPEN:
        raise ImageError(f"{name}: a {format_name} file, which the installed Pillow cannot read; convert it to PNG")
    try:
        image = Image.OPEN[format_name][0](stream, "")
    except _DAMAGED as error:
        raise ImageError(
            f"{name}: begins like {format_name}, but its header cannot be read ({error or type(error).__name__}); "
            "get the file again or convert it to PNG"
        ) from error
    return _from_pil(image, max_pixels, name)


def _format(start: bytes, name: str) -> str:
    if not start:
        raise ImageError(f"{name}: is empty (0 bytes); expected an image; get the file again")
    for signature, format_name in _SIGNATURES:
        if signature.match(start):
            return format_name
    if _HEIC.match(start):
        raise ImageError(f"{name}: a HEIC/HEIF file, which is not read; {_KNOWN}; convert it to JPEG")
    raise ImageError(f"{name}: not an image, it begins with {start[:12]!r}; {_KNOWN}")


def _from_pil(image: Image.Image, max_pixels: int | None, name: str) -> NDArray[np.uint8]:
    width, height = image.size
    if not width or not height:
        raise ImageError(f"{name}: is {width}×{height} pixels; expected at least 1×1; get the file again")
    if max_pixels is not None and width * height > max_pixels:
        w, h = _fitting(width, height, max_pixels)
        # Only the default is told how to move: another limit was set by the caller, or is that of a server.
        in_python = "; in Python, load_image(…, max_pixels=None) reads an image that you trust"
        raise ImageError(
            f"{name}: {width}×{height} are {width * height:,} pixels, the limit is {max_pixels:,}; make the image "
            f"smaller, {w}×{h} at most{in_python if max_pixels == MAX_PIXELS else ''}"
        )
    try:
        image.load()
        upright = _upright(image)
        return _from_array(_channels(upright, name), "RGB", name)
    except ImageError:
        raise
    except _DAMAGED as error:
        raise ImageError(
            f"{name}: {width}×{height} {image.format or ''} image is damaged or cut short ({error}); get it again"
        ) from error


def _fitting(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """(width, height) of about the same shape within the limit, at least 1 x 1."""
    scale = math.sqrt(max_pixels / (width * height))
    short, long = sorted((width, height))
    new_short = max(1, int(short * scale))
    new_long = min(int(long * scale), max_pixels // new_short)
    return (new_short, new_long) if width < height else (new_long, new_short)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the EXIF orientation says. To be called after `load`: PNG can hold EXIF behind the pixels."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGED:
        # A photograph with broken EXIF is still a photograph; viewers show it as it is stored, too.
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _channels(image: Image.Image, name: str) -> NDArray[Any]:
    """The pixels in a form that `_from_array` takes."""
    if image.mode == "F":
        raise ImageError(f"{name}: 32-bit float pixels; expected 8 or 16 bits; scale to 0 … 255, convert to uint8")
    if image.mode == "I":  # 32 bits, which older Pillow also reads 16-bit PNG into
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ImageError(
                f"{name}: 32-bit pixels from {values.min()} to {values.max()}; expected 8 or 16 bits; "
                "scale it to 0 … 255 and convert to uint8"
            )
        return values.astype(np.uint16)
    if image.mode in ("1", "L", "RGB", "RGBA") or image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB warns when the transparency is a table
    elif image.mode in ("RGBa", "La"):
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    return np.asarray(image.convert("RGB"))


def _from_array(array: NDArray[Any], color: str, name: str) -> NDArray[np.uint8]:
    if (array.dtype.kind, array.dtype.itemsize) not in (("u", 1), ("u", 2), ("b", 1)):
        raise ImageError(
            f"{name}: {array.dtype} {array.shape}; expected uint8 or uint16; "
            "if its values lie in [0, 1] use (array * 255).astype(numpy.uint8)"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"{name}: shape {array.shape}; expected (h, w), (h, w, 1), (h, w, 3) or (h, w, 4){_hint(array)}"
        )
    if not array.size:
        raise ImageError(f"{name}: shape {array.shape} holds no pixel; expected at least 1×1; check how it was cut out")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.itemsize == 2:  # of either byte order
        array = (array >> 8).astype(np.uint8)
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    rgb = array[..., 2::-1] if color == "BGR" else array[..., :3]
    return np.ascontiguousarray(rgb, np.uint8)


def _hint(array: NDArray[Any]) -> str:
    if array.ndim == 4:
        return "give the images of a batch one by one, as a list to segment_batch"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return "channels come last: array.transpose(1, 2, 0)"
    return "give one image"
