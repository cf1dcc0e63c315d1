"""Sources of frames: cameras, streams over HTTP and RTSP from servers on this machine, videos over HTTP, folders."""

from __future__ import annotations

import os
import subprocess
import threading
from base64 import b64encode
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastsam_deploy.runtime import ImageError, ParameterError
from fastsam_deploy.runtime.sources.addresses import SCHEMES, checked_address, shown_address
from fastsam_deploy.runtime.sources.folder import FrameFolder
from fastsam_deploy.runtime.sources.frames import thinned
from fastsam_deploy.runtime.sources.live import LiveSource
from fastsam_deploy.runtime.sources.opening import input_path, open_frames, stem_of
from fastsam_deploy.runtime.sources.remote import RemoteVideo
from fastsam_deploy.runtime.sources.video import Video
from tests.processes import FORKED, run_program
from tests.video_servers import SIZE_HW, file_server, mjpeg_server, number_of, picture, rtsp_server


def test_a_slow_reader_gets_the_newest_frame():
    """20 frames a second come, and each takes ten times as long: what is read is never older than one frame."""
    pause = threading.Event()
    with mjpeg_server() as server, open_frames(server.url) as source:
        assert isinstance(source, LiveSource) and source.info.hw == SIZE_HW
        taken = []
        for frame in source.frames():
            taken.append(frame)
            if len(taken) == 4:
                break
            pause.wait(0.5)
    sent = [number_of(frame.image) for frame in taken]
    numbers = [frame.number for frame in taken]
    assert numbers[0] == 0 and np.diff(numbers).min() >= 5, "frames that came meanwhile are left out"
    assert np.diff(sent).tolist() == np.diff(numbers).tolist()
    assert source.dropped >= np.diff(numbers).sum() - 3
    times_s = [frame.time_s for frame in taken]
    assert times_s[0] == 0 and np.diff(times_s).min() >= 0.4


def test_a_fast_reader_gets_every_frame():
    with mjpeg_server(most=30) as server, open_frames(server.url, tries=0) as source:
        numbers: list[tuple[int, int]] = []
        with pytest.raises(ImageError, match=r"camera\.mjpg: connection lost after 30 frames, and not regained"):
            numbers.extend((frame.number, number_of(frame.image)) for frame in source.frames())
    first = numbers[0][1]
    assert [sent - first for _, sent in numbers] == [number for number, _ in numbers]
    assert len(numbers) + source.dropped == 30 and len(numbers) > 20


def test_a_lost_connection_is_regained(caplog: pytest.LogCaptureFixture):
    with mjpeg_server() as server:
        server.lengths = [5]
        with open_frames(server.url, first_wait_s=0.01) as source:
            server.refused = 2
            numbers = []
            for frame in source.frames():
                numbers.append(frame.number)
                if server.connections == 2 and server.lengths == []:
                    break
    assert numbers == sorted(set(numbers))
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(": ")[2] for text in told] == [
        *(f"connection lost; try {i} of 5 in {0.01 * 2 ** (i - 1):g} s" for i in (1, 2, 3)), "connected again"
    ]  # fmt: skip


def test_tries_end():
    with mjpeg_server() as server:
        server.lengths = [5]
        with open_frames(server.url, tries=2, first_wait_s=0.01) as source:
            server.refused = 9
            with pytest.raises(ImageError, match="connection lost after 5 frames, and not regained in 2 tries"):
                list(source.frames())
    assert server.refused == 7


def test_stop_ends_the_frames_and_the_waiting_for_a_connection():
    with mjpeg_server() as server:
        server.lengths = [5]
        with open_frames(server.url, first_wait_s=60) as source:
            frames = source.frames()
            next(frames)
            source.stop()
            assert list(frames) == []
        assert not source._reader.is_alive()


def test_another_size_after_a_loss_is_an_error():
    with mjpeg_server() as server, mjpeg_server(size_hw=(60, 80)) as other:
        server.lengths = [5]
        addresses = iter([server.url, other.url])
        changed = "cam: a frame is 80×60, expected 160×120 as before"

        def connect() -> cv2.VideoCapture:
            return cv2.VideoCapture(next(addresses), cv2.CAP_FFMPEG)

        with LiveSource("cam", connect, first_wait_s=0.01) as source, pytest.raises(ImageError, match=changed):
            list(source.frames())


