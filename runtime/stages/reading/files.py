"""One image file, whatever its format, becomes its stored pixels."""

from __future__ import annotations

from .decoded import Decoded, Selection
from .faults import decoder_faults
from .formats import SIGNATURE_BYTES, image_format
from .opening import EncodedSource, check_bytes, opened
from .pillow import read_with_pillow
from .tiff import read_tiff


def read_image(source: EncodedSource, selection: Selection, max_pixels: int | None, name: str) -> Decoded:
    """The pixels of an image file. Its content decides which decoder reads it, not its ending.

    Args:
        source: path, bytes, or a stream open for reading bytes, which is read from its start.
        selection: page, bands and range of values.
        max_pixels: limit of width x height, read from the header before any pixel is decoded; None for no limit.
        name: what messages call the file.

    Raises:
        ImageError: it is missing, empty, damaged, too large, or no image that is read here.
    """
    with opened(source, name) as stream:
        with decoder_faults(name, "cannot be read"):
            start = stream.read(SIGNATURE_BYTES)
        format_name = image_format(start, name)
        if format_name == "TIFF":
            return read_tiff(stream, selection, max_pixels, name)
        check_bytes(stream, name)
        return read_with_pillow(stream, format_name, selection, max_pixels, name)
