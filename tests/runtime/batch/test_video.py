"""Videos: written, read, segmented; the answers are those of the frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from fastsam_deploy.runtime import FastSAM, FastSamError, ImageError, Points, PromptError, Segments, load_image
from fastsam_deploy.runtime.batch.outputs import JsonLines
from fastsam_deploy.runtime.batch.video import VideoWriter, segment_video
from fastsam_deploy.runtime.cli.main import app
from fastsam_deploy.runtime.sources.video import Video, VideoInfo

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
    assert [path.name for path in tmp_path.iterdir()] == ["in.avi"]


def test_what_is_no_video_is_said(tmp_path: Path, coffee: Path):
    with pytest.raises(ImageError, match="no such file"):
        Video(tmp_path / "absent.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ImageError, match="reads no video from it"):
        Video(tmp_path / "text.mp4")
    with pytest.raises(FastSamError, match=r"ending '\.gif', expected one of \.mp4"):
        VideoWriter(tmp_path / "out.gif", VideoInfo(SIZE_HW, 10, 1))
    with pytest.raises(FastSamError, match="cannot be written"):
        VideoWriter(tmp_path / "absent" / "out.avi", VideoInfo(SIZE_HW, 10, 1))


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