def test_rtsp(tmp_path: Path):
    with rtsp_server(tmp_path, most=60) as server:
        with open_frames(server.url, tries=0) as source:
            assert isinstance(source, LiveSource) and source.info.hw == SIZE_HW
            sent: list[int] = []
            with pytest.raises(ImageError, match="connection lost"):
                sent.extend(number_of(frame.image) for frame in source.frames())
        assert server.connections == 1
        assert sent == sorted(sent) and 40 < sent[-1] < 60


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_passwords_are_sent_and_not_shown(scheme: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with mjpeg_server() as http, rtsp_server(tmp_path) as rtsp:
        server = {"http": http, "rtsp": rtsp}[scheme]
        server.asks_for_password = True
        address = server.url.replace("//", "//me:secret@") + "?key=hidden"
        with open_frames(address) as source:
            assert next(source.frames()).number == 0
        shown = [source.name]
        assert server.credentials == [None, "Basic " + b64encode(b"me:secret").decode()]
        with pytest.raises(ImageError) as refused:
            open_frames(address.replace("secret", "secret2"))
        shown.append(str(refused.value))
        if scheme == "http":
            server.refused, server.asks_for_password = 9, False
            with pytest.raises(ImageError) as refused:
                open_frames(address)
            shown.append(str(refused.value))
    with pytest.raises(ImageError) as nowhere:
        open_frames(f"{scheme}://me:secret@127.0.0.1:1/x?key=hidden")
    text = "".join([*shown, str(nowhere.value), *capfd.readouterr()])
    assert "secret" not in text and "hidden" not in text
    assert f"{scheme}://127.0.0.1" in text


def test_a_server_that_says_nothing_is_given_up():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/x.mjpg"
        with pytest.raises(ImageError, match=r"no video within 0\.5 s"):
            open_frames(address, timeout_s=0.5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, SIZE_HW[::-1])
    for number in range(40):
        writer.write(picture(number))
    writer.release()
    return path


def test_a_video_over_http_is_read_whole(clip: Path):
    with file_server(clip) as address, open_frames(address) as source:
        assert isinstance(source, RemoteVideo) and source.info.frames == 40
        frames = list(source.frames())
    assert [frame.number for frame in frames] == list(range(40)) and not source.missing
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(40) / 10, atol=0.001)
    with Video(clip) as video:
        for frame, local in zip(frames, video.frames(), strict=True):
            np.testing.assert_array_equal(frame.image, local.image)


def test_half_a_video_over_http_is_said(clip: Path, tmp_path: Path):
    content = clip.read_bytes()
    start, end = content.find(b"mdat") + 4, content.rfind(b"moov") - 4
    half = tmp_path / "half.mp4"
    half.write_bytes(content[: (start + end) // 2] + bytes(end - (start + end) // 2) + content[end:])
    with file_server(half) as address, open_frames(address) as source:
        count = len(list(source.frames()))
    assert 0 < count < 30 and str(source.missing) == f"{40 - count} of 40 frames missing: {count}–39"


def _images(folder: Path, names: list[str], size_hw: tuple[int, int] = SIZE_HW) -> None:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), picture(10 * number, size_hw))


def test_a_folder_is_a_video(tmp_path: Path):
    _images(tmp_path / "frames", ["f1.png", "f2.png", "f9.png", "f10.png", "f011.png"])
    (tmp_path / "frames/notes.txt").write_text("no image")
    (tmp_path / "frames/f3.png").write_bytes(b"damaged")
    (tmp_path / "frames/f1.overlay.jpg").write_bytes(b"of an earlier run")
    with open_frames(tmp_path / "frames", fps=5) as source:
        assert isinstance(source, FrameFolder) and (source.info.hw, source.info.fps) == (SIZE_HW, 5)
        frames = list(source.frames())
    assert [(frame.number, number_of(frame.image)) for frame in frames] == [
        (0, 0), (1, 10), (3, 20), (4, 30), (5, 40)
    ]  # fmt: skip
    assert [frame.path.name for frame in frames if frame.path] == ["f1.png", "f2.png", "f9.png", "f10.png", "f011.png"]
    assert str(source.missing) == "1 of 6 frames missing: 2"
    assert [frame.time_s for frame in frames] == [0, 0.2, 0.6, 0.8, 1.0]


