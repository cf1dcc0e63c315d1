"""Whatever a caller has — a path, bytes, a stream, a PIL image, an array — becomes one RGB array."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError, ParameterError
from ..limits import MAX_PIXELS, MAX_PIXELS_ON_SERVER
from ..system.cpu import usable_cpus
from .levels import to_uint8
from .reading.decoded import Decoded, Selection, ValueRange, no_such_page, pick_bands
from .reading.files import read_image
from .reading.formats import SUFFIXES
from .reading.nvimagecodec import JpegDecoder
from .reading.opening import EncodedSource, buffer_bytes, file_content, is_encoded, source_name
from .reading.pillow import decode_pil

__all__ = [
    "MAX_PIXELS",
    "MAX_PIXELS_ON_SERVER",
    "SUFFIXES",
    "ImageFile",
    "ImageSource",
    "encoded_bytes",
    "image_copy",
    "load_image",
    "load_images",
]


class ImageLoader(Protocol):
    """What reads an `ImageFile` in the place of `load_image`, such as an `IsolatedLoader`."""

    def load_image(
        self, source: ImageFile, *, color: str = "RGB", max_pixels: int | None = MAX_PIXELS, name: str | None = None
    ) -> NDArray[np.uint8]:
        """See `load_image`."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file together with how to read it, for whatever takes an image.

    Attributes:
        source: path, bytes, or a stream open for reading bytes.
        page, bands, range: see `load_image`.
        loader: reads the file; None: `load_image`. A server that the file is sent to decodes it itself.

    >>> model.segment(ImageFile("scene.tif", bands=(4, 3, 2), range="percentile"))  # doctest: +SKIP
    """

    source: EncodedSource
    page: int | None = None
    bands: Sequence[int] | None = None
    range: ValueRange = "full"
    loader: ImageLoader | None = None

    def __post_init__(self) -> None:
        _ = self.selection

    @property
    def selection(self) -> Selection:
        """What is read of the file."""
        return Selection(self.page, self.bands, self.range)


_WHOLE = Selection()
"""Made once: a small image in memory is read in microseconds."""

ImageSource = EncodedSource | ImageFile | Image.Image | NDArray[Any]
"""What `load_image` takes."""


def load_image(
    source: ImageSource,
    *,
    color: str = "RGB",
    max_pixels: int | None = MAX_PIXELS,
    name: str | None = None,
    page: int | None = None,
    bands: Sequence[int] | None = None,
    range: ValueRange = "full",  # noqa: A002 - what people call it
) -> NDArray[np.uint8]:
    """Read an image as RGB.

    - Files and PIL images are turned upright as their EXIF orientation says.
    - Gray is repeated in the three channels; black and white (1 bit, or bool) becomes 0 and 255.
    - Alpha is dropped, not blended: the colours are taken as they are stored, as OpenCV and ultralytics do.
    - Where a file holds other images or bands than those that are read, or values that come out almost black, a warning
      is logged (`logging`, "fastsam_deploy.runtime").

    Args:
        source: path; bytes of a file, also as base64 text; a `data:` URL; a stream open for reading bytes (a file,
            BytesIO), which is read from its start; `ImageFile`; PIL image; or array (h, w), (h, w, 1), (h, w, 3) or
            (h, w, 4) of uint8, uint16 or bool. With `bands`, an array may have any number of channels; with a `range`
            other than "full", any type of numbers.
        color: order of the channels of an array: "RGB" (also RGBA) or "BGR" (also BGRA), as OpenCV has it.
            Files and PIL images know their own.
        max_pixels: limit of width x height of a file or PIL image, read from its header before any pixel is
            decoded; None for no limit. Arrays are in memory already and have none.
        name: what messages call the image; by default its path or kind.
        page: of a TIFF file with several pages or an animation, from 0. None: the first.
        bands: one channel, read as gray, or three, read as red, green and blue; counted from 1, as GDAL does. None:
            the colours of the image; of a TIFF file without colours the first three bands, or the first of fewer.
        range: which values of more than 8 bits become 0 and 255; 8-bit values stay as they are. "full": 0 and 65535
            (the high byte, v >> 8). "minmax": the least and the greatest value of the image. "percentile": its 1st and
            its 99th percentile. (low, high): these values. Channels share one range.

    Returns:
        (h, w, 3) uint8, RGB, contiguous. An array that is so already is returned itself, not copied.

    Raises:
        ImageError: it is missing, empty, damaged, too large, or no image, or has no such page or band.
        ParameterError: a setting is out of its range.

    >>> load_image(np.array([[0, 1000]], np.uint16), range="minmax").tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    if color not in ("RGB", "BGR"):
        raise ParameterError(f"color is {color!r}, expected 'RGB' or 'BGR'; it is the order of an array's channels")
    selection = _WHOLE if page is None and bands is None and range == "full" else Selection(page, bands, range)
    if isinstance(source, ImageFile):
        if selection != _WHOLE:
            raise ParameterError("page, bands or range are given twice; expected them in the ImageFile alone")
        if source.loader is not None:
            return source.loader.load_image(source, color=color, max_pixels=max_pixels, name=name)
        selection, source = source.selection, source.source
    if isinstance(source, np.ndarray):
        return _from_array(source, color, selection, name or "array")
    if isinstance(source, Image.Image):
        name = name or getattr(source, "filename", "") or "PIL image"
        return _rgb(decode_pil(source, selection, max_pixels, name), selection, name)
    if is_encoded(source):
        name = name or source_name(source)
        return _rgb(read_image(source, selection, max_pixels, name), selection, name)
    raise ImageError(
        f"image is a {type(source).__module__}.{type(source).__qualname__}; expected a path, bytes, a PIL image "
        "or a NumPy array; convert it with numpy.asarray"
    )


