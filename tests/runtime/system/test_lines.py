"""Files of lines: whatever ends the writing, the lines that were written are there, and whole."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastsam_deploy.runtime.errors import FastSamError
from fastsam_deploy.runtime.system import lines
from fastsam_deploy.runtime.system.lines import LineFile, whole_lines

LONG = b"x" * 3_000_000 + b"\n"

WRITES_FOREVER = """
import signal, sys
from pathlib import Path
from fastsam_deploy.runtime.system.lines import LineFile
signal.signal(signal.SIGINT, signal.default_int_handler)
with LineFile(Path(sys.argv[1])) as file:
    while True:
        file.write(b"x" * 3_000_000 + b"\\n")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.txt"


def test_a_full_disk_leaves_whole_lines(path: Path) -> None:
    """A limit on the size of files ends a write in the middle, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with LineFile(path) as file:
            file.write(b"first\n")
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
            with pytest.raises(FastSamError, match=r"rows\.txt: cannot be written \(File too large\); make room"):
                file.write(LONG)
            assert path.read_bytes() == b"first\n"
            file.write(b"short\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"first\nshort\n"


def test_a_line_that_is_interrupted_is_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = os.write, []

    def interrupted(handle: int, content: bytes) -> int:
        calls.append(len(content))
        count = write(handle, content[:7])
        if len(calls) == 1:
            raise KeyboardInterrupt
        return count

    with LineFile(path) as file:
        file.write(b"first\n")
        monkeypatch.setattr(lines.os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            file.write(b"a longer line\n")
    assert path.read_bytes() == b"first\na longer line\n"
    assert len(calls) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_ended_leaves_whole_lines(path: Path, number: signal.Signals) -> None:
    for delay_s in (0.05, 0.11, 0.17):
        process = subprocess.Popen([sys.executable, "-c", WRITES_FOREVER, path], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (path.exists() and path.stat().st_size):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)
        time.sleep(delay_s)
        process.send_signal(number)
        assert process.wait(timeout=60) != 0
        kept = list(whole_lines(path))
        assert kept and set(kept) == {LONG}
        if number == signal.SIGINT:
            assert path.stat().st_size == len(kept) * len(LONG)
        with LineFile(path) as file:  # the next run is not kept from it, and repairs what a kill left
            file.start(kept)
        assert path.stat().st_size == len(kept) * len(LONG)
        path.unlink()


def test_a_part_of_a_line_is_left_out(path: Path) -> None:
    path.write_bytes(b"a\nb\nthe beginning of a li")
    assert list(whole_lines(path)) == [b"a\n", b"b\n"]
    path.write_bytes(b"")
    assert list(whole_lines(path)) == []
    with pytest.raises(FastSamError, match="cannot be read"):
        list(whole_lines(path.parent))


def test_two_writers_of_one_file_are_refused(path: Path) -> None:
    with LineFile(path) as file, LineFile(path) as second:  # nothing has been written: whoever is first begins
        second.write(b"second\n")
        for attempt in (lambda: LineFile(path), lambda: file.write(b"first\n"), file.start):
            with pytest.raises(FastSamError, match="another process is writing to it"):
                attempt()
    assert path.read_bytes() == b"second\n"
    with LineFile(path) as file:
        file.write(b"third\n")
    assert path.read_bytes() == b"third\n"


def test_what_cannot_be_started_leaves_the_earlier_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"earlier\n")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with LineFile(path) as file:
        with monkeypatch.context() as patched:
            patched.setattr("fastsam_deploy.runtime.system.drafts.Draft.put", full)
            with pytest.raises(FastSamError, match="No space left"):
                file.write(b"new\n")
        assert path.read_bytes() == b"earlier\n"
    assert [file.name for file in path.parent.iterdir()] == ["rows.txt"]


def test_links_and_permissions_stay(path: Path) -> None:
    path.write_bytes(b"earlier\n")
    path.chmod(0o640)
    link = path.with_name("link")
    link.symlink_to(path)
    with LineFile(link) as file:
        file.write(b"a\n")
        file.write(b"b\n")
    assert link.is_symlink()
    assert path.read_bytes() == b"a\nb\n"
    assert path.stat().st_mode & 0o777 == 0o640