def test_a_folder_without_frames_is_said(tmp_path: Path):
    with pytest.raises(ImageError, match="no image found"):
        open_frames(tmp_path)
    (tmp_path / "a.png").write_bytes(b"damaged")
    with pytest.raises(ImageError, match="none of its 1 images can be read"):
        open_frames(tmp_path)
    _images(tmp_path, ["b.png"])
    _images(tmp_path, ["c.png"], (60, 80))
    with open_frames(tmp_path) as source, pytest.raises(ImageError, match=r"c\.png: is 80×60, expected 160×120"):
        list(source.frames())
    with pytest.raises(ParameterError, match=r"fps is 5 for clip\.mp4"):
        open_frames("clip.mp4", fps=5)


def test_no_camera():
    with pytest.raises(ImageError, match="camera 77: cannot be opened"):
        open_frames("77")


class Camera:
    """Stands for a camera, which no test has."""

    def __init__(self, number: int) -> None:
        assert number == 0
        self._number = 0

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: SIZE_HW[1], cv2.CAP_PROP_FRAME_HEIGHT: SIZE_HW[0]}.get(what, -1)

    def read(self) -> tuple[bool, np.ndarray]:
        self._number += 1
        threading.Event().wait(0.005)
        return True, picture(self._number)

    def release(self) -> None: ...


def test_a_camera(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with open_frames("0") as source:
        assert (source.name, source.is_live, source.info.fps, source.info.frames) == ("camera 0", True, 25.0, 0)
        numbers = [frame.number for frame, _ in zip(source.frames(), range(5), strict=False)]
    assert numbers[0] == 0 and numbers == sorted(set(numbers))


FORKING = """
import sys
from fastsam_deploy.runtime import FastSamError
from fastsam_deploy.runtime.sources.live import LiveSource
sys.path.append(os.getcwd())
from tests.runtime.sources.test_opening import Camera
def read(source):
    try:
        next(source.frames())
    except FastSamError as error:
        assert "forked" in str(error), error
        source.close()
        os._exit(7)
with LiveSource("camera 0", lambda: Camera(0)) as source:
    print(forked(read, source))
    next(source.frames())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_opens_its_own(tmp_path: Path):
    assert run_program(tmp_path, FORKED + FORKING) == "7\n"


@pytest.mark.parametrize(
    "text",
    ["file:///etc/passwd", "ftp://host/x.mp4", "concat://a|b", "http://", "rtsp://host:port/x", "http://host/a\nb"],
)
def test_other_addresses_are_refused(text: str):
    assert text.partition("://")[0] not in SCHEMES or "host" not in text or not text.isprintable() or "port" in text
    with pytest.raises(ImageError, match="cannot be opened; expected an address such as"):
        checked_address(text)


def test_names_of_sources():
    assert shown_address("https://u:p@[::1]:8443/a/b.mp4?x=1#y") == "https://[::1]:8443/a/b.mp4?…"
    assert shown_address("rtsp://me:secret@host:port/x") == "rtsp://…"
    assert stem_of("rtsp://me:pw@10.0.0.7/") == "10.0.0.7"
    assert input_path("0") is None and input_path("./0") == Path("0")


def test_every_other_frame(clip: Path):
    with open_frames(clip) as source:
        assert [frame.number for frame in thinned(source.frames(), 15)] == [0, 15, 30]


GSTREAMER = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
if not all(map(Gst.ElementFactory.find, ("videotestsrc", "jpegenc", "rtpjpegpay", "rtpbin"))):
    raise SystemExit
server = GstRtspServer.RTSPServer.new()
server.set_service("0")
server.set_address("127.0.0.1")
factory = GstRtspServer.RTSPMediaFactory.new()
video = "video/x-raw,format=I420,width=320,height=240,framerate=15/1"
factory.set_launch(f"( videotestsrc is-live=true ! {video} ! jpegenc ! rtpjpegpay name=pay0 pt=26 )")
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


def test_rtsp_of_another_server():
    """GStreamer's, as in many cameras (Debian: gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good, python3-gi)."""
    with subprocess.Popen(
        ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "python3", "-c", GSTREAMER],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            if not port:
                pytest.skip("needs GStreamer's RTSP server and its Python bindings")
            with open_frames(f"rtsp://127.0.0.1:{port}/live") as source:
                frames = [frame for frame, _ in zip(source.frames(), range(5), strict=False)]
        finally:
            server.kill()
    assert [frame.image.shape for frame in frames] == [(240, 320, 3)] * 5
    assert len({frame.number for frame in frames}) == 5
