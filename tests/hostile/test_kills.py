"""What is left when a command is killed, is interrupted, or finds no room. The nightly run does each 200 times."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from tests.hostile import kills
from tests.hostile.commands import COMMANDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

SEED = 20261126
QUICK = (
    "segment",
    "segment --format yolo",
    "video",
    "bench speed",
    "bench fidelity",
    "triton",
    "triton --add-version",
    "engine",
)
SLOW = (
    "segment --format coco",
    "segment --format csv",
    "tune",
    "download",
    "quantize",
    "clip",
    "onnx",
    "onnx --direct",
)
EXPORT = [name for name, command in COMMANDS.items() if command.export]


def each_command(name: str) -> object:
    marks = [pytest.mark.export] if name in EXPORT else []
    return pytest.param(name, marks=marks, id=name)


@pytest.fixture
def folder() -> object:
    """Not pytest's: what hundreds of killed processes leave need not be kept."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def needs(name: str) -> None:
    if name not in kills.available():
        pytest.skip("needs the extra [export], or [clip-export]")


@pytest.mark.parametrize("name", [each_command(name) for name in QUICK])
def test_killed(name: str, folder: Path) -> None:
    """No output name has a half file; the next run succeeds and removes what was left."""
    needs(name)
    assert kills.kill_often(name, 10, SEED, folder).failures == []


@pytest.mark.parametrize("name", [each_command(name) for name in QUICK])
def test_interrupted(name: str, folder: Path) -> None:
    """Ctrl-C, SIGTERM and SIGHUP: nothing is left but whole outputs, and no traceback is shown."""
    needs(name)
    assert kills.interrupt_often(name, 3, SEED, folder).failures == []


@pytest.mark.parametrize("name", [each_command(name) for name in QUICK])
def test_no_room(name: str, folder: Path) -> None:
    """Files cannot grow beyond a limit: an error of one line, and nothing is left but whole outputs."""
    needs(name)
    assert kills.fill_often(name, 3, SEED, folder).failures == []


@pytest.mark.parametrize("name", [each_command(name) for name in ("segment", "video", "triton", "bench fidelity")])
def test_a_disk_that_is_full(name: str, folder: Path) -> None:
    """The same on a file system with no more room than this."""
    needs(name)
    for kilobytes in (24, 120, 400):
        with kills.small_disk(folder / "disk", kilobytes + 200) as mounted:
            if not mounted:
                pytest.skip("only root may mount a small file system")
            place = kills.Range(COMMANDS[name], folder / "disk/work", SEED)
            free = kilobytes * 1000
            kills.leave_free(folder / "disk", free)
            place.run_to_end(f"a disk with {kilobytes} kB")
            assert place.failures == []


@pytest.mark.slow
@pytest.mark.export
@pytest.mark.parametrize("name", SLOW)
def test_slow_commands(name: str, folder: Path) -> None:
    """All of it for the commands that take long, or are like others."""
    needs(name)
    assert kills.kill_often(name, 10, SEED, folder / "1").failures == []
    assert kills.interrupt_often(name, 3, SEED, folder / "2").failures == []
    assert kills.fill_often(name, 3, SEED, folder / "3").failures == []


def test_every_writing_command_is_here() -> None:
    """A command that is new and writes files belongs into the list."""
    from typer.main import get_command

    from fastsam_deploy.runtime.cli.main import app

    groups = {"fastsam": get_command(app)}
    if kills.available() == list(COMMANDS):
        from fastsam_deploy.export.cli.main import app as export_app

        groups["fastsam-export"] = get_command(export_app)
    words = {
        word
        for group in groups.values()
        for name, command in group.commands.items()  # type: ignore[attr-defined]
        for word in (getattr(command, "commands", None) or {name: command})
    }
    run = {word for command in COMMANDS.values() for word in command.words[:2]}
    elsewhere = {"edges", "proposals", "instances"}  # need COCO or BSDS500: tests/runtime/accuracy
    elsewhere |= {"app", "serve"}  # servers, which write no files of users
    elsewhere |= {"run", "status", "export"}  # of `fastsam batch`: tests/runtime/batch/parts/test_kills.py
    assert set(COMMANDS) == {*QUICK, *SLOW}
    assert words - run <= {"doctor", *elsewhere}
