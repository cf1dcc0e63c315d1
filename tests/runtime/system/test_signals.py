"""Commands end on SIGTERM and SIGHUP as on an exception: nothing half written is left."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

USUAL_HANDLERS = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
"""How a child begins: this test run may ignore signals, as under nohup or in a shell's background."""
START = USUAL_HANDLERS + "import sys; from fastsam_deploy.runtime.cli.main import main; sys.exit(main())"


def drafts(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".fs-*")]


def wait_for_drafts(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not drafts(folder):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_command_that_is_ended_leaves_no_draft(number: int, code: int, tmp_path: Path, coffee: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(400):
        shutil.copyfile(coffee, tmp_path / f"photos/{i}.jpg")
    records = tmp_path / "out.jsonl"
    records.write_text("earlier\n")
    command = [sys.executable, "-c", START, "segment", "photos", "--json", "out.jsonl", "-o", "out", "--imgsz", "320"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while records.read_bytes().count(b"\n") < 3:  # in the middle of the images
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.jsonl", "photos"]
    assert not drafts(tmp_path) and not drafts(tmp_path / "out")
    written = [json.loads(line) for line in records.read_text().splitlines()]
    assert records.read_bytes().endswith(b"\n")
    told = said.count(" segments, ")
    assert told in (len(written), len(written) - 1), "what was told is written"
    counted = re.search(
        r"^fastsam: (\d+) done, 0 failed, 0 skipped, (\d+) left → out \(\d+ overlays?\), out.jsonl$", said, re.M
    )
    assert counted is not None, said
    done, left = map(int, counted.groups())
    assert told <= done <= len(written) and done + left == 400


@pytest.mark.export
def test_an_export_that_is_ended_leaves_no_draft(tmp_path: Path, demo_checkpoint: Path) -> None:
    pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")
    start = USUAL_HANDLERS + "from fastsam_deploy.export.cli.main import main; main()"
    command = [sys.executable, "-c", start, "onnx", str(demo_checkpoint), "-o", "made/m.onnx", "--imgsz", "64"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_for_drafts(tmp_path / "made", process)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and "Traceback" not in said
    assert list((tmp_path / "made").iterdir()) == []


def run(code: str) -> str:
    """What a process of its own prints: a signal that is not handled must not end this test run."""
    start = USUAL_HANDLERS + "import os, threading\nfrom fastsam_deploy.runtime.system.signals import exit_on_signals\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_handlers_are_those_of_before_afterwards() -> None:
    code = """
try:
    with exit_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
except SystemExit as error:
    print(error.code)
print([signal.getsignal(number) is signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGHUP)])
"""
    assert run(code) == "143\n[True, True]\n"


def test_a_handler_that_is_there_stays() -> None:
    code = """
signal.signal(signal.SIGTERM, lambda *_: print("called"))
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with exit_on_signals():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)
"""
    assert run(code) == "called\n"


def test_another_thread_changes_nothing() -> None:
    code = """
def enter():
    with exit_on_signals():
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
thread = threading.Thread(target=enter)
thread.start()
thread.join()
"""
    assert run(code) == "True\n"


@pytest.mark.parametrize(
    ("name", "raised"),
    [("SIGTERM", "SystemExit(143)"), ("SIGHUP", "SystemExit(129)"), ("SIGINT", "KeyboardInterrupt()")],
)
def test_a_signal_in_a_destructor_is_not_lost(name: str, raised: str) -> None:
    """Python ignores exceptions there: the command went on to its end."""
    code = f"""
import time
class Model:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.01)
try:
    with exit_on_signals():
        del [Model()][:]
        time.sleep(20)
        print("went on")
except SystemExit as error:
    print(f"SystemExit({{error.code}})")
except KeyboardInterrupt:
    print("KeyboardInterrupt()")
"""
    assert run(code) == f"{raised}\n"


def test_other_exceptions_that_are_ignored_are_reported_as_ever() -> None:
    code = """
class Model:
    def __del__(self):
        raise ValueError("a bug")
seen = []
sys_hook = __import__("sys")
sys_hook.unraisablehook = lambda ignored: seen.append(str(ignored.exc_value))
before = sys_hook.unraisablehook
with exit_on_signals():
    Model()
print(seen, sys_hook.unraisablehook is before)
"""
    assert run(code) == "['a bug'] True\n"


@pytest.mark.parametrize(
    ("raising", "raised"),
    [("os.kill(os.getpid(), signal.SIGTERM)", "SystemExit(143)"), ("raise KeyboardInterrupt", "KeyboardInterrupt()")],
)
def test_a_signal_that_c_code_turns_into_an_error_is_a_signal(raising: str, raised: str) -> None:
    """The initialisation of a C module raises ImportError from it: a traceback was shown."""
    code = f"""
import time
try:
    with exit_on_signals():
        try:
            {raising}
            time.sleep(20)
        except BaseException as error:
            raise ImportError("initialization failed") from error
except SystemExit as error:
    print(f"SystemExit({{error.code}})")
except KeyboardInterrupt:
    print("KeyboardInterrupt()")
"""
    assert run(code) == f"{raised}\n"


def test_an_error_of_its_own_stays_what_it_is() -> None:
    code = """
try:
    with exit_on_signals():
        raise ImportError("a module")
except ImportError as error:
    print(error)
"""
    assert run(code) == "a module\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    """However that ends: here by a kill that it cannot act on."""
    child = "import time; from fastsam_deploy.runtime.system.signals import end_with_parent; end_with_parent();"
    child += "print('up', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', {child!r}], "
    parent += "stdin=subprocess.PIPE, stdout=subprocess.PIPE); c.stdout.readline(); print(c.pid, flush=True)\n"
    parent += "time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        orphan = int(process.stdout.readline())
        process.kill()
    end = time.monotonic() + 30
    while is_running(orphan):
        assert time.monotonic() < end
        time.sleep(0.01)


def is_running(number: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{number}/status").read_text()  # nobody may wait for it
    except OSError:
        return False