def load_images(
    sources: Sequence[ImageSource], color: str = "RGB", decoder: JpegDecoder | None = None
) -> list[tuple[NDArray[np.uint8], float]]:
    """Several images as `load_image` reads them, each with the milliseconds that it took. Files on all processors.

    Args:
        decoder: reads the files that it can.

    Raises:
        ImageError: see `load_image`; of several images it says which: the first one.
    """

    def load(i: int) -> tuple[NDArray[np.uint8], float]:
        start = perf_counter()
        try:
            pixels: NDArray[np.uint8] | None = _decoded(sources[i], decoder)
            if pixels is None:
                pixels = load_image(sources[i], color=color)
        except ImageError as error:
            if len(sources) == 1:
                raise
            raise ImageError(f"image {i} of {len(sources)}: {error}") from error
        return pixels, (perf_counter() - start) * 1000

    plain = [source.source if isinstance(source, ImageFile) else source for source in sources]
    files = sum(map(is_encoded, plain)) if len(plain) > 1 else 0
    threads = min(files, usable_cpus()) if files > 1 else 0  # asking for processors takes as long as a small image
    if threads < 2 or any(hasattr(source, "read") for source in plain):  # a stream may be given twice
        return [load(i) for i in range(len(sources))]
    with ThreadPoolExecutor(threads, "fastsam-load") as pool:
        return list(pool.map(load, range(len(sources))))


def _decoded(source: ImageSource, decoder: JpegDecoder | None) -> NDArray[np.uint8] | None:
    if decoder is None or not is_plain_file(source) or hasattr(source, "read"):
        return None
    content = encoded_bytes(source)
    return None if content is None else decoder.decoded(content)


def encoded_bytes(source: ImageSource) -> bytes | None:
    """The content of a file that needs no settings to be read, not decoded; None for any other image.

    Raises:
        ImageError: it is missing or cannot be read.
    """
    source = _without_settings(source)
    return file_content(source, source_name(source)) if is_encoded(source) else None


def is_plain_file(source: ImageSource) -> bool:
    """Whether `encoded_bytes` has the content of this: a file or its bytes, read as it is."""
    return is_encoded(_without_settings(source))


