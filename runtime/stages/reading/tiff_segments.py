"""Strips and tiles of a TIFF page: read, decompressed, unpacked and put in their places."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from ...errors import ImageError
from . import tiff_page as tag
from .tiff_page import TiffPage

NONE, FAX, LZW, JPEG, DEFLATE, PACK_BITS, LZMA, ZSTD = 1, (2, 3, 4), 5, 7, (8, 32946), 32773, 34925, 50000
_OF_BYTES = (NONE, LZW, *DEFLATE, PACK_BITS, LZMA, ZSTD)
"""Compressions that know nothing of pixels."""

_WITH_PREDICTOR = (LZW, *DEFLATE, LZMA, ZSTD)
_BYTES_OF_PIXEL = 16
"""No strip or tile may be larger than the largest image with so many bytes for each pixel."""

_TYPES = {
    "u": {1: "u1", 2: "u1", 4: "u1", 8: "u1", 10: "u2", 12: "u2", 14: "u2", 16: "u2", 32: "u4", 64: "u8"},
    "i": {8: "i1", 16: "i2", 32: "i4", 64: "i8"},
    "f": {16: "f2", 32: "f4", 64: "f8"},
}
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def read_bands(
    stream: IO[bytes], page: TiffPage, bands: Sequence[int], max_pixels: int | None, name: str
) -> NDArray[Any]:
    """Some bands of a page.

    Args:
        stream: the file.
        page: of it.
        bands: which samples of a pixel, from 0.
        max_pixels: limit of an image, None for none.
        name: what messages call the file.

    Returns:
        (h, w, bands), values as they are stored; 1 to 7 bits in uint8, 9 to 15 bits in uint16.

    Raises:
        ImageError: a kind that is not read, or the file is cut short or damaged.
    """
    decoder = _SegmentDecoder(page, max_pixels, name)
    pixels = np.zeros((*page.hw, len(bands)), decoder.dtype)
    (h, w), (segment_h, segment_w) = page.hw, page.segment_hw
    planes, down, across = page.grid
    for plane in sorted(set(bands)) if page.planar else range(planes):
        for i in range(down * across):
            index = plane * down * across + i
            if page.offsets[index] == 0:
                continue  # never written; zero is what such places mean
            top, left = i // across * segment_h, i % across * segment_w
            rows = segment_h if page.tiled else min(segment_h, h - top)
            segment = decoder.decode(stream, int(page.offsets[index]), int(page.byte_counts[index]), rows)
            segment = segment[: h - top, : w - left]
            place = pixels[top : top + segment_h, left : left + segment_w]
            for target, band in enumerate(bands):
                if not page.planar:
                    place[..., target] = segment[..., band]
                elif band == plane:
                    place[..., target] = segment[..., 0]
    return pixels


class _SegmentDecoder:
    """Decodes the segments of one page; what does not change between them is checked and worked out once."""

    def __init__(self, page: TiffPage, max_pixels: int | None, name: str) -> None:
        self._page, self._name = page, name
        self._compression = page.number(tag.COMPRESSION, NONE)
        self._samples = 1 if page.planar else page.samples
        self._row_bytes = -(-page.segment_hw[1] * self._samples * page.bits // 8)
        self._predictor = page.number(tag.PREDICTOR, 1)
        self.dtype = np.dtype(_TYPES[page.kind].get(page.bits, "V"))
        problem = self._problem(max_pixels)
        if problem:
            raise ImageError(
                f"{name}: a TIFF image with {problem}, which is not read; save it with 8 or 16 bits and LZW compression"
            )

    def _problem(self, max_pixels: int | None) -> str | None:
        """What of the page is not read; None: everything is."""
        page, compression, predictor = self._page, self._compression, self._predictor
        predictors = (1, 2, 3) if compression in _WITH_PREDICTOR else (1,)
        segment_bytes = self._row_bytes * page.segment_hw[0]
        jpeg, fax = compression == JPEG, compression in FAX
        layout = f"{self._samples} × {page.bits} bits"
        problems = (
            (self.dtype.kind == "V", f"values of {page.bits} bits (kind {page.kind})"),
            (compression not in (*_OF_BYTES, *FAX, JPEG), f"compression {compression}"),
            (jpeg and (page.bits, page.kind) != (8, "u"), f"JPEG compression of {layout}"),
            (jpeg and self._samples > 4, f"JPEG compression of {layout}"),
            (fax and (page.bits, self._samples) != (1, 1), f"fax compression of {layout}"),
            (not jpeg and predictor not in predictors, f"predictor {predictor} and compression {compression}"),
            (predictor == 2 and page.bits % 8, f"predictor 2 of {layout}"),
            (predictor == 3 and page.kind != "f", "a predictor for fractions, and whole numbers"),
            (
                max_pixels is not None and segment_bytes > max_pixels * _BYTES_OF_PIXEL,
                f"strips or tiles of {segment_bytes:,} bytes",
            ),
        )
        return next((text for applies, text in problems if applies), None)

    def decode(self, stream: IO[bytes], offset: int, byte_count: int, rows: int) -> NDArray[Any]:
        """(rows, segment width, samples of the segment), values as they are stored."""
        size = rows * self._row_bytes
        content = self._content(stream, offset, size if self._compression == NONE else byte_count, size)
        if self._compression == JPEG:
            return self._jpeg(content, rows)
        if self._compression in FAX:
            return self._fax(content, rows)
        if self._compression in DEFLATE:
            # One byte more than needed, so that the end, with its check sum, is read too.
            content = zlib.decompressobj().decompress(content, size + 1)
        elif self._compression != NONE:
            return self._values(self._libtiff(content, self._row_bytes, rows))
        if len(content) < size:
            raise ValueError(f"a strip or tile of {len(content):,} bytes, expected {size:,}")
        return self._values(np.frombuffer(content, np.uint8, size).reshape(rows, self._row_bytes))

    def _content(self, stream: IO[bytes], offset: int, byte_count: int, size: int) -> bytes:
        if byte_count > 4 * size + 65536:
            raise ValueError(f"a strip or tile of {byte_count:,} compressed bytes for {size:,}")
        stream.seek(offset)
        content = stream.read(byte_count)
        if len(content) < byte_count:
            raise ValueError(f"{len(content):,} of {byte_count:,} bytes at {offset:,}")
        if self._page.number(tag.FILL_ORDER, 1) == 2 and self._compression != JPEG:
            return content.translate(_REVERSED_BITS)
        return content

    def _values(self, raw: NDArray[np.uint8]) -> NDArray[Any]:
        """(rows, row bytes) → (rows, segment width, samples)."""
        bits, shape = self._page.bits, (raw.shape[0], self._page.segment_hw[1], self._samples)
        if bits % 8:
            return _unpacked(raw, bits, shape[1] * shape[2]).reshape(shape)
        if self._predictor == 3:
            return _sum_of_fractions(raw, self.dtype, self._samples).reshape(shape)
        values = raw.view(np.dtype(f"{self._page.byte_order}{self.dtype.str[1:]}")).reshape(shape)
        if self._predictor == 2:
            whole = values.astype(f"u{self.dtype.itemsize}" if self.dtype.kind == "f" else self.dtype)
            return np.cumsum(whole, axis=1, dtype=whole.dtype, out=whole).view(self.dtype)
        return values

    def _jpeg(self, content: bytes, rows: int) -> NDArray[Any]:
        kept = (tag.JPEG_TABLES, tag.SUBSAMPLING)
        extra = {number: self._page.tags[number] for number in kept if number in self._page.tags}
        if self._samples == 2:
            extra[tag.EXTRA_SAMPLES] = np.array([2])
        # Three values may be YCbCr, which libtiff converts. Four are taken as CMYK, which it leaves alone.
        colours = {3: self._page.number(tag.PHOTOMETRIC, 2), 4: 5}.get(self._samples, 1)
        extra[tag.PHOTOMETRIC] = np.array([colours])
        decoded = self._libtiff(content, self._page.segment_hw[1], rows, self._samples, extra)
        return decoded.reshape(rows, self._page.segment_hw[1], self._samples)

    def _fax(self, content: bytes, rows: int) -> NDArray[Any]:
        options = {tag.BITS: np.array([1]), tag.FAX_OPTIONS: np.array([self._page.number(tag.FAX_OPTIONS, 0)])}
        return self._libtiff(content, self._page.segment_hw[1], rows, 1, options).astype(np.uint8)[..., None]

    def _libtiff(
        self, content: bytes, width: int, rows: int, samples: int = 1, tags: tag.Tags | None = None
    ) -> NDArray[Any]:
        """A segment decompressed by Pillow's libtiff, as an image of its own: gray, RGB or black and white."""
        needed = {
            tag.WIDTH: width, tag.HEIGHT: rows, tag.BITS: [8] * samples, tag.COMPRESSION: self._compression,
            tag.PHOTOMETRIC: 1, tag.SAMPLES: samples, tag.ROWS_PER_STRIP: rows, tag.STRIP_BYTES: len(content),
        }  # fmt: skip
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(_tiff_of_one_strip(content, {**needed, **(tags or {})})))
        image.load()
        return np.asarray(image)


