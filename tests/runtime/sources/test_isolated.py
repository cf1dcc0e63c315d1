"""Videos read in a process of their own: the same frames and errors, and limits that hold."""

from __future__ import annotations

import gc
import os
import struct
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import cv2
import numpy as np
import pytest

from fastsam_deploy.runtime.errors import FastSamError, ImageError, ParameterError
from fastsam_deploy.runtime.sources import video as video_module
from fastsam_deploy.runtime.sources.isolated import IsolatedVideo
from fastsam_deploy.runtime.sources.opening import open_frames
from fastsam_deploy.runtime.sources.video import Video

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("clip") / "clip.avi", "MJPG", 20)


def written(path: Path, codec: str, frames: int, size: tuple[int, int] = (96, 64)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, size)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    for i in range(frames):
        writer.write(np.roll(noise, i, axis=1))
    writer.release()
    return path


def damaged(path: Path) -> None:
    """Spoil some frames in the middle of an AVI, and cut off its end."""
    content = bytearray(path.read_bytes())
    for number in (5, 6, 11):
        at = [i for i in range(len(content)) if content[i : i + 4] == b"00dc"][number] + 8
        content[at : at + 200] = bytes(200)
    path.write_bytes(content[: len(content) * 4 // 5])


def outcome(open_video: Callable[[Path], Video | IsolatedVideo], path: Path) -> list[object]:
    """All that a video tells, or the error."""
    told: list[object] = []
    try:
        with open_video(path) as video:
            told += [video.info, video.timestamps.times_s.tolist(), video.timestamps.is_steady]
            told += [(frame.number, frame.time_s, frame.image.tobytes()) for frame in video.frames()]
            told.append(video.missing)
    except FastSamError as error:
        told.append(str(error))
    return told


@pytest.mark.parametrize("case", ["whole", "damaged", "no video", "absent", "empty"])
def test_frames_and_errors_are_the_same(case: str, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.avi"
    if case != "absent":
        path.write_bytes({"no video": b"hello" * 99, "empty": b""}.get(case, clip.read_bytes()))
    if case == "damaged":
        damaged(path)
    expected = outcome(Video, path)
    assert outcome(IsolatedVideo, path) == expected
    assert (len(expected) > 10) == (case in ("whole", "damaged"))
    if case == "damaged":
        assert expected[-1]


def test_time_is_limited(tmp_path: Path) -> None:
    """The error comes when the time is up, and the child is gone."""
    path = written(tmp_path / "slow.avi", "FFV1", 1, (4000, 3000))
    assert outcome(lambda path: IsolatedVideo(path, seconds=60), path)[0].hw == (3000, 4000)  # type: ignore[attr-defined]
    video = IsolatedVideo(path, seconds=60)
    child, start = video._child.pid, monotonic()
    _ = video.timestamps
    object.__setattr__(video._limits, "seconds", 0.01)
    with pytest.raises(ImageError, match=r"slow\.avi: reading it takes more than 0\.01 s; convert it"):
        list(video.frames())
    assert monotonic() - start < 60
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    path.unlink()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux limits memory")
def test_memory_is_limited(tmp_path: Path) -> None:
    path = written(tmp_path / "large.avi", "FFV1", 1, (4000, 3000))
    with (
        pytest.raises(ImageError, match=r"large\.avi: .*(memory|MiB|decoded|reads no video)"),
        IsolatedVideo(path, memory_bytes=30_000_000) as video,
    ):
        list(video.frames())
    path.unlink()


def test_a_child_that_dies_is_an_error_of_the_video(clip: Path) -> None:
    with IsolatedVideo(clip) as video:
        frames = video.frames()
        next(frames)
        os.kill(video._child.pid, 9)
        with pytest.raises(ImageError, match="the process that reads it has ended"):
            list(frames)


def test_a_video_that_is_dropped_ends_its_child(clip: Path) -> None:
    video = IsolatedVideo(clip)
    child = video._child.pid
    del video
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_limits_out_of_range(clip: Path) -> None:
    with pytest.raises(ParameterError, match="expected a number above 0"):
        IsolatedVideo(clip, seconds=0)


def test_frames_above_the_limit_of_pixels_are_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_module, "MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(ImageError, match="its frames are 96×64, more than the limit of 6,143 pixels"):
        Video(clip)


def test_a_header_that_announces_billions_of_frames(clip: Path, tmp_path: Path) -> None:
    """Each frame that is missing has a line of JSON: there were 2,147,483,627 of them."""
    content = bytearray(clip.read_bytes())
    for place in (content.index(b"avih") + 8 + 16, content.index(b"strh") + 8 + 32):
        content[place : place + 4] = struct.pack("<I", 2**31 - 1)
    path = tmp_path / "x.avi"
    path.write_bytes(content)
    with Video(path) as video:
        assert len(list(video)) == 20
        assert video.info.frames == 2**31 - 1
        assert video.missing.ranges == ((20, 1_000_019),)


def test_folders_are_decoded_in_a_process_too_and_cameras_are_refused(tmp_path: Path) -> None:
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((9, 12, 3), number, np.uint8))
    with open_frames(tmp_path, isolate=True) as isolated, open_frames(tmp_path) as plain:
        assert [frame.image.tobytes() for frame in isolated.frames()] == [
            frame.image.tobytes() for frame in plain.frames()
        ]
        child = isolated._loader._child.pid  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    for source in ("0", "rtsp://host/x"):
        with pytest.raises(ParameterError, match="isolate is for files"):
            open_frames(source, isolate=True)