def image_copy(source: ImageSource) -> ImageSource:
    """The same image in memory that nobody else writes to.

    Arrays and buffers are copied. A PIL image is decoded if it is one of several in a file, as its pixels change when
    it moves on to the next; if it is in memory, it is copied. Paths, bytes and other streams than BytesIO stay.

    Raises:
        ImageError: a PIL image cannot be decoded.

    Example:
        >>> frame = np.zeros((2, 3, 3), np.uint8)
        >>> kept = image_copy(frame)
        >>> frame[:] = 255
        >>> int(kept.max())
        0
    """
    if isinstance(source, ImageFile):
        return replace(source, source=image_copy(source.source))  # type: ignore[arg-type] # encoded stays encoded
    if isinstance(source, np.ndarray):
        return np.array(source)
    if isinstance(source, bytearray | memoryview):
        return buffer_bytes(source, source_name(source))
    if isinstance(source, BytesIO):
        return source.getvalue()
    if isinstance(source, Image.Image):
        return load_image(source) if getattr(source, "is_animated", False) else _copied_pil(source)
    return source


def _copied_pil(image: Image.Image) -> Image.Image:
    """A file that is not decoded yet is decoded later, by a thread of the stream: nobody has drawn on it."""
    return image.copy() if type(image) is Image.Image else image


def _without_settings(source: ImageSource) -> ImageSource:
    return source.source if isinstance(source, ImageFile) and source.selection == _WHOLE else source


def _from_array(array: NDArray[Any], color: str, selection: Selection, name: str) -> NDArray[np.uint8]:
    known = (array.dtype.kind, array.dtype.itemsize) in (("u", 1), ("u", 2), ("b", 1))
    if not known and (selection.value_range == "full" or array.dtype.kind not in "uif"):
        raise ImageError(
            f"{name}: {array.dtype} {array.shape}; expected uint8 or uint16; if its values lie in [0, 1] use "
            "(array * 255).astype(numpy.uint8), or range=(0, 1)"
        )
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or (channels not in (1, 3, 4) and selection.bands is None):
        raise ImageError(
            f"{name}: shape {array.shape}; expected (h, w), (h, w, 1), (h, w, 3) or (h, w, 4); {_hint(array)}"
        )
    if not array.size:
        raise ImageError(f"{name}: shape {array.shape} holds no pixel; expected at least 1×1; check how it was cut out")
    if selection.page:
        raise no_such_page(selection.page, 1, name)
    if selection.bands is not None:
        array = pick_bands(array, selection.bands, name)
    elif color == "BGR" and channels > 1:
        array = array[..., 2::-1]
    return _rgb(Decoded(array, 8 * array.dtype.itemsize), selection, name)


def _rgb(decoded: Decoded, selection: Selection, name: str) -> NDArray[np.uint8]:
    """(h, w, 3), upright and contiguous."""
    pixels = decoded.pixels
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = pixels[..., :3]
    values = to_uint8(pixels, selection.value_range, name, decoded.bits)
    if values.ndim == 2:
        values = values[..., None]
    rgb = np.repeat(values, 3, axis=2) if values.shape[2] == 1 else np.ascontiguousarray(values)
    return _upright(rgb, decoded.orientation)


def _upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """(h, w, 3) turned as EXIF says; numbers that EXIF does not have turn nothing."""
    if orientation not in range(2, 9):
        return rgb
    pixels = rgb.view("V3")[..., 0]  # moved as one, which takes a third of the time
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    across = -1 if orientation in (2, 3, 6, 7) else 1
    turned = np.ascontiguousarray(pixels[::down, ::across])
    return turned.view(np.uint8).reshape(*turned.shape, 3)


def _hint(array: NDArray[Any]) -> str:
    if array.ndim == 4:
        return "give the images of a batch one by one, as a list to segment_batch"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return "channels come last: array.transpose(1, 2, 0)"
    return "choose channels: bands=(3, 2, 1)" if array.ndim == 3 else "give one image"
