"""Changes to MP4 files that OpenCV cannot write itself: variable rate, rotation, edit list, header in front."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")


def boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of each box."""
    found, position = [], 0
    while position < len(content):
        size, kind = struct.unpack(">I4s", content[position : position + 8])
        found.append((kind, content[position + 8 : position + size]))
        position += size
    return found


def changed(content: bytes, changes: Mapping[bytes, Callable[[bytes], bytes]]) -> bytes:
    """The boxes with some of them changed, at any depth."""
    parts = []
    for kind, inner in boxes(content):
        new = changed(inner, changes) if kind in _PARENTS else changes.get(kind, bytes)(inner)
        parts.append(struct.pack(">I4s", len(new) + 8, kind) + new)
    return b"".join(parts)


def set_times(path: Path, times_s: list[float], last_s: float = 0.1) -> None:
    """Give the frames these times; the last one is shown for `last_s`."""
    durations_s = np.diff([*times_s, times_s[-1] + last_s])
    timescale = 0

    def read_timescale(content: bytes) -> bytes:
        nonlocal timescale
        timescale = struct.unpack(">I", content[12:16])[0]
        return content[:16] + struct.pack(">I", round(sum(durations_s) * timescale)) + content[20:]

    def stts(_: bytes) -> bytes:
        rows = [struct.pack(">II", 1, round(duration * timescale)) for duration in durations_s]
        return struct.pack(">II", 0, len(rows)) + b"".join(rows)

    def elst(content: bytes) -> bytes:
        return content[:8] + struct.pack(">I", round(sum(durations_s) * 1000)) + content[12:]

    def tkhd(content: bytes) -> bytes:
        return content[:20] + struct.pack(">I", round(sum(durations_s) * 1000)) + content[24:]

    path.write_bytes(changed(path.read_bytes(), {b"mdhd": read_timescale, b"stts": stts, b"elst": elst, b"tkhd": tkhd}))


def turn_right(path: Path, height: int) -> None:
    """Have players turn the video clockwise by 90°, as phones do; `height` is that of its frames."""
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, height << 16, 0, 1 << 30)
    path.write_bytes(changed(path.read_bytes(), {b"tkhd": lambda tkhd: tkhd[:40] + matrix + tkhd[76:]}))


def trim(path: Path, seconds: float) -> None:
    """Have players show the first seconds alone."""
    shown = struct.pack(">I", round(seconds * 1000))
    changes = {b"elst": lambda box: box[:8] + shown + box[12:], b"tkhd": lambda box: box[:20] + shown + box[24:]}
    path.write_bytes(changed(path.read_bytes(), changes))


def put_header_first(path: Path) -> None:
    """Move the header before the frames, so that the first part of the file can be played."""
    parts = dict(boxes(path.read_bytes()))
    shift = len(parts[b"moov"]) + 8

    def stco(content: bytes) -> bytes:
        offsets = struct.unpack(f">{(len(content) - 8) // 4}I", content[8:])
        return content[:8] + struct.pack(f">{len(offsets)}I", *(offset + shift for offset in offsets))

    moved = {kind: parts[kind] for kind in (b"ftyp", b"moov", b"free", b"mdat")}
    whole = b"".join(struct.pack(">I4s", len(content) + 8, kind) + content for kind, content in moved.items())
    path.write_bytes(changed(whole, {b"stco": stco}))
