"""What the outer structure of a video file tells: whether it is cut off, and whether its number of frames is exact."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

_MOST_BOXES = 100_000
_ROUNDING_S = 0.005
_ISO_KINDS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


@dataclass(frozen=True)
class Container:
    """Structure of a video file.

    Attributes:
        missing_bytes: how many bytes its own sizes announce beyond its end; 0 if it is whole, or no size is known.
        is_counted: its header holds the number of frames that are shown. Elsewhere readers estimate it from the
            duration.
        is_trimmed: it holds frames that are not shown, as after a cut on a phone.

    Example:
        >>> Container(missing_bytes=100).is_counted
        False
    """

    missing_bytes: int = 0
    is_counted: bool = False
    is_trimmed: bool = False


def read_container(path: Path) -> Container:
    """Look at the sizes in a file: MP4 and MOV, AVI, Matroska and WebM. Of other formats nothing is known.

    Args:
        path: of a regular file.

    Example:
        >>> read_container(Path("half.mp4"))  # doctest: +SKIP
        Container(missing_bytes=7545, is_counted=True, is_trimmed=False)
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in _ISO_KINDS:
            return _iso(file, size)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            return Container(_riff_end(file, size) - size, is_counted=True)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return Container(_matroska_end(file, size) - size)
    return Container()


def _iso(file: BinaryIO, size: int) -> Container:
    is_counted, is_trimmed, end = False, False, size
    for kind, body, box_end in islice(_boxes(file, 0, size), _MOST_BOXES):
        end = max(end, box_end)
        if kind == b"moov":
            is_trimmed = _is_trimmed(file, body, box_end)
            is_counted = not is_trimmed
        if kind == b"moof":  # fragments: the header counts none of their frames
            is_counted = False
    return Container(end - size, is_counted, is_trimmed)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the content, end of each box. The last one may end beyond the file."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        body = start + 8
        if size == 1 and len(header) == 16:
            size, body = struct.unpack(">Q", header[8:])[0], start + 16
        elif size == 0:
            size = end - start
        if size < body - start:
            return
        yield kind, body, start + size
        start += size


def _is_trimmed(file: BinaryIO, start: int, end: int) -> bool:
    """Whether an edit list shows less of a track of pictures than it holds."""
    timescale = 0
    for kind, body, box_end in islice(_boxes(file, start, end), _MOST_BOXES):
        if kind == b"mvhd":
            timescale = _durations(file, body)[0]
        if kind == b"trak" and timescale:
            shown, media_timescale, media = _track(file, body, box_end)
            if shown > 0 and media_timescale and shown / timescale < media / media_timescale - _ROUNDING_S:
                return True
    return False


def _track(file: BinaryIO, start: int, end: int) -> tuple[int, int, int]:
    """Shown duration (in the movie's timescale), timescale and duration of the media; zeros for other than pictures."""
    shown = timescale = duration = 0
    handler = b""
    for kind, body, box_end in islice(_boxes(file, start, end), _MOST_BOXES):
        if kind == b"tkhd":
            file.seek(body)
            content = file.read(36).ljust(36, b"\0")
            shown = struct.unpack(">Q", content[28:36])[0] if content[0] else struct.unpack(">I", content[20:24])[0]
        if kind == b"mdia":
            for inner, inner_body, _ in islice(_boxes(file, body, box_end), _MOST_BOXES):
                if inner == b"mdhd":
                    timescale, duration = _durations(file, inner_body)
                if inner == b"hdlr":
                    file.seek(inner_body + 8)
                    handler = file.read(4)
    return (shown, timescale, duration) if handler == b"vide" else (0, 0, 0)


def _durations(file: BinaryIO, body: int) -> tuple[int, int]:
    """Timescale and duration of an mvhd or mdhd box."""
    file.seek(body)
    content = file.read(32).ljust(32, b"\0")
    timescale, duration = struct.unpack(">IQ", content[20:32]) if content[0] else struct.unpack(">II", content[12:20])
    return timescale, duration


def _riff_end(file: BinaryIO, size: int) -> int:
    """End of the last RIFF chunk: files above 1 GB have several."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length == 0:  # 0: the writer was stopped before it knew
            return size
        position += 8 + length + length % 2
    # Some writers leave out the last padding byte, or count the chunk's own header.
    return position if position - 9 > size else size


def _matroska_end(file: BinaryIO, size: int) -> int:
    """End of the segment, the second element of the file."""
    file.seek(4)
    length, _ = _varint(file)
    file.seek(length, 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return size
    length, is_known = _varint(file)
    return max(file.tell() + length, size) if is_known else size


def _varint(file: BinaryIO) -> tuple[int, bool]:
    """A number of EBML, and whether it is not the one that stands for "unknown"."""
    first = file.read(1)
    if not first or not first[0]:
        return 0, False
    more = 8 - first[0].bit_length()
    rest = file.read(more)
    number = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + rest, "big")
    return number, number != (1 << 7 * (more + 1)) - 1
