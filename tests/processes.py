"""Programs that tests run in interpreters of their own: some fork, some are killed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
