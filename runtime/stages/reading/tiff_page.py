"""The structure of a TIFF file: its chain of pages, and what one page says of its pixels (TIFF 6.0, BigTIFF)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError
from ...limits import check_size
from .decoded import Selection, no_such_page, report_pages

_COUNTED_PAGES = 1000
"""Pages behind the one that is read are counted up to here."""

_LARGEST_DIRECTORY = 0xFFFF
_LARGEST_TAG_BYTES = 1 << 24

_VALUE_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 18: "u8"}
"""Types of the values of tags. The others are fractions, which no tag has that is looked at here."""

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 274, 277, 278, 279, 284
FAX_OPTIONS, PREDICTOR, COLOR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 292, 317, 320, 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES, SUBSAMPLING, SUBFILE_TYPE, DNG_VERSION = 338, 339, 347, 530, 254, 50706

_WANTED = frozenset({
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP,
    STRIP_BYTES, PLANAR, FAX_OPTIONS, PREDICTOR, COLOR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES,
    EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES, SUBSAMPLING, SUBFILE_TYPE, DNG_VERSION,
})  # fmt: skip

Tags = dict[int, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class TiffPage:
    """What a page says of its pixels. They lie in segments, which are strips or tiles, compressed one by one.

    Attributes:
        tags: values of the tags that say how a segment is decoded.
        byte_order: "<" or ">".
        hw: (h, w), pixels.
        samples: values of a pixel.
        bits: of a value.
        kind: "u" unsigned, "i" signed, "f" float.
        planar: each segment holds one sample of its pixels; else all of them.
        segment_hw: (h, w) of a segment; the last strip of a plane may be lower.
        offsets, byte_counts: where each segment is in the file; plane after plane, row after row.
    """

    tags: Tags
    byte_order: str
    hw: tuple[int, int]
    samples: int
    bits: int
    kind: str
    planar: bool
    segment_hw: tuple[int, int]
    offsets: NDArray[np.int64]
    byte_counts: NDArray[np.int64]

    @property
    def grid(self) -> tuple[int, int, int]:
        """Segments: planes, down and across."""
        (h, w), (segment_h, segment_w) = self.hw, self.segment_hw
        return self.samples if self.planar else 1, -(-h // segment_h), -(-w // segment_w)

    @property
    def tiled(self) -> bool:
        """Segments are tiles, which all have the full size."""
        return TILE_WIDTH in self.tags

    def number(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return number(self.tags, tag, default)


def number(tags: Tags, tag: int, default: int) -> int:
    """The first value of a tag."""
    values = tags.get(tag)
    return default if values is None or not values.size else int(values[0])


def read_page(stream: IO[bytes], selection: Selection, max_pixels: int | None, name: str) -> TiffPage:
    """One page's structure, checked; says so where the file holds other images and none was chosen.

    Raises:
        ImageError: there is no such page, it contradicts itself, is too large, or is the preview of a raw photograph.
    """
    wanted, chosen, images, counted = selection.page or 0, None, 0, 0
    for counted, tags in enumerate(_pages(stream, wanted, name), 1):
        if counted - 1 == wanted:
            chosen = tags
        images += not number(tags, SUBFILE_TYPE, 0) & 0b101  # smaller copies and masks are no images of their own
        if counted - 1 >= max(wanted, _COUNTED_PAGES):
            break
    if chosen is None:
        raise no_such_page(wanted, counted, name)
    if selection.page is None and (DNG_VERSION in chosen or number(chosen, SUBFILE_TYPE, 0) & 1):
        raise ImageError(
            f"{name}: begins with a small preview, as a camera's raw photographs do; expected a developed photograph; "
            "export it as JPEG or TIFF"
        )
    report_pages(f"{images} or more" if counted > _COUNTED_PAGES else max(images, 1), selection, name)
    return _page(chosen, _byte_order(stream), max_pixels, name)


def _byte_order(stream: IO[bytes]) -> str:
    stream.seek(0)
    return "<" if stream.read(1) == b"I" else ">"


def _pages(stream: IO[bytes], wanted: int, name: str) -> Iterator[Tags]:
    """The tags of one page after the other; all that matter of the wanted page, of others the kind only."""
    order = _byte_order(stream)
    stream.seek(2)
    big = int.from_bytes(stream.read(2), "little" if order == "<" else "big") == 43
    link = np.dtype(f"{order}u8" if big else f"{order}u4")
    stream.seek(8 if big else 4)
    seen: set[int] = set()
    index = 0
    while (offset := _integer(stream, link, name)) != 0:
        if offset in seen:
            raise ImageError(f"{name}: a TIFF file whose pages form a loop; it is damaged; get it again")
        seen.add(offset)
        stream.seek(offset)
        entries = _entries(stream, order, big, name)
        after = stream.tell()
        kept = _WANTED if index == wanted else (SUBFILE_TYPE,)
        yield {int(e["tag"]): _values(stream, e, order, name) for e in entries if e["tag"] in kept}
        stream.seek(after)
        index += 1


def _integer(stream: IO[bytes], kind: np.dtype[Any], name: str) -> int:
    return int(np.frombuffer(_exactly(stream, kind.itemsize, name), kind)[0])


def _exactly(stream: IO[bytes], size: int, name: str) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise ImageError(f"{name}: a TIFF file that is cut short: {size} bytes expected where it ends; get it again")
    return content


def _entries(stream: IO[bytes], order: str, big: bool, name: str) -> NDArray[Any]:
    size = 8 if big else 4
    count = _integer(stream, np.dtype(f"{order}u8" if big else f"{order}u2"), name)
    if count > _LARGEST_DIRECTORY:
        raise ImageError(f"{name}: a TIFF page of {count} tags; expected a few dozen; it is damaged, get it again")
    entry = np.dtype(
        [("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", f"{order}u{size}"), ("value", f"V{size}")]
    )
    return np.frombuffer(_exactly(stream, count * entry.itemsize, name), entry)


def _values(stream: IO[bytes], entry: Any, order: str, name: str) -> NDArray[Any]:
    tag, count = int(entry["tag"]), int(entry["count"])
    kind = _VALUE_TYPES.get(int(entry["type"]))
    if kind is None:
        raise ImageError(f"{name}: TIFF tag {tag} has type {entry['type']}, expected a whole number; get it again")
    dtype = np.dtype(order + kind)
    size, inline = count * dtype.itemsize, entry["value"].tobytes()
    if size <= len(inline):
        return np.frombuffer(inline, dtype, count)
    if size > _LARGEST_TAG_BYTES:
        raise ImageError(f"{name}: TIFF tag {tag} has {size:,} bytes, the limit is {_LARGEST_TAG_BYTES:,}; make tiles")
    stream.seek(int.from_bytes(inline, "little" if order == "<" else "big"))
    return np.frombuffer(_exactly(stream, size, name), dtype)


def _page(tags: Tags, order: str, max_pixels: int | None, name: str) -> TiffPage:
    h, w = number(tags, HEIGHT, 0), number(tags, WIDTH, 0)
    check_size(w, h, max_pixels, name)
    tiled = TILE_WIDTH in tags
    if tiled:
        segment_hw = number(tags, TILE_HEIGHT, 0), number(tags, TILE_WIDTH, 0)
    else:
        segment_hw = min(number(tags, ROWS_PER_STRIP, h), h), w
    offsets = tags.get(TILE_OFFSETS, tags.get(STRIP_OFFSETS, np.empty(0))).astype(np.int64)
    counts = tags.get(TILE_BYTES, tags.get(STRIP_BYTES, np.empty(0))).astype(np.int64)
    if not counts.size and number(tags, COMPRESSION, 1) == 1:  # old files; the size follows from the pixels
        counts = np.zeros_like(offsets)
    page = TiffPage(
        tags, order, (h, w), number(tags, SAMPLES, 1), _alike(tags, BITS, 1, name),
        {1: "u", 2: "i", 3: "f", 4: "u"}.get(_alike(tags, SAMPLE_FORMAT, 1, name), ""),
        number(tags, PLANAR, 1) == 2, segment_hw, offsets, counts,
    )  # fmt: skip
    if min(segment_hw) < 1 or page.samples < 1 or not page.kind:
        raise ImageError(f"{name}: a TIFF page that contradicts itself ({_summary(page)}); get it again")
    expected = int(np.prod(page.grid))
    if expected > min(page.offsets.size, page.byte_counts.size):
        raise ImageError(
            f"{name}: a TIFF page with {page.offsets.size} places and {page.byte_counts.size} sizes of its strips or "
            f"tiles, expected {expected} ({_summary(page)}); get it again"
        )
    return page


def _alike(tags: Tags, tag: int, default: int, name: str) -> int:
    """The value that all samples have."""
    values = tags.get(tag, np.array([default]))
    if not values.size or (values != values[0]).any():
        raise ImageError(
            f"{name}: a TIFF page whose bands differ (tag {tag}: {values[:8]}); expected bands of one type"
        )
    return int(values[0])


def _summary(page: TiffPage) -> str:
    (h, w), (segment_h, segment_w) = page.hw, page.segment_hw
    return f"{w}×{h}, {page.samples} × {page.bits} bits, segments of {segment_w}×{segment_h}"
