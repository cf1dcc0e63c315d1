"""Videos: written, read, segmented; the answers are those of the frames."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from fastsam_deploy.runtime import FastSAM, FastSamError, ImageError, Points, PromptError, Segments, Tiles, load_image
from fastsam_deploy.runtime.batch.frame_rate import constant_rate, slots_at
from fastsam_deploy.runtime.batch.json_lines import JsonLines
from fastsam_deploy.runtime.batch.video import VideoWriter, segment_video
from fastsam_deploy.runtime.cli.main import app
from fastsam_deploy.runtime.sources.frames import VideoInfo
from fastsam_deploy.runtime.sources.video import Video
from tests.runtime.sources import mp4

FRAMES, SIZE_HW, IMGSZ = 6, (150, 240), 160


@pytest.fixture(scope="module")
def clip(coffee: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A camera that moves over a photograph."""
    photo = load_image(coffee)
    path = tmp_path_factory.mktemp("video") / "pan.avi"
    height, width = SIZE_HW
    with VideoWriter(path, VideoInfo(SIZE_HW, 12.5, FRAMES)) as writer:
        for i in range(FRAMES):
            writer.write(photo[100 : 100 + height, 40 * i : 40 * i + width])
    return path


@pytest.fixture(scope="module")
def model(demo_onnx: Path) -> FastSAM:
    with FastSAM(demo_onnx, imgsz=IMGSZ) as opened:
        yield opened


