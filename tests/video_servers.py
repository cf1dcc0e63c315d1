"""Servers of videos on this machine: MJPEG and files over HTTP, and RTSP. They end with the block that starts them."""

from __future__ import annotations

import socket
import struct
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

SIZE_HW, FPS = (120, 160), 20.0
_TS_BYTES = 7 * 188
_PAYLOAD_MP2T = 33
SDP = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP {_PAYLOAD_MP2T}\r\na=control:track1\r\n"


@dataclass
class Sender:
    """How a server sends, and what it was asked for.

    Attributes:
        url: address of the stream.
        pause_s: between two frames.
        lengths: frames of the next connections, then it is closed; after these, all frames.
        refused: how many of the next connections get no video.
        most_connections: all further ones get no video.
        asks_for_password: user "me", password "secret".
        credentials: what came as Authorization.
        connections: how many have been answered.
    """

    url: str = ""
    pause_s: float = 1 / FPS
    lengths: list[int] = field(default_factory=list)
    refused: int = 0
    most_connections: int = 1000
    asks_for_password: bool = False
    credentials: list[str | None] = field(default_factory=list)
    connections: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def admits(self, authorization: str | None) -> bool:
        """Whether a request with this header gets an answer."""
        self.credentials.append(authorization)
        return not self.asks_for_password or authorization == f"Basic {b64encode(b'me:secret').decode()}"


def picture(number: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """(h, w, 3) uint8 BGR whose grey says its number: 2 x number."""
    return np.full((*size_hw, 3), 2 * number % 256, np.uint8)


def number_of(image: np.ndarray) -> int:
    """The number of a `picture`, after lossy coding."""
    return round(float(np.median(image)) / 2)


@contextmanager
def mjpeg_server(most: int = 100, size_hw: tuple[int, int] = SIZE_HW) -> Iterator[Sender]:
    """A camera with a web server: multipart/x-mixed-replace."""
    sender = Sender()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not sender.admits(self.headers["Authorization"]):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            if sender.refused or sender.connections >= sender.most_connections:
                sender.refused -= 1
                self.send_error(503)
                return
            sender.connections += 1
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for number in range(sender.lengths.pop(0) if sender.lengths else most):
                content = cv2.imencode(".jpg", picture(number, size_hw))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
                self.wfile.write(head.encode() + content + b"\r\n")
                if sender.stopped.wait(sender.pause_s):
                    return

        def log_message(self, *_: object) -> None: ...

    with _served(Handler) as address:
        sender.url = f"http://{address}/camera.mjpg"
        yield sender
        sender.stopped.set()


@contextmanager
def file_server(path: Path) -> Iterator[str]:
    """The address of a file on a server that knows Range, as all do that videos are watched from."""
    content = path.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("Accept-Ranges", "bytes")
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *_: object) -> None: ...

    with _served(Handler) as address:
        yield f"http://{address}/{path.name}"


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None: ...  # a client that has gone

    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def rtsp_server(folder: Path, most: int = 100) -> Iterator[Sender]:
    """RTSP (RFC 2326) with MPEG-TS (RFC 2250) in RTP over the same connection, as much as FFmpeg asks for."""
    path = folder / "stream.ts"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE_HW[::-1])
    for number in range(most):
        writer.write(picture(number))
    writer.release()
    content, sender = path.read_bytes(), Sender(pause_s=most / FPS)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        sender.url = f"rtsp://127.0.0.1:{listening.getsockname()[1]}/live"
        threading.Thread(target=_accept, args=(listening, content, sender), daemon=True).start()
        yield sender
        sender.stopped.set()


def _accept(listening: socket.socket, content: bytes, sender: Sender) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:  # the server has ended
            return
        threading.Thread(target=_talk, args=(connection, content, sender), daemon=True).start()


def _talk(connection: socket.socket, content: bytes, sender: Sender) -> None:
    with connection, connection.makefile("rb") as lines:
        try:
            while line := lines.readline().decode().strip():
                headers = {}
                while header := lines.readline().decode().strip():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                method = line.split()[0]
                admitted = method != "DESCRIBE" or sender.admits(headers.get("authorization"))
                connection.sendall(_answer(method if admitted else "", headers))
                if method == "PLAY":
                    sender.connections += 1
                    _play(connection, content, sender)
                    return
        except OSError:  # the client has gone
            return


def _answer(method: str, headers: dict[str, str]) -> bytes:
    """The answer to a request; "" stands for one without the right password."""
    more = {
        "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
        "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n",
        "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
        "PLAY": "Session: 1\r\n",
    }.get(method, "")
    status, body = "200 OK", SDP if method == "DESCRIBE" else ""
    if not method:
        status, more = "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n'
    elif method == "SETUP" and "TCP" not in headers["transport"]:
        status, more = "461 Unsupported Transport", ""
    return f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{more}\r\n{body}".encode()


def _play(connection: socket.socket, content: bytes, sender: Sender) -> None:
    """Send the stream once, evenly within `pause_s`."""
    starts = range(0, len(content), _TS_BYTES)
    for i, start in enumerate(starts):
        ticks = round(90_000 * sender.pause_s * i / len(starts))
        packet = struct.pack(">BBHII", 0x80, _PAYLOAD_MP2T, i, ticks, 7) + content[start : start + _TS_BYTES]
        connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
        if sender.stopped.wait(sender.pause_s / len(starts)):
            return
