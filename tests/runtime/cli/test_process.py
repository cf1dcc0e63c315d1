"""A command as a process.

Streams that are full, broken or closed: results that are lost are an error, messages that are lost are not. And when
unused cycles are searched for.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastsam_deploy.runtime import FastSAM, Points
from fastsam_deploy.runtime.cli.process import START_UP_OBJECTS, _end_without_a_search, run_command

START = "import sys; from fastsam_deploy.runtime.cli.main import main; sys.exit(main())"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def run(folder: Path, *words: object, **streams: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START, *map(str, words)]
    return subprocess.run(command, cwd=folder, text=True, check=False, timeout=120, **streams)


@needs_full
@pytest.mark.parametrize(
    "words", [["doctor"], ["doctor", "--json"], ["--version"], ["segment", "--help"]], ids=lambda words: words[-1]
)
def test_a_full_standard_output_is_an_error_of_one_line(words: list[str], tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = run(tmp_path, *words, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == "fastsam: standard output: cannot be written (No space left on device); make room\n"


@pytest.mark.parametrize("words", [["doctor"], ["segment", "--help"]], ids=lambda words: words[-1])
def test_a_reader_that_has_gone_ends_the_command_silently(words: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(tmp_path, *words, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@needs_full
@pytest.mark.parametrize("how", ["full", "closed", "broken"])
def test_messages_that_nobody_reads_do_not_stop_the_work(how: str, tmp_path: Path, coffee: Path, cat: Path) -> None:
    words = ["segment", str(coffee), str(cat), "--imgsz", "64", "-o", "out", "--json", "out.jsonl"]
    redirected = {"full": "2>/dev/full", "closed": "2>&-", "broken": "2> >(exec 0<&-; sleep 0)"}[how]
    command = ["bash", "-c", f'exec "$@" {redirected}', "bash", sys.executable, "-c", START, *words]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cat.overlay.jpg", "coffee.overlay.jpg"]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


def test_a_closed_stream_is_never_a_file(tmp_path: Path) -> None:
    """What libraries print to a closed standard error went into whatever file was opened next."""
    code = (
        "import os, sys; from fastsam_deploy.runtime.cli.process import run_command\n"
        "def command():\n"
        "    with open('data', 'wb') as file:\n"
        "        os.write(2, b'a message of a library'); file.write(b'data')\n"
        "sys.exit(run_command('fastsam', command))"
    )
    command = ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", sys.executable, "-c", code]
    assert subprocess.run(command, cwd=tmp_path, check=False, timeout=60).returncode == 0
    assert (tmp_path / "data").read_bytes() == b"data"


def test_a_short_command_ends_before_the_first_search_for_cycles(tmp_path: Path, coffee: Path) -> None:
    """Not even at the exit: what was registered before the command began finds everything exempt from searches."""
    code = (
        "import atexit, gc, sys; from fastsam_deploy.runtime.cli.main import main\n"
        "gc.collect(); searches = []; gc.callbacks.append(lambda phase, info: searches.append(phase))\n"
        "atexit.register(lambda: print(searches, gc.get_freeze_count() > 50_000, len(gc.get_objects()) < 1_000))\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "segment", str(coffee), "--imgsz", "64", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[] True True\n")


def test_a_command_that_loads_onnx_or_torch_reports_no_leaks() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("torch")
    code = (
        "from fastsam_deploy.runtime.cli.process import run_command\n"
        "def command():\n    import importlib.util, onnx, torch\n"
        "    importlib.util.find_spec('triton') and __import__('triton')\n"
        "raise SystemExit(run_command('fastsam', command))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_long_command_searches_for_cycles_as_any_program(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()  # ends what a command of another test in this process has postponed
    usual, callbacks, seen = gc.get_threshold(), list(gc.callbacks), []
    monkeypatch.setattr("atexit.register", seen.append)

    def command() -> None:
        seen.append(gc.get_threshold())
        kept: list[list[None]] = []
        while gc.get_threshold() != usual:
            kept.append([])
        assert len(kept) > START_UP_OBJECTS / 2

    for _ in range(2):
        assert run_command("fastsam", command) == 0
        assert (gc.get_threshold(), gc.callbacks) == (usual, callbacks)
    assert seen == [_end_without_a_search, (START_UP_OBJECTS, *usual[1:])] * 2
    for _ in range(2):
        assert run_command("fastsam", lambda: None) == 0
    assert len(gc.callbacks) == len(callbacks) + 1
    gc.collect()
    assert (gc.get_threshold(), gc.callbacks) == (usual, callbacks)


def test_segmenting_leaves_no_cycles_that_hold_images(coffee: Path, demo_onnx: Path) -> None:
    """Before the first search for cycles they would pile up."""
    with FastSAM(demo_onnx, imgsz=64, threads=1) as model:
        model.segment(coffee)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                model.segment(coffee, Points([[300, 200]]))
            assert gc.collect() < 30
        finally:
            gc.enable()
