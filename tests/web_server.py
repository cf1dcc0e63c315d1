"""A web server of our own on this machine, with the faults that downloads meet."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Release:
    """Files on a server, and how it misbehaves.

    Attributes:
        url: address of the folder.
        files: name → content.
        cuts: bytes after which the connection of the next answers ends, one entry for each.
        ranges: whether the server knows Range.
        status: HTTP status of the next answers, one entry for each.
        slow_s: pause after each 64 KB.
        asked: name and Range of each request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    status: list[int] = field(default_factory=list)
    slow_s: float = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def release_on_this_machine() -> Iterator[Release]:
    """A server that runs until the block ends."""
    served = Release()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, asked = self.path.rpartition("/")[2], self.headers["Range"]
            served.asked.append((name, asked))
            content = served.files.get(name)
            if served.status:
                self.send_error(served.status.pop(0))
            elif content is None:
                self.send_error(404)
            else:
                self.answer(content, int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0)

        def answer(self, content: bytes, start: int) -> None:
            if start and not served.ranges:
                start = 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            rest = content[start:]
            if served.cuts:
                rest = rest[: served.cuts.pop(0)]
            for i in range(0, len(rest), 1 << 16):
                self.wfile.write(rest[i : i + (1 << 16)])
                time.sleep(served.slow_s)
            self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None: ...  # a client that was killed

    with Server(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}/release"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join()