def _tiff_of_one_strip(content: bytes, tags: Mapping[int, Any]) -> bytes:
    """A TIFF file: the strip, the directory, and the values that do not fit into it."""
    strip_at = 8
    values = {number: np.atleast_1d(value) for number, value in {**tags, tag.STRIP_OFFSETS: strip_at}.items()}
    directory_at = strip_at + len(content) + len(content) % 2
    beyond_at = directory_at + 2 + 12 * len(values) + 4
    entries, beyond = [], b""
    for number, value in sorted(values.items()):
        code, kind = {tag.JPEG_TABLES: (7, "u1"), tag.BITS: (3, "<u2"), tag.SUBSAMPLING: (3, "<u2")}.get(
            number, (4, "<u4")
        )
        packed = value.astype(kind).tobytes()
        if len(packed) > 4:
            packed, beyond = struct.pack("<I", beyond_at + len(beyond)), beyond + packed + b"\0" * (len(packed) % 2)
        entries.append(struct.pack("<HHI4s", number, code, value.size, packed))
    parts = (b"II*\0", struct.pack("<I", directory_at), content, b"\0" * (len(content) % 2))
    return b"".join((*parts, struct.pack("<H", len(entries)), *entries, b"\0\0\0\0", beyond))


def _unpacked(raw: NDArray[np.uint8], bits: int, count: int) -> NDArray[Any]:
    """`count` values of 1, 2, 4, 10, 12 or 14 bits in each row; a row begins with a new byte."""
    each: NDArray[np.uint8] = np.unpackbits(raw, axis=1, count=count * bits)
    if bits == 1:
        return each
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint16)
    values: NDArray[np.uint16] = each.reshape(len(raw), count, bits) @ weights
    return values.astype(np.uint8) if bits < 8 else values


def _sum_of_fractions(raw: NDArray[np.uint8], dtype: np.dtype[Any], samples: int) -> NDArray[Any]:
    """Predictor 3: of all values of a row the highest bytes stand first, then the next; each byte is a difference."""
    rows, row_bytes = raw.shape
    whole = np.cumsum(raw.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
    layers = whole.reshape(rows, dtype.itemsize, row_bytes // dtype.itemsize)
    highest_first = np.ascontiguousarray(layers.transpose(0, 2, 1)).view(dtype.newbyteorder(">"))
    return np.asarray(highest_first, dtype)
