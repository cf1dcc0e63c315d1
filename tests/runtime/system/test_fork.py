"""What a forked child finds of what its parent had open."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastsam_deploy import runtime
from fastsam_deploy.runtime.system.fork import ForkGate, ForkLock, PerProcess, cached_property
from fastsam_deploy.runtime.system.scratch import scratch_folder
from tests.processes import FORKED, run_program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class Session:
    """Something whose end must not happen in a forked child."""

    ended: list[int] = []  # noqa: RUF012

    def __del__(self) -> None:
        self.ended.append(os.getpid())


def in_child(work: Callable[[], object]) -> str:
    """What the work returns in a forked child, as text; it has ten seconds."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        threading.Timer(10, os._exit, (1,)).start()
        try:
            os.write(writer, repr(work()).encode())
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(writer, repr(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return text


@contextmanager
def held(lock: object) -> Iterator[None]:
    """Another thread holds the lock meanwhile."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:  # type: ignore[attr-defined]
            taken.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_each_process_opens_its_own():
    opened: list[int] = []
    session = PerProcess(Session(), reopen=lambda: opened.append(os.getpid()) or Session())
    first = session.get()

    def used() -> bool:
        second = session.get()
        assert second is not first and second is session.get() and opened == [os.getpid()]
        assert session.take() is second and session.take() is None and session.get() is None
        return not Session.ended

    assert in_child(used) == "True"
    assert in_child(lambda: (session.take(), session.get(), opened, Session.ended)) == "(None, None, [], [])"
    assert in_child(lambda: in_child(used)) == repr("True"), "a child of a child"
    assert session.get() is first and opened == []
    assert session.take() is first and session.get() is None
    assert in_child(session.get) == "None", "closed before the fork"


def test_what_cannot_be_opened_again_says_so_each_time():
    def reopen() -> str:
        raise OSError("no such server")

    value = PerProcess("a", reopen)

    def used() -> str:
        for _ in range(2):
            with pytest.raises(OSError, match="no such server"):
                value.get()
        return "twice"

    assert in_child(used) == "'twice'"


def test_file_descriptors_of_the_parent_are_let_go_of():
    reader, writer = os.pipe()
    value = PerProcess(writer, reopen=lambda: -1, abandon=os.close)
    assert "Bad file descriptor" in in_child(lambda: os.fstat(writer))
    os.write(writer, b"still the parent's")
    assert os.read(reader, 100) == b"still the parent's"
    os.close(value.take() or -1)
    os.close(reader)


def test_threads_of_a_child_open_it_once():
    opened: list[int] = []

    def reopen() -> int:
        time.sleep(0.05)
        opened.append(1)
        return 2

    value = PerProcess(1, reopen)

    def used() -> tuple[list[int], list[int]]:
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(value.get() or 0)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found, opened

    assert in_child(used) == "([2, 2, 2, 2], [1])"


def test_a_lock_that_a_thread_of_the_parent_holds_is_free_in_the_child():
    lock = ForkLock()

    def used() -> str:
        with lock:
            return "taken"

    with held(lock):
        assert in_child(used) == "'taken'"
    assert used() == "taken"


def test_a_fork_waits_until_other_threads_have_left_the_gate():
    gate, steps, started = ForkGate(), [], threading.Event()

    def work() -> None:
        with gate, gate:
            started.set()
            time.sleep(0.2)
            steps.append("worked")
        steps.append("left")

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    assert in_child(lambda: (steps[:1], gate.is_broken)) == "(['worked'], False)"
    thread.join()

    def used() -> str:
        with gate:
            return "entered"

    assert in_child(used) == "'entered'"
    with gate:
        assert in_child(used) == "'entered'", "the thread that forks does not wait for itself"
    assert in_child(lambda: gate.is_broken) == "False"


def test_a_fork_does_not_wait_for_ever():
    gate = ForkGate(patience_s=0.2)

    def used() -> tuple[bool, str]:
        with gate:
            return gate.is_broken, in_child(lambda: gate.is_broken)

    with held(gate):
        start = time.monotonic()
        assert in_child(used) == "(True, 'True')"
        assert 0.2 <= time.monotonic() - start < 5
        assert not gate.is_broken
    assert in_child(used) == "(False, 'False')"


def test_a_gate_that_is_made_during_a_fork(tmp_path: Path):
    """Another thread's fork tells it of its end, though not of its start."""
    program = """
import os, sys
from fastsam_deploy.runtime.system.fork import ForkGate

sys.unraisablehook = lambda error: print("raised", error.exc_value, flush=True)
gates = []
os.register_at_fork(before=lambda: gates.append(ForkGate()))
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
with gates[0]:
    print("free")
"""
    assert run_program(tmp_path, program) == "free\n"


def test_a_fork_finds_its_turn_among_threads_that_never_rest():
    gate, ended = ForkGate(), False

    def work() -> None:
        while not ended:
            with gate:
                time.sleep(0.01)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    start = time.monotonic()
    assert [in_child(lambda: gate.is_broken) for _ in range(5)] == ["False"] * 5
    waited_s = time.monotonic() - start
    ended = True
    for thread in threads:
        thread.join()
    assert waited_s < 5


def test_a_property_that_a_thread_of_the_parent_computes():
    class Number:
        def __init__(self, wait: threading.Event | None = None) -> None:
            self.wait = wait

        @cached_property
        def value(self) -> int:
            if self.wait is not None:
                started.set()
                self.wait.wait()
            return 7

    started, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: Number(done).value)
    thread.start()
    started.wait()
    try:
        assert in_child(lambda: Number().value) == "7"
    finally:
        done.set()
        thread.join()


def test_scratch_folders_outlive_children(tmp_path: Path):
    code = """
from fastsam_deploy.runtime.system.scratch import scratch_folder
entered, done = threading.Event(), threading.Event()
def work():
    with scratch_folder() as folder:
        (folder / "file").touch()
        entered.set()
        done.wait()
        print((folder / "file").exists())
thread = threading.Thread(target=work)
thread.start()
entered.wait()
print(forked(lambda: None), flush=True)
done.set()
"""
    assert run_program(tmp_path, FORKED + code) == "0\nTrue\n"
    with scratch_folder() as folder:
        assert not list(folder.iterdir())
    assert not folder.exists()


def test_the_exit_code_and_the_last_lines_of_a_child_that_inherited_something(tmp_path: Path):
    code = """
import atexit, ctypes
from fastsam_deploy.runtime.system.fork import PerProcess
atexit.register(lambda: os.getpid() != parent and print("at exit"))
parent = os.getpid()
libc = ctypes.CDLL(None)
libc.on_exit(ctypes.cast(libc.abort, ctypes.c_void_p), None)  # as a library whose handler fails in children
opened = PerProcess(1, reopen=lambda: 2)
def work():
    libc.printf(b"printed by C\\n")
    print("printed by Python")
    sys.exit(9)
print(forked(work), flush=True)
os._exit(0)
"""
    assert sorted(run_program(tmp_path, FORKED + code).splitlines()) == [
        "9",
        "at exit",
        "printed by C",
        "printed by Python",
    ]


PLAIN_LOCKS = {
    "cuda/driver/process.py": "renewed in the child",
    "cuda/slots.py": "renewed in the child",
    "engines/openvino.py": "of a `PerProcess` value: the child has another one",
    "engines/triton/memory.py": "of a `PerProcess` value",
    "engines/triton/over_http.py": "of a `PerProcess` value",
    "engines/triton/session.py": "of a `PerProcess` value",
    "http_server/admission.py": "of a server, which forks nothing",
    "http_server/batcher.py": "of a server, which forks nothing",
    "segmenters/host.py": "of a stream, which is an error in the child",
    "sources/live.py": "of a live source, which is an error in the child",
    "system/fork.py": "renewed in the child",
}
"""Modules with locks of `threading`, and why no child waits for them for ever. All others use `ForkLock`."""


def test_no_other_module_has_a_lock_that_a_child_would_wait_for() -> None:
    package = Path(runtime.__file__).parent
    kinds = re.compile(r"\b(?:threading\.)?(?:Lock|RLock|Condition|Semaphore|BoundedSemaphore|Barrier)\(")
    sources = {path.relative_to(package).as_posix(): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert {name for name, text in sources.items() if kinds.search(text)} == set(PLAIN_LOCKS)
