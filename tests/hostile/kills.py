"""Commands that are killed, interrupted, or run into a full disk: what they leave, and that the next run cleans up.

A process that has imported everything forks one for each run, so that moments fall into the work and not into imports.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tests.hostile.commands import COMMANDS, WritingCommand, prepare, prepare_for

_LONGEST_S = 300.0
_HANDLERS = (signal.SIGTERM, signal.SIGHUP)


def available() -> list[str]:
    """The commands that can run here."""
    export = all(find_spec(name) for name in ("torch", "ultralytics", "onnx"))
    needs = {"clip": "open_clip", "download": "onnx"}
    return [
        name
        for name, command in COMMANDS.items()
        if (export or not command.export) and find_spec(needs.get(name, "numpy")) is not None
    ]


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.hostile.preload"])
    return context


def _work(name: str, folder: str, limit_bytes: int | None) -> None:
    """What the forked process does."""
    os.setsid()
    os.chdir(folder)
    for number in _HANDLERS:
        signal.signal(number, signal.SIG_DFL)  # this run may ignore them
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, target in ((1, ".stdout"), (2, ".stderr")):
        os.dup2(os.open(Path(folder).parent / target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    if limit_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    code = 1
    try:
        code = COMMANDS[name].run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    finally:
        if code == 1:
            import traceback

            traceback.print_exc()
        for number in (*_HANDLERS, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        atexit._run_exitfuncs()  # as a process does that was not forked
        os._exit(code)


class Range:
    """A command in a folder of its own, to be run again and again."""

    def __init__(self, command: WritingCommand, folder: Path, seed: int) -> None:
        self.command, self.folder = command, folder
        self.chance = random.Random(f"{seed} {command.name}")
        self.failures: list[str] = []
        prepare(folder)
        prepare_for(command, folder)
        self.whole_s = 0.0

    def finish(self, what: str = "a run that nobody disturbs") -> None:
        """Run the command to its end: it succeeds, all outputs are there and whole, and nothing else is."""
        self._make_way()
        start = time.monotonic()
        process = self._start()
        process.join(_LONGEST_S)
        self.whole_s = time.monotonic() - start
        if process.exitcode != 0:
            self._fail(f"{what} ends with {process.exitcode}: {self.said()[-300:]}")
        missing = [name for name in self.command.complete if not (self.folder / name).exists()]
        if missing:
            self._fail(f"{what} leaves no {missing}")
        self._check(what)
        if self.drafts():
            self._fail(f"{what} leaves {self.drafts()}")

    def disturb(self, how: str) -> None:
        """Run the command, and kill it ("kill") or send it another signal at a random moment; then look."""
        self._make_way()
        process = self._start()
        self._wait(process)
        number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "hup": signal.SIGHUP, "int": signal.SIGINT}[how]
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, number)
        process.join(_LONGEST_S)
        if process.exitcode is None:
            process.kill()
            self._fail(f"does not end on {how}")
        # A signal before the command has set its handlers, or after it has ended, ends the process as usual.
        expected = {"kill": {-9}, "term": {143, -15}, "hup": {129, -1}, "int": {130, 1, -2}}[how] | {0}
        if process.exitcode not in expected:
            self._fail(f"{how}: ends with {process.exitcode}: {self.said()[-300:]}")
        self._check(how)
        if how != "kill":
            if self.drafts():
                self._fail(f"{how} leaves {self.drafts()}")
            if "Traceback" in self.said():
                self._fail(f"{how}: {self.said()[-300:]}")

    def fill(self, limit_bytes: int) -> None:
        """Run the command while no file may have more bytes: an error of one line, or success."""
        self._make_way()
        process = self._start(limit_bytes)
        process.join(_LONGEST_S)
        self._check_full(process.exitcode, f"files of at most {limit_bytes} bytes")

    def run_to_end(self, what: str) -> None:
        """The same with a limit that the folder has by itself."""
        self._make_way()
        process = self._start()
        process.join(_LONGEST_S)
        self._check_full(process.exitcode, what)

    def _check_full(self, code: int | None, what: str) -> None:
        if code not in (0, 2) or "Traceback" in self.said():
            self._fail(f"{what}: ends with {code}: {self.said()[-500:]}")
        self._check(what)
        if self.drafts():
            self._fail(f"{what}: leaves {self.drafts()}")

    def drafts(self) -> list[str]:
        """Hidden files and folders that are left."""
        left = []
        for folder, folders, files in os.walk(self.folder):  # which does not mind what vanishes meanwhile
            left += [str(Path(folder, name).relative_to(self.folder)) for name in files + folders if _is_draft(name)]
            folders[:] = [name for name in folders if not _is_draft(name)]
        return sorted(left)

    def said(self) -> str:
        """Standard error of the last run."""
        path = self.folder.parent / ".stderr"
        return path.read_text(errors="replace") if path.is_file() else ""

    def _make_way(self) -> None:
        """What is no fault: `triton` refuses a folder that is there. Half of the time outputs of earlier runs stay."""
        if self.command.name == "triton":
            shutil.rmtree(self.folder / "repository", ignore_errors=True)
        elif self.command.name != "triton --add-version" and self.chance.random() < 0.5:
            for name in self.command.complete:
                path = self.folder / Path(name).parts[0]
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def _start(self, limit_bytes: int | None = None) -> ForkServerProcess:
        arguments = (self.command.name, str(self.folder), limit_bytes)
        process = _context().Process(target=_work, args=arguments)
        process.start()
        return process

    def _wait(self, process: ForkServerProcess) -> None:
        """Until a random moment, or until shortly after a draft has appeared."""
        end = time.monotonic() + self.chance.uniform(0, self.whole_s)
        after_a_draft = self.chance.random() < 0.6
        known = set(self.drafts())
        while process.is_alive():
            if after_a_draft and set(self.drafts()) - known:
                time.sleep(self.chance.choice((0, 0.001, 0.003, 0.01, 0.03)))
                return
            if not after_a_draft and time.monotonic() > end:
                return
            time.sleep(0.001)

    def _check(self, what: str) -> None:
        try:
            self.command.check(self.folder)
        except Exception as error:  # noqa: BLE001 - a reader may raise anything for a half file
            self._fail(f"{what}: an output is not whole: {type(error).__name__}: {error}")

    def _fail(self, text: str) -> None:
        self.failures.append(f"{self.command.name}: {text}")


def _is_draft(name: str) -> bool:
    return name.startswith(".fs-")


def kill_often(name: str, count: int, seed: int, folder: Path, *, finish_every: int = 10) -> Range:
    """Kill a command at random moments; after every tenth time let it finish, which also cleans up."""
    place = Range(COMMANDS[name], folder / "work", seed)
    place.finish()
    for number in range(1, count + 1):
        place.disturb("kill")
        if number % finish_every == 0 or number == count:
            place.finish("the run after a kill")
    return place


def interrupt_often(name: str, count: int, seed: int, folder: Path) -> Range:
    """Ctrl-C, SIGTERM and SIGHUP in turn."""
    place = Range(COMMANDS[name], folder / "work", seed)
    place.finish()
    for number in range(count):
        place.disturb(("int", "term", "hup")[number % 3])
    place.finish("the run after an interrupt")
    return place


def fill_often(name: str, count: int, seed: int, folder: Path) -> Range:
    """A limit on the size of files that is met somewhere between nothing and the largest output."""
    place = Range(COMMANDS[name], folder / "work", seed)
    place.finish()
    sizes = [path.stat().st_size for path in place.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    for _ in range(count):
        place.fill(int(max(sizes) * place.chance.random() ** 2))
    place.finish("the run after a full disk")
    return place


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[bool]:
    """A file system of that size at the folder; False where it may not be mounted."""
    import subprocess

    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    mounted = shutil.which("mount") is not None and os.geteuid() == 0
    mounted = mounted and subprocess.run(["mount", *options], check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def leave_free(folder: Path, free_bytes: int) -> None:
    """Fill a file system, but for that many bytes."""
    status = os.statvfs(folder)
    with (folder / "filling").open("wb") as file:
        file.write(bytes(max(0, status.f_bavail * status.f_frsize - free_bytes)))


_WAYS: dict[str, Callable[[str, int, int, Path], Range]] = {
    "kill -9": kill_often,
    "Ctrl-C, SIGTERM, SIGHUP": interrupt_often,
    "full disk": fill_often,
}


def campaign(names: list[str] | None, count: int, seed: int) -> list[dict[str, object]]:
    """Every way to disturb each command: that many kills, and a fifth of that of the others."""
    rows: list[dict[str, object]] = []
    for name in names or available():
        for what, disturb in _WAYS.items():
            cases = count if disturb is kill_often else max(3, count // 5)
            start = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                failures = disturb(name, cases, seed, Path(folder)).failures
            print(
                f"{what}, {name}: {cases} times, {time.monotonic() - start:.0f} s, {len(failures)} failures", flush=True
            )
            for text in failures[:5]:
                print(f"  FAILED: {json.dumps(text)}", flush=True)
            rows.append({"what": f"{what}: {name}", "cases": cases, "failed": len(failures)})
    return rows
