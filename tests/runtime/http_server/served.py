"""A real `fastsam serve` in a process of its own, and what tests send to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PHOTOS = ROOT / "examples/images"
SMALL = ("--imgsz", "320", "--threads", "1")
_BOUNDARY = "the-boundary-of-tests"


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A server while a block lasts; it is killed at the end, if it has not ended before."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "fastsam_deploy.runtime.cli", "serve", "--port", "0", *SMALL, *arguments]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **environment}
        )
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.port = int(self.wait_for(r"serving on http://127\.0\.0\.1:(\d+)")[1])
        except BaseException:
            self.__exit__()
            raise

    def wait_for(self, pattern: str, timeout_s: float = 180) -> re.Match[str]:
        """The first line that has this."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with self._said:
                for line in self.lines:
                    if match := re.search(pattern, line):
                        return match
                assert self.process.poll() is None or self._reader.is_alive(), "".join(self.lines)
                self._said.wait(0.1)
        raise AssertionError(f"no line with {pattern}:\n{''.join(self.lines)}")

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, named, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.send("GET", path)

    def post(self, path: str, **values: Any) -> Reply:
        return self.send("POST", path, json.dumps(values).encode(), Content_Type="application/json")

    def form(self, image: bytes, **fields: Any) -> Reply:
        body, kind = form_of(image, **fields)
        return self.send("POST", "/v1/segment", body, Content_Type=kind)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.get("/metrics").body.decode().splitlines()
        values = [float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{re.escape(name)}(?:{{|\s)", line)]
        return sum(values)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._said:
                self.lines.append(line)
                self._said.notify_all()


def form_of(image: bytes, **fields: Any) -> tuple[bytes, str]:
    """Body and type of a form: texts as they are, other values as JSON."""
    parts = [b'Content-Disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n' + image]
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value)
        parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode())
    between = f"--{_BOUNDARY}\r\n".encode()
    body = b"".join(between + part + b"\r\n" for part in parts) + f"--{_BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={_BOUNDARY}"
