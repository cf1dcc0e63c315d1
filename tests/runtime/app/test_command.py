"""`fastsam app` as a process: its address, its end, and what it says where it cannot start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastsam_deploy.runtime import ParameterError
from fastsam_deploy.runtime.app.serve import ServerSettings
from fastsam_deploy.runtime.cli.app import PageOptions
from tests.command_line import run_fastsam

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = [sys.executable, str(ROOT / "scripts/app_gradio.py")]
COMMAND = [sys.executable, "-m", "fastsam_deploy.runtime.cli", "app"]


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the address that it prints."""
    process = subprocess.Popen(
        [*command, "--imgsz", "160"], cwd=folder, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("fastsam: http://"), line + process.stderr.read()
        yield process, line.split()[1]
    finally:
        process.kill()
        process.communicate()


def test_the_script_and_the_command_serve_until_they_are_ended(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra [app]")
    with running(SCRIPT, tmp_path) as (process, url):
        page = urllib.request.urlopen(url, timeout=60)
        assert b"fastsam-canvas" in page.read()
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        port = url.rstrip("/").rpartition(":")[2]
        with pytest.raises(ConnectionRefusedError):  # only 127.0.0.1 is served
            socket.create_connection(("127.0.0.2", int(port)), 60)
        second = subprocess.run(
            [*COMMAND, "--port", port], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert second.returncode == 2 and f"127.0.0.1:{port}" in second.stderr and "--port" in second.stderr
        assert "Traceback" not in second.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    with running(COMMAND, tmp_path) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_without_gradio_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "fastsam_deploy.runtime.app.page", raising=False)
    # Another test of this process may have imported the page: the package knows it then.
    monkeypatch.delattr("fastsam_deploy.runtime.app.page", raising=False)
    assert run_fastsam(monkeypatch, "app", "--imgsz", "160") == 2
    assert "pip install 'fastsam-deploy[app]'" in capfd.readouterr().err
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_limits_are_checked() -> None:
    assert PageOptions(max_upload=8, max_pixels=4, minutes=2).settings() == ServerSettings(
        max_upload_bytes=8_000_000, max_pixels=4_000_000, session_seconds=120
    )
    for options, message in (
        (PageOptions(port=70000), "port is 70000"),
        (PageOptions(sessions=0), "sessions is 0"),
        (PageOptions(max_upload=-1), "max_upload_bytes is -1000000"),
    ):
        with pytest.raises(ParameterError, match=message):
            options.settings()