def _frames(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        there, frame = capture.read()
        if not there:
            return found
        found.append(frame)


def test_a_video_is_read_as_it_was_written(clip: Path):
    with Video(clip) as video:
        assert video.info == VideoInfo(SIZE_HW, 12.5, FRAMES)
        frames = list(video)
    assert [frame.shape for frame in frames] == [(*SIZE_HW, 3)] * FRAMES
    assert len({frame.tobytes() for frame in frames}) == FRAMES, "each frame is an array of its own"


@pytest.mark.parametrize("prompt", [None, Points([[120, 75]])], ids=["everything", "point"])
def test_each_frame_has_its_own_answer(clip: Path, model: FastSAM, tmp_path: Path, prompt):
    lines, picture = tmp_path / "found.jsonl", tmp_path / "overlay.avi"
    with Video(clip) as video, JsonLines(str(lines)) as sink, VideoWriter(picture, video.info) as writer:
        counts = list(segment_video(model, video, clip, prompt, writer, sink))
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    wanted = [model.segment(frame, prompt, color="BGR") for frame in _frames(clip)]
    assert counts == [len(found) for found in wanted]
    assert sum(counts) > FRAMES / 2
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    assert [row["time_s"] for row in rows] == [i / 12.5 for i in range(FRAMES)]
    for row, found in zip(rows, wanted, strict=True):
        read = Segments.from_json(row)
        np.testing.assert_array_equal(read.masks.dense(), found.masks.dense())
    overlays = _frames(picture)
    assert [frame.shape for frame in overlays] == [(*SIZE_HW, 3)] * FRAMES
    changed = [np.abs(a.astype(int) - b).mean() for a, b in zip(overlays, _frames(clip), strict=True)]
    assert [change > 3 for change in changed] == [count > 0 for count in counts]


def test_the_command(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["video", str(clip), "--imgsz", str(IMGSZ), "--json", "found.jsonl", "-o", "out.mp4"]
    )
    assert done.exit_code == 0, done.output
    assert f"{FRAMES} frames" in done.stderr
    assert len(_frames(tmp_path / "out.mp4")) == FRAMES
    assert len((tmp_path / "found.jsonl").read_text().splitlines()) == FRAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.jsonl", "out.mp4"]


def test_frames_in_tiles(clip: Path, model: FastSAM, tmp_path: Path):
    """The command gives for each frame what Python gives in the same tiles."""
    lines = tmp_path / "tiles.jsonl"
    options = ["--imgsz", str(IMGSZ), "--tiles", "120", "--tile-overlap", "0.25", "--frames", "2"]
    done = CliRunner().invoke(app, ["video", str(clip), *options, "--json", str(lines)])
    assert done.exit_code == 0, done.output
    for line, frame in zip(lines.read_text().splitlines(), _frames(clip)[:2], strict=True):
        masks = Segments.from_json(json.loads(line)).masks
        assert masks == model.segment(frame, color="BGR", tiles=Tiles(120, 0.25)).masks
        assert masks != model.segment(frame, color="BGR").masks


def test_an_isolated_video_gives_the_same(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    texts = []
    for more in ([], ["--isolate"]):
        done = CliRunner().invoke(app, ["video", str(clip), "--imgsz", str(IMGSZ), "--json", "x.jsonl", *more])
        assert done.exit_code == 0, done.output
        rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
        texts.append([{**row, "timing_ms": None} for row in rows])
    assert texts[0] == texts[1]
    (tmp_path / "text.mp4").write_bytes(b"no video")
    done = CliRunner().invoke(app, ["video", "text.mp4", "--isolate", "--json", "-"])
    assert "OpenCV" in str(done.exception) and "reads no video from it" in str(done.exception)


def test_time_stamps_do_not_ask_for_any_number_of_repeated_frames(tmp_path: Path):
    """Gaps below ten minutes, one after each frame: 100 frames were 1,400,000 in the file that is written."""
    with VideoWriter(tmp_path / "x.avi", VideoInfo((16, 16), 24.0, 100)) as writer:
        for i in range(5):
            writer.write(np.zeros((16, 16, 3), np.uint8), 590.0 * i)
        assert writer._count <= 600 * 24 + 100 * 5
        assert writer._count > 590 * 24


def test_the_folder_of_a_video_is_made(clip: Path, tmp_path: Path):
    done = CliRunner().invoke(app, ["video", str(clip), "--imgsz", str(IMGSZ), "-o", str(tmp_path / "new/deep/x.mp4")])
    assert done.exit_code == 0, done.output
    assert len(_frames(tmp_path / "new/deep/x.mp4")) == FRAMES


def test_the_address_of_a_video_is_told_as_it_was_given():
    done = CliRunner().invoke(app, ["video", "ftp://example.com/clip.mp4"])
    assert str(done.exception).startswith("ftp://example.com/clip.mp4: cannot be opened; expected an address such as")


def test_the_command_takes_any_prompt(clip: Path, tmp_path: Path):
    lines, box = tmp_path / "answers.jsonl", '{"boxes": [[20, 20, 120, 90]]}'
    done = CliRunner().invoke(app, ["video", str(clip), "--imgsz", str(IMGSZ), "--prompt", box, "--json", str(lines)])
    assert done.exit_code == 0, done.output
    answers = [json.loads(line)["segments"] for line in lines.read_text().splitlines()]
    assert len(answers) == FRAMES
    assert [[row["prompt"] for row in rows] for rows in answers] == [[0]] * FRAMES, "the best segment for the box"


def test_a_prompt_outside_leaves_no_file_and_the_old_one(clip: Path, model: FastSAM, tmp_path: Path):
    picture = tmp_path / "overlay.avi"
    picture.write_bytes(b"an earlier one")
    with Video(clip) as video, pytest.raises(PromptError, match="point 0 is at"):  # noqa: SIM117
        with VideoWriter(picture, video.info) as writer:
            list(segment_video(model, video, clip, Points([[500, 10]]), writer, None))
    assert picture.read_bytes() == b"an earlier one"
    assert [path.name for path in tmp_path.iterdir()] == ["overlay.avi"]


def test_a_frame_of_another_size_is_no_frame_of_this_video(tmp_path: Path):
    """OpenCV's writer leaves it out without a word, and the lines of JSON no longer fit the frames."""

    def write(*sizes_hw: tuple[int, int]) -> None:
        with VideoWriter(tmp_path / "out.avi", VideoInfo(SIZE_HW, 10, 2)) as writer:
            for size_hw in sizes_hw:
                writer.write(np.zeros((*size_hw, 3), np.uint8))

    with pytest.raises(FastSamError, match=r"out\.avi: frame 1 is 240×148, expected 240×150: .*one size"):
        write(SIZE_HW, (SIZE_HW[0] - 2, SIZE_HW[1]))
    assert list(tmp_path.iterdir()) == []


class ChangingCapture:
    """Stands for a reader of OpenCV that hands out frames as they are; FFmpeg's scales them to one size."""

    def __init__(self, _: str) -> None:
        self._sizes_hw = iter([SIZE_HW, SIZE_HW, (SIZE_HW[0] // 2, SIZE_HW[1])])

    def set(self, *_: float) -> bool:
        return False

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: SIZE_HW[1], cv2.CAP_PROP_FRAME_HEIGHT: SIZE_HW[0]}.get(what, 3)

    def read(self) -> tuple[bool, np.ndarray | None]:
        size_hw = next(self._sizes_hw, None)
        return size_hw is not None, None if size_hw is None else np.zeros((*size_hw, 3), np.uint8)

    def release(self) -> None: ...


@pytest.mark.parametrize("options", [["-o", "out.avi"], ["--json", "out.jsonl"]], ids=["video", "JSON"])
def test_a_video_that_changes_its_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]):
    monkeypatch.chdir(tmp_path)
    Path("in.avi").touch()
    monkeypatch.setattr(cv2, "VideoCapture", ChangingCapture)
    done = CliRunner().invoke(app, ["video", "in.avi", "--imgsz", str(IMGSZ), *options])
    assert isinstance(done.exception, ImageError)
    assert "in.avi: frame 2 is 240×75, expected 240×150 as the video says" in str(done.exception)
    left = [path for path in tmp_path.iterdir() if path.name != "in.avi"]
    assert [path.name for path in left] == [name for name in options if name == "out.jsonl"]
    for path in left:  # the frames before it are not lost
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [("segments" in row, row.get("error", {}).get("kind")) for row in rows] == [
            *[(True, None)] * 2, (False, "ImageError")
        ]  # fmt: skip


def _run(path: Path, *options: str) -> tuple[Any, list[dict]]:
    """Result of the command, and its lines of JSON."""
    lines = path.with_name("answers.jsonl")
    done = CliRunner().invoke(app, ["video", str(path), "--imgsz", str(IMGSZ), "--json", str(lines), *options])
    return done, [json.loads(line) for line in lines.read_text().splitlines()]


def test_a_damaged_frame_is_an_error_at_the_end(clip: Path, tmp_path: Path):
    """OpenCV does not tell it from the end of the video: what came after it was lost, with exit code 0."""
    content, path, overlay = clip.read_bytes(), tmp_path / "in.avi", tmp_path / "overlay.avi"
    starts = [i for i in range(len(content)) if content.startswith(b"\xff\xd8\xff", i)]
    path.write_bytes(content[: starts[2]] + bytes(starts[3] - starts[2] - 8) + content[starts[3] - 8 :])
    done, rows = _run(path, "--output", str(overlay))
    assert isinstance(done.exception, ImageError)
    assert f"in.avi: 1 of {FRAMES} frames missing: 2; the others are done" in str(done.exception)
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    damaged = rows.pop(2)
    assert damaged["error"] == {"kind": "ImageError", "message": f"{path}: frame 2 cannot be decoded"}
    assert "segments" not in damaged
    assert [row["time_s"] for row in rows] == [number / 12.5 for number in (0, 1, 3, 4, 5)]
    whole = _run(clip, "--output", str(tmp_path / "whole.avi"))[1]
    assert [row["segments"] for row in rows] == [row["segments"] for row in whole if row["frame"] != 2]
    frames = _frames(overlay)
    assert len(frames) == FRAMES, "the frame before stands for the missing one"
    np.testing.assert_array_equal(frames[1], frames[2])
    for number in (0, 1, 3, 4, 5):
        np.testing.assert_array_equal(frames[number], _frames(tmp_path / "whole.avi")[number])


def test_half_a_video_is_an_error_at_the_end(clip: Path, tmp_path: Path):
    path, content = tmp_path / "in.avi", clip.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    done, rows = _run(path, "--output", str(tmp_path / "overlay.avi"))
    assert isinstance(done.exception, ImageError)
    assert f"of {FRAMES} frames missing: " in str(done.exception)
    assert "the file is cut off" in str(done.exception)
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    whole = [row for row in rows if "error" not in row]
    assert 1 < len(whole) < FRAMES and whole == rows[: len(whole)]
    assert len(_frames(tmp_path / "overlay.avi")) == len(whole)


def test_a_picture_that_cannot_be_written_costs_no_line(clip: Path, model: FastSAM, tmp_path: Path):
    lines = tmp_path / "answers.jsonl"
    info = VideoInfo((SIZE_HW[0] - 2, SIZE_HW[1]), 12.5, FRAMES)
    with (
        pytest.raises(FastSamError, match="frame 0 is 240×150, expected 240×148"),
        Video(clip) as video,
        JsonLines(lines) as sink,
        VideoWriter(tmp_path / "overlay.avi", info) as writer,
    ):
        list(segment_video(model, video, clip, None, writer, sink))
    (row,) = (json.loads(line) for line in lines.read_text().splitlines())
    assert row["segments"] and "frame 0 is 240×150" in row["error"]["message"]


@pytest.mark.parametrize("name", ["overlay.mp4", "overlay.avi"])
def test_a_variable_rate_keeps_its_times(name: str, clip: Path, tmp_path: Path):
    """Times were number / average rate: up to 1.8 s off."""
    path, times_s = tmp_path / "in.mp4", [0.0, 0.1, 0.2, 1.5, 2.5, 2.6]
    _write(path, np.array(_frames(clip))[..., ::-1])
    mp4.set_times(path, times_s)
    done, rows = _run(path, "--output", str(tmp_path / name))
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose([row["time_s"] for row in rows], times_s, atol=0.001)
    capture = cv2.VideoCapture(str(tmp_path / name))
    rate, frames = capture.get(cv2.CAP_PROP_FPS), _frames(tmp_path / name)
    assert len(frames) == round(times_s[-1] * rate) + 1
    means = np.array([frame.astype(float).mean((0, 1)) for frame in frames])
    changes = 1 + np.flatnonzero(np.abs(np.diff(means, axis=0)).max(1) > 0.5)
    np.testing.assert_allclose(changes / rate, times_s[1:], atol=0.05)


def test_a_long_gap_is_not_filled(tmp_path: Path):
    """A time stamp that is off by a day would repeat a frame a million times."""
    path = tmp_path / "out.avi"
    with VideoWriter(path, VideoInfo(SIZE_HW, 10.0, 4)) as writer:
        for time_s in (0.0, 0.2, 86_400.0, 86_400.3):
            writer.write(np.zeros((*SIZE_HW, 3), np.uint8), time_s)
    assert len(_frames(path)) == 7


def test_a_video_that_starts_late_is_in_step(tmp_path: Path):
    path = tmp_path / "out.avi"
    with VideoWriter(path, VideoInfo(SIZE_HW, 10.0, 2)) as writer:
        writer.write(np.zeros((*SIZE_HW, 3), np.uint8), 0.3)
        writer.write(np.full((*SIZE_HW, 3), 255, np.uint8), 0.4)
    assert [frame.mean() > 128 for frame in _frames(path)] == [False] * 4 + [True]


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.avi"])
@pytest.mark.parametrize("fps", [24000 / 1001, 29.998237, 65.7, 66.667, 105611 / 500, 118.733, 239.417, 240.0])
def test_any_rate_can_be_written(name: str, fps: float, tmp_path: Path):
    """The MPEG-4 encoder refuses 66.667 as OpenCV writes it, 66667 / 1000."""
    _write(tmp_path / name, np.zeros((2, *SIZE_HW, 3), np.uint8), fps)
    capture = cv2.VideoCapture(str(tmp_path / name))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, abs=0.01)


@pytest.mark.parametrize("fps", [24.0, 29.97, 59.94, 66.667, 240.0])
def test_a_constant_rate_is_kept(fps: float):
    jitter_s = np.random.default_rng(0).uniform(-0.004, 0.004, 500)
    for times_s in (np.arange(500) / fps, np.sort(np.arange(500) / fps + jitter_s)):
        assert constant_rate(times_s, fps) == fps
        assert len(np.unique(slots_at(times_s, fps))) == 500


@pytest.mark.parametrize("seed", range(5))
def test_a_rate_keeps_frames_in_step(seed: int):
    generator = np.random.default_rng(seed)
    times_s = np.cumsum(generator.choice([0.016, 0.033, 0.1, 1.0], 300))
    rate = constant_rate(times_s, 299 / (times_s[-1] - times_s[0]))
    assert np.abs(slots_at(times_s, rate) / rate - times_s).max() <= 0.05
    assert rate <= 63


def test_what_is_no_video_is_said(tmp_path: Path, coffee: Path):
    with pytest.raises(ImageError, match="no such file"):
        Video(tmp_path / "absent.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ImageError, match="reads no video from it"):
        Video(tmp_path / "text.mp4")
    with pytest.raises(FastSamError, match=r"ending '\.gif', expected one of \.mp4"):
        VideoWriter(tmp_path / "out.gif", VideoInfo(SIZE_HW, 10, 1))
    with pytest.raises(FastSamError, match="cannot be written"):
        VideoWriter(tmp_path / "text.mp4" / "out.avi", VideoInfo(SIZE_HW, 10, 1))


@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
def test_a_full_disk_is_said_and_leaves_the_old_video(name: str, tmp_path: Path):
    # A limit of this process's own files stands for the disk: OpenCV goes on writing without a word.
    resource = pytest.importorskip("resource")
    (tmp_path / name).write_bytes(b"an earlier one")
    noise = np.random.default_rng(0).integers(0, 255, (40, *SIZE_HW, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(FastSamError, match=rf"{name}: 40 frames were written and \d+ can be read back.*make room"):
            _write(tmp_path / name, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"an earlier one"


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.avi"])
@pytest.mark.parametrize(("count", "fps"), [(1, 30.0), (2, 0.5), (41, 29.97)])
def test_a_whole_video_passes_the_check(name: str, count: int, fps: float, tmp_path: Path):
    _write(tmp_path / name, np.zeros((count, *SIZE_HW, 3), np.uint8), fps)
    assert len(_frames(tmp_path / name)) == count


def test_a_video_of_the_longest_name(tmp_path: Path):
    path = tmp_path / ("n" * 251 + ".avi")
    _write(path, np.zeros((2, *SIZE_HW, 3), np.uint8))
    assert len(_frames(path)) == 2


def _write(path: Path, frames: np.ndarray, fps: float = 10.0) -> None:
    with VideoWriter(path, VideoInfo(SIZE_HW, fps, len(frames))) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_lines_of_a_video_that_is_ended_stay(clip: Path, tmp_path: Path, number: signal.Signals):
    with VideoWriter(tmp_path / "long.avi", VideoInfo(SIZE_HW, 12.5, 600)) as writer:
        for frame in _frames(clip) * 100:
            writer.write(frame[..., ::-1])
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "from fastsam_deploy.runtime.cli.main import main; sys.exit(main())"
    asked = ["video", "long.avi", "--json", "out.jsonl", "-o", "overlay.avi", "--imgsz", str(IMGSZ)]
    process = subprocess.Popen([sys.executable, "-c", start, *asked], cwd=tmp_path, stderr=subprocess.DEVNULL)
    lines, deadline = tmp_path / "out.jsonl", time.monotonic() + 60
    while not lines.exists() or lines.read_bytes().count(b"\n") < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(timeout=60) != 0
    *whole, rest = lines.read_bytes().split(b"\n")
    assert [json.loads(line)["frame"] for line in whole] == list(range(len(whole))) and 4 <= len(whole) < 600
    assert rest == b"" or number == signal.SIGKILL
    assert not (tmp_path / "overlay.avi").exists()
