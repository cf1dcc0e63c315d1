"""Reading videos that are damaged, cut off, turned, trimmed, or of a variable rate."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastsam_deploy.runtime import ImageError
from fastsam_deploy.runtime.sources.containers import Container, read_container
from fastsam_deploy.runtime.sources.frames import Frame, MissingFrames
from fastsam_deploy.runtime.sources.timestamps import timestamps_of
from fastsam_deploy.runtime.sources.video import Video
from tests.runtime.sources import mp4

FRAMES, SIZE_HW, FPS = 12, (96, 160), 10.0
CODECS = {".avi": "MJPG", ".mp4": "mp4v", ".mkv": "MJPG"}
TIMES_S = [0.0, 0.1, 0.2, 0.3, 0.4, 1.3, 2.3, 3.4, 4.4, 5.4, 5.5, 5.6]


def _write(path: Path, count: int = FRAMES) -> Path:
    """Noise, so that frames take room; frame n is brighter the higher n is."""
    noise = np.random.default_rng(0).integers(0, 40, (*SIZE_HW, 3), np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), FPS, SIZE_HW[::-1])
    for number in range(count):
        writer.write(np.roll(noise, number, 1) + np.uint8(10 * number))
    writer.release()
    return path


def _damage(path: Path, *numbers: int) -> None:
    """Overwrite the JPEG data of frames."""
    content = path.read_bytes()
    starts = [i for i in range(len(content)) if content.startswith(b"\xff\xd8\xff", i)]
    ends = [content.index(b"\xff\xd9", start) for start in starts]
    for number in numbers:
        blank = bytes(ends[number] - starts[number])
        content = content[: starts[number]] + blank + content[ends[number] :]
    path.write_bytes(content)


def _read(path: Path) -> tuple[list[Frame], MissingFrames]:
    with Video(path) as video:
        return list(video.frames()), video.missing


def _numbers(frames: list[Frame]) -> list[int]:
    return [frame.number for frame in frames]


@pytest.mark.parametrize("suffix", CODECS)
def test_a_whole_video_has_all_frames(suffix: str, tmp_path: Path):
    frames, missing = _read(_write(tmp_path / f"in{suffix}"))
    assert _numbers(frames) == list(range(FRAMES))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(FRAMES) / FPS, atol=0.001)
    assert not missing


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
@pytest.mark.parametrize("numbers", [(5,), (0,), (11,), (2, 3, 7)], ids=str)
def test_damaged_frames_are_left_out_and_the_others_keep_their_numbers(
    suffix: str, numbers: tuple[int, ...], tmp_path: Path
):
    path = _write(tmp_path / f"in{suffix}")
    whole = {frame.number: frame.image for frame in _read(path)[0]}
    _damage(path, *numbers)
    frames, missing = _read(path)
    assert _numbers(frames) == [number for number in range(FRAMES) if number not in numbers]
    assert (missing.count, missing.frames, missing.missing_bytes) == (len(numbers), FRAMES, 0)
    for frame in frames:
        assert frame.time_s == pytest.approx(frame.number / FPS, abs=0.001)
        np.testing.assert_array_equal(frame.image, whole[frame.number])


@pytest.mark.parametrize("suffix", CODECS)
def test_half_a_video_is_not_whole(suffix: str, tmp_path: Path):
    path = _write(tmp_path / f"in{suffix}")
    if suffix == ".mp4":
        mp4.put_header_first(path)
        assert not _read(path)[1], "moved rightly"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames, missing = _read(path)
    assert 3 <= len(frames) <= 8
    assert _numbers(frames) == list(range(len(frames)))
    assert missing.missing_bytes == len(content) - len(content) // 2
    if suffix != ".mkv":  # has no number of frames in its header
        assert missing.ranges == ((len(frames), FRAMES - 1),)


def test_times_are_those_of_the_container(tmp_path: Path):
    path = _write(tmp_path / "in.mp4")
    mp4.set_times(path, TIMES_S)
    frames, missing = _read(path)
    np.testing.assert_allclose([frame.time_s for frame in frames], TIMES_S, atol=0.001)
    assert _numbers(frames) == list(range(FRAMES))
    assert not missing
    with Video(path) as video:
        assert not video.timestamps.is_steady
        np.testing.assert_allclose(video.timestamps.times_s, TIMES_S, atol=0.001)


def test_a_turned_video_is_upright(tmp_path: Path):
    path = tmp_path / "in.mp4"
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    image[:40, :40] = 255
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE_HW[::-1])
    for _ in range(3):
        writer.write(image)
    writer.release()
    mp4.turn_right(path, SIZE_HW[0])
    with Video(path) as video:
        assert video.info.hw == SIZE_HW[::-1]
        for frame in video:
            assert frame.shape == (*SIZE_HW[::-1], 3)
            assert np.abs(frame.astype(int) - np.rot90(image, -1)).mean() < 5


def test_frames_that_were_trimmed_away_are_not_missing(tmp_path: Path):
    path = _write(tmp_path / "in.mp4")
    mp4.trim(path, 0.7)
    frames, missing = _read(path)
    assert _numbers(frames) == list(range(7))
    assert not missing


class Capture:
    """Stands for OpenCV on an H.264 file with a damaged reference: frames come late, time stamps are absent."""

    def __init__(self, times_s: list[float | None]) -> None:
        self._times_s = iter(times_s)
        self._time_s = 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        time_s = next(self._times_s, None)
        self._time_s = time_s or 0.0
        return time_s is not None, None if time_s is None else np.zeros((*SIZE_HW, 3), np.uint8)

    def get(self, _: int) -> float:
        return 1000 * self._time_s

    def release(self) -> None: ...


@pytest.mark.parametrize(
    ("times_s", "numbers"),
    [
        ([0.0, 0.1, 0.2, None, None, 0.3, 0.7, 0.5, 0.8, 0.9, 1.0, 1.1], [0, 1, 2, 3, 5, 7, 8, 9, 10, 11]),
        ([0.0, None, 0.2, 0.2, 1.1, 0.4], [0, 2, 4, 11]),
        ([0.0, 0.1, None, 1e9, 0.4], [0, 1, 3, 4]),
        ([0.0] * FRAMES, list(range(FRAMES))),
        ([0.0, 0.1, 0.1, 1e9] + [0.0] * 8, list(range(FRAMES))),
    ],
    ids=["out of order", "twice", "absurd time after damage", "no times", "absurd times"],
)
def test_times_and_orders_that_decoders_give(times_s: list[float | None], numbers: list[int], tmp_path: Path):
    with Video(_write(tmp_path / "in.avi")) as video:
        assert len(video.timestamps.times_s) == FRAMES
        video._capture = Capture(times_s)
        frames = list(video.frames())
    assert _numbers(frames) == numbers
    np.testing.assert_allclose([frame.time_s for frame in frames], np.array(numbers) / FPS, atol=0.101)
    assert video.missing.count == FRAMES - len(numbers)


def test_a_header_that_promises_billions_of_frames_ends(tmp_path: Path):
    path = _write(tmp_path / "in.avi")
    content = bytearray(path.read_bytes())
    start = content.index(b"strh") + 8 + 32
    assert struct.unpack("<I", content[start : start + 4])[0] == FRAMES
    content[start : start + 4] = struct.pack("<I", 2**31 - 5)
    path.write_bytes(content)
    start_s = time.monotonic()
    frames, missing = _read(path)
    assert time.monotonic() - start_s < 20
    assert (len(frames), missing.ranges[0][0]) == (FRAMES, FRAMES)


def test_missing_frames_in_words():
    assert str(MissingFrames(((4, 4), (6, 8)), 12)) == "4 of 12 frames missing: 4, 6–8"
    many = MissingFrames(tuple((2 * i, 2 * i) for i in range(30)), 60, 99)
    assert str(many).startswith("30 of 60 frames missing: 0, 2, ")
    assert str(many).endswith(", 38, …; the file is cut off, 99 bytes are absent at its end")


def test_times_of_damaged_packets_are_interpolated():
    times = timestamps_of(np.array([0.0, 0.2, 0.1, np.nan, 1.0, 3.0]), fps=1.0)
    np.testing.assert_allclose(times.times_s, [0, 0.1, 0.2, 0.6, 1, 3])
    assert times.number_at(2.6) == 5
    steady = timestamps_of(np.array([0.0, 0.2, 0.1, np.nan, 0.301]), fps=10.0)
    assert steady.is_steady
    assert steady.number_at(0.301) == 3


def _garbage() -> Iterator[bytes]:
    generator = np.random.default_rng(3)
    for head in (b"", b"\0\0\0\x1cftyp", b"\0\0\0\x01moov", b"RIFF\0\0\0\0AVI ", b"\x1a\x45\xdf\xa3"):
        for size in (0, 3, 9, 200):
            yield head + generator.bytes(size)


@pytest.mark.parametrize("content", list(_garbage()), ids=lambda content: content[:12].hex())
def test_any_bytes_have_a_structure_or_none(content: bytes, tmp_path: Path):
    path = tmp_path / "in.mp4"
    path.write_bytes(content)
    assert isinstance(read_container(path), Container)
    with pytest.raises(ImageError, match=r"reads no video|no frame can be decoded"):
        _read(path)
