"""Programs that tests run in interpreters of their own: some fork, some are killed."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FORKED = """
import os, sys, threading, time

def forked(work, *arguments, patience_s=40):
    "Exit code of a forked child that does the work and ends as a program does; 'hung' if it does not end."
    sys.stdout.flush()
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        work(*arguments)
        sys.exit(0)
    while time.monotonic() - start < patience_s:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hung"
"""
"""How programs begin that fork."""


def run_program(folder: Path, code: str, *arguments: object, timeout_s: float = 120, code_expected: int = 0) -> str:
    """Run code as a file of its own and return what it printed; the test fails if it does not end as expected.

    Args:
        folder: temporary; the program is written there. It runs in the project's folder.
        arguments: of the program.
        timeout_s: it is killed then.
        code_expected: its exit code.
    """
    done = subprocess.run(
        _command(folder, code, arguments), cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == code_expected, f"ended with {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


@contextmanager
def running_program(folder: Path, code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The same while it runs; it is killed at the end of the block."""
    command = _command(folder, code, arguments)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _command(folder: Path, code: str, arguments: tuple[object, ...]) -> list[str]:
    path = folder / f"program{len(list(folder.iterdir()))}.py"
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    return [sys.executable, str(path), *map(str, arguments)]


APPLICATION = """
import os
from fastsam_deploy.runtime import FastSAM
model = {model}
def segment():
    return len(model.segment("examples/images/cat.jpg"))
wanted = segment()
def application(environment, start):
    body = f"{{os.getpid()}} {{segment() == wanted}}".encode()
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

_PATIENCE_S = 10
"""On a busy machine. gunicorn kills workers after 30."""


def check_gunicorn(folder: Path, model: str) -> None:
    """A real gunicorn with `--preload`: workers answer as the parent does, and end as soon as they are told to.

    Args:
        folder: temporary, for the application and its log.
        model: Python that opens the model, before the workers are forked.
    """
    pytest.importorskip("gunicorn")
    (folder / "application.py").write_text(APPLICATION.format(model=model), encoding="utf-8")
    log = folder / "log"
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "--max-requests", "3", "--timeout", "30"]
    command += ["--bind", "127.0.0.1:0", "--pythonpath", str(folder), "--log-file", str(log), "application:application"]
    with subprocess.Popen(command, cwd=ROOT) as master:
        try:
            port = int(_wait_for(log, r"Listening at: http://127\.0\.0\.1:(\d+)")[1])
            pids = [_asked(port) for _ in range(14)]
            assert len(set(pids)) >= 4, "each worker answers three requests"
            for pid in {pid for pid in pids if pids.count(pid) == 3}:
                _wait_until_gone(pid, _PATIENCE_S)
            start = time.monotonic()
            master.send_signal(signal.SIGTERM)
            assert master.wait(30) == 0
            assert time.monotonic() - start < _PATIENCE_S, "the last workers end as well"
        finally:
            master.kill()
    text = log.read_text(encoding="utf-8")
    assert "SIGKILL" not in text and "TIMEOUT" not in text and "SIGABRT" not in text, text


def _wait_for(log: Path, pattern: str) -> re.Match[str]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        match = re.search(pattern, log.read_text(encoding="utf-8")) if log.exists() else None
        if match:
            return match
        time.sleep(0.05)
    raise AssertionError(f"{pattern!r} is not in {log.read_text(encoding='utf-8')}")


def _asked(port: int) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/")
        pid, right = connection.getresponse().read().decode().split()
    assert right == "True"
    return int(pid)


def _wait_until_gone(pid: int, patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end, f"worker {pid} has not ended"
        time.sleep(0.02)
