"""Connections of the HTTP transport: one for each thread, gone with it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("tritonclient.http", reason="needs tritonclient")

from fastsam_deploy.runtime.connection import Address, Connection
from fastsam_deploy.runtime.engines.triton.transport import open_transport


class Handler(BaseHTTPRequestHandler):
    """Answers as a server of no extensions does, and keeps connections open."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"extensions": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads = True
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}/fastsam"
        found.shutdown()


def test_threads_that_end_leave_no_connection(server: str) -> None:
    """Each stream of images has threads of its own."""
    transport = open_transport(Address.from_text(server), Connection())
    assert transport.extensions() == []
    for _ in range(20):
        thread = threading.Thread(target=transport.extensions)
        thread.start()
        thread.join()
    gc.collect()
    connections = list(transport._open)  # type: ignore[attr-defined]
    assert len(connections) == 1
    transport.close()
    assert connections[0].sock is None
