"""`fastsam video` with streams, folders and addresses: what is written, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastsam_deploy.runtime import load_image
from fastsam_deploy.runtime.sources import opening
from tests.command_line import run_fastsam
from tests.video_servers import FPS, SIZE_HW, file_server, mjpeg_server, rtsp_server

SMALL = ("--imgsz", "64")


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _frames(path: Path) -> int:
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    return count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_stream_with_whole_files(tmp_path: Path, number: signal.Signals):
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "from fastsam_deploy.runtime.cli.main import main; sys.exit(main())"
    with mjpeg_server(most=10_000) as server:
        address = server.url.replace("//", "//me:secret@")
        command = [sys.executable, "-c", start, "video", address, *SMALL, "--json", "a.jsonl", "-o", "a.mp4"]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            try:
                lines, deadline = tmp_path / "a.jsonl", time.monotonic() + 60
                while not lines.exists() or lines.read_bytes().count(b"\n") < 4:
                    assert process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.01)
                process.send_signal(number)
                _, told = process.communicate(timeout=60)
            finally:
                process.kill()
    assert process.returncode == 0, told
    rows = _lines(tmp_path / "a.jsonl")
    assert len(rows) >= 4 and not [row for row in rows if "error" in row]
    numbers = [row["frame"] for row in rows]
    assert numbers[0] == 0 and numbers == sorted(set(numbers))
    assert {row["image"]["path"] for row in rows} == {server.url}
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert _frames(tmp_path / "a.mp4") == round(rows[-1]["time_s"] * capture.get(cv2.CAP_PROP_FPS)) + 1
    assert f"{server.url}: live; Ctrl-C ends" in told and f"{server.url}: {len(rows)} frames, " in told
    assert "secret" not in told


def test_a_stream_that_is_lost_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(opening.open_frames.__kwdefaults__, "first_wait_s", 0.01)
    with mjpeg_server() as server:
        server.lengths, server.most_connections = [30], 1
        code = run_fastsam(monkeypatch, "video", server.url, *SMALL, "--json", "a.jsonl", "-o", "a.avi")
    told = capfd.readouterr().err
    assert code == 2
    rows = _lines(tmp_path / "a.jsonl")
    assert rows[-1]["error"]["kind"] == "ImageError" and "connection lost" in rows[-1]["error"]["message"]
    assert len(rows) > 3 and not [row for row in rows[:-1] if "error" in row]
    assert _frames(tmp_path / "a.avi") >= len(rows) - 1
    assert "try 5 of 5" in told and "not regained in 5 tries" in told


def test_rtsp_ends_after_so_many_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with rtsp_server(tmp_path) as server:
        assert run_fastsam(monkeypatch, "video", server.url, *SMALL, "--frames", "3", "--every", "2") == 0
    assert _frames(tmp_path / "live.overlay.mp4") >= 5


def test_a_folder_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coffee: Path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    photo = cv2.imread(str(coffee))
    for number in range(7):
        cv2.imwrite(f"frames/{number}.png", photo[:200, 10 * number : 10 * number + 300])
    options = ("--fps", "10", "--every", "3", "--json", "a.jsonl", "-o", "a.avi")
    assert run_fastsam(monkeypatch, "video", "frames", *SMALL, *options) == 0
    rows = _lines(tmp_path / "a.jsonl")
    assert [(row["frame"], row["time_s"], row["image"]["path"]) for row in rows] == [
        (number, number / 10, f"frames/{number}.png") for number in (0, 3, 6)
    ]
    capture = cv2.VideoCapture("a.avi")
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10 / 3, abs=0.01) and _frames(Path("a.avi")) == 3


def test_a_video_over_http_has_the_lines_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coffee: Path):
    monkeypatch.chdir(tmp_path)
    photo = load_image(coffee)
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE_HW[::-1])
    for number in range(6):
        writer.write(np.ascontiguousarray(photo[100:220, 20 * number : 20 * number + 160, ::-1]))
    writer.release()
    with file_server(Path("clip.mp4")) as address:
        assert run_fastsam(monkeypatch, "video", address, *SMALL, "--json", "a.jsonl") == 0
    assert run_fastsam(monkeypatch, "video", "clip.mp4", *SMALL, "--json", "b.jsonl") == 0
    rows, local = ([(row["frame"], row["time_s"], row["segments"]) for row in _lines(Path(f"{n}.jsonl"))] for n in "ab")
    assert rows == local and len(rows) == 6


def test_tracks_are_in_the_lines_and_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coffee: Path):
    """A camera that moves over a photograph; the cup that was pointed at in the first frame is shown in all."""
    monkeypatch.chdir(tmp_path)
    photo = cv2.imread(str(coffee))
    (tmp_path / "frames").mkdir()
    for number in range(5):
        cv2.imwrite(f"frames/{number}.png", photo[:, 8 * number : 8 * number + 500])
    options = ("--imgsz", "320", "--track", "--json", "a.jsonl", "-o", "a.avi")
    assert run_fastsam(monkeypatch, "video", "frames", *options) == 0
    everything = [{row["track_id"] for row in line["segments"]} for line in _lines(Path("a.jsonl"))]
    assert len(everything[0]) >= 3 and all(len(ids & everything[0]) >= len(everything[0]) / 2 for ids in everything)
    options = ("--imgsz", "320", "--track", "--points", "285,150", "--json", "b.jsonl", "-o", "b.avi")
    assert run_fastsam(monkeypatch, "video", "frames", *options) == 0
    lines = _lines(Path("b.jsonl"))
    shown = [[(row["track_id"], row["prompt"]) for row in line["segments"]] for line in lines]
    assert shown == [shown[0]] * 5 and len(shown[0]) == 1
    assert len({line["segments"][0]["segmentation"]["counts"] for line in lines}) == 5, "and moves"
