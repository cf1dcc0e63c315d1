"""Files that appear whole or not at all: on a full disk, among threads and processes, after a kill, through links."""

from __future__ import annotations

import ast
import errno
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastsam_deploy.runtime.errors import FastSamError, ModelError
from fastsam_deploy.runtime.system import drafts, exchange, locks
from fastsam_deploy.runtime.system.atomic import (
    draft_folder,
    draft_of,
    drafts_of,
    rename_synced,
    scratch_beside,
    stream_to,
    write_atomically,
)

ATOMIC = "from fastsam_deploy.runtime.system.atomic import *\nfrom pathlib import Path\nimport os, sys, time\n"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs the code and can be spoken to."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", ATOMIC + code, *arguments], text=True, **pipes)


@pytest.fixture(autouse=True)
def each_test_looks_for_abandoned_drafts() -> None:
    drafts._remove_abandoned.cache_clear()


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


class TestWholeOrNotAtAll:
    def test_a_failure_leaves_what_was_there(self, tmp_path: Path) -> None:
        target = tmp_path / "x.json"
        target.write_text("old")
        with pytest.raises(TypeError):
            write_atomically(target, "text, not bytes")  # type: ignore[arg-type]
        assert target.read_text() == "old" and names(tmp_path) == {"x.json"}
        write_atomically(target, b"new")
        assert target.read_text() == "new" and names(tmp_path) == {"x.json"}
        with pytest.raises(
            FastSamError, match=r"absent/x\.json: cannot be written \(No such file .*\); choose another folder"
        ):
            write_atomically(tmp_path / "absent" / "x.json", b"")

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
    @pytest.mark.parametrize("make", [stream_to, draft_of, drafts_of, draft_folder], ids=lambda make: make.__name__)
    def test_an_exception_leaves_nothing(self, make: Callable, stop: type[BaseException], tmp_path: Path) -> None:
        def stopped() -> None:
            with make(tmp_path / "x.bin"):
                assert len(names(tmp_path)) == 1
                raise stop

        with pytest.raises(stop):
            stopped()
        assert names(tmp_path) == set()

    def test_nothing_is_there_before_the_end(self, tmp_path: Path) -> None:
        with stream_to(tmp_path / "x.txt") as stream:
            stream.write(b"half")
            stream.flush()
            (draft,) = names(tmp_path)
            assert draft.startswith(".fs-") and draft.endswith(".part"), "a picture's draft must not pass for a picture"
            stream.write(b" and half")
        assert (tmp_path / "x.txt").read_bytes() == b"half and half" and names(tmp_path) == {"x.txt"}

    def test_a_draft_has_the_suffix_that_libraries_look_at(self, tmp_path: Path) -> None:
        with draft_of(tmp_path / "made" / "x.onnx", parents=True) as draft:
            assert draft.parent == tmp_path / "made" and draft.suffix == ".onnx" and draft.read_bytes() == b""
            draft.write_bytes(b"by path")
        assert (tmp_path / "made/x.onnx").read_bytes() == b"by path"

    def test_a_library_may_replace_the_draft(self, tmp_path: Path) -> None:
        with draft_of(tmp_path / "x.bin") as draft:
            (tmp_path / "other").write_bytes(b"renamed onto it")
            (tmp_path / "other").replace(draft)
        assert (tmp_path / "x.bin").read_bytes() == b"renamed onto it" and names(tmp_path) == {"x.bin"}

    def test_a_draft_that_is_gone_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FastSamError, match=r"x\.bin: cannot be written"), draft_of(tmp_path / "x.bin") as draft:
            draft.unlink()
        assert names(tmp_path) == set()

    def test_a_scratch_file_goes(self, tmp_path: Path) -> None:
        with scratch_beside(tmp_path / "x.plan", ".onnx") as scratch:
            assert scratch.suffix == ".onnx" and scratch.parent == tmp_path
        assert names(tmp_path) == set()

    def test_a_scratch_folder_gives_its_parts_away_and_goes(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real/made")
        with scratch_beside(tmp_path / "link") as scratch:
            assert scratch.parent == tmp_path / "real", "beside what the link leads to: in its file system"
            for name in ("part", "rest"):
                (scratch / name).mkdir()
                (scratch / name / "x").write_text("x")
            rename_synced(scratch / "part", tmp_path / "real/part")
            with pytest.raises(FastSamError, match="cannot be written"):
                rename_synced(scratch / "rest", tmp_path / "absent/rest")
        assert names(tmp_path / "real") == {"part"} and (tmp_path / "real/part/x").read_text() == "x"

    def test_the_class_of_the_error_can_be_chosen(self, tmp_path: Path) -> None:
        for make in (stream_to, draft_of, drafts_of, draft_folder):
            with pytest.raises(ModelError, match="cannot be written"), make(tmp_path / "no/x", error=ModelError):
                pass

    def test_an_error_of_the_block_stays_what_it_is(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), draft_of(tmp_path / "x.bin"):
            (tmp_path / "another file").read_bytes()
        with pytest.raises(FastSamError, match=r"x\.bin: cannot be written"), draft_of(tmp_path / "x.bin") as draft:
            (draft / "in a file").touch()


class TestOnTheDisk:
    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What is synced (file or folder) and renamed, in order."""
        made: list[str] = []
        fsync, replace = os.fsync, Path.replace

        def synced(handle: int) -> None:
            made.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"sync {os.fstat(handle).st_size}")
            fsync(handle)

        def renamed(path: Path, target: Path) -> Path:
            made.append(f"rename to {target.name}")
            return replace(path, target)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "replace", renamed)
        return made

    def test_the_content_is_there_before_the_name(self, tmp_path: Path, calls: list[str]) -> None:
        write_atomically(tmp_path / "x", bytes(100_000))
        assert calls == ["sync 100000", "rename to x", "sync folder"]

    def test_all_of_a_folder_is(self, tmp_path: Path, calls: list[str]) -> None:
        with draft_folder(tmp_path / "made") as draft:
            (draft / "deep").mkdir()
            (draft / "deep/x").write_bytes(b"123")
            (draft / "link").symlink_to("nowhere")
        assert calls == ["sync folder", "sync 3", "sync folder", "rename to made", "sync folder"]

    def test_what_can_be_made_again_need_not_wait(self, tmp_path: Path, calls: list[str]) -> None:
        write_atomically(tmp_path / "x", b"", synced=False)
        assert calls == ["rename to x"]

    def test_a_system_that_syncs_nothing_is_no_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(handle: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(os, "fsync", refuse)
        write_atomically(tmp_path / "x", b"content")
        assert (tmp_path / "x").read_bytes() == b"content"

    def test_a_disk_that_fails_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(handle: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(FastSamError, match=r"cannot be written \(Input/output error\)"):
            write_atomically(tmp_path / "x", b"content")
        assert names(tmp_path) == set()


class TestSeveral:
    def test_they_appear_in_order_and_share_a_stem(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        renamed = []
        put = drafts.Draft.put
        monkeypatch.setattr(
            drafts.Draft,
            "put",
            lambda draft, target, *mode, **how: (renamed.append(target.name), put(draft, target, *mode, **how)),
        )
        with drafts_of(tmp_path / "x.json", tmp_path / "x.plan") as (record, plan):
            assert plan.with_suffix(".json") == record
            record.write_text("{}")
            plan.write_bytes(b"plan")
        assert renamed == ["x.json", "x.plan"] and names(tmp_path) == {"x.json", "x.plan"}

    def test_if_the_last_is_refused_the_first_goes_again(self, tmp_path: Path) -> None:
        with (
            pytest.raises(FastSamError, match=r"x\.plan: cannot be written \(Is a directory\)"),
            drafts_of(tmp_path / "x.json", tmp_path / "x.plan"),
        ):
            (tmp_path / "x.plan").mkdir()
        assert names(tmp_path) == {"x.plan"}

    def test_they_must_end_in_one_folder(self, tmp_path: Path) -> None:
        (tmp_path / "x.plan").symlink_to("/dev/null")
        with pytest.raises(FastSamError, match="expected files in one folder"):
            drafts_of(tmp_path / "x.json", tmp_path / "x.plan").__enter__()
        assert names(tmp_path) == {"x.plan"}


class TestFolders:
    def test_a_folder_appears_whole(self, tmp_path: Path) -> None:
        with draft_folder(tmp_path / "a/b", parents=True) as draft:
            (draft / "deep").mkdir()
            (draft / "deep/x").write_text("x")
            assert not (tmp_path / "a/b").exists()
        assert (tmp_path / "a/b/deep/x").read_text() == "x" and names(tmp_path / "a") == {"b"}

    def test_an_empty_one_is_replaced_and_a_full_one_only_where_that_is_meant(self, tmp_path: Path) -> None:
        target = tmp_path / "made"
        target.mkdir()
        for text in ("first", "second"):
            with draft_folder(target, replace=text == "second") as draft:
                (draft / text).write_text(text)
            assert names(target) == {text} and names(tmp_path) == {"made"}
        with pytest.raises(FastSamError, match="made: cannot be written"), draft_folder(target):
            pass
        assert names(target) == {"second"} and names(tmp_path) == {"made"}

    def test_the_old_one_is_back_if_the_rename_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "made"
        target.mkdir()
        (target / "old").touch()

        def refuse(draft: drafts.Draft, to: Path) -> None:
            assert not to.exists()
            raise OSError(errno.EIO, "refused")

        monkeypatch.setattr(drafts, "exchange", lambda one, other: False)  # a system without that
        monkeypatch.setattr(drafts.Draft, "put", refuse)
        with pytest.raises(FastSamError, match="refused"), draft_folder(target, replace=True):
            pass
        assert names(tmp_path) == {"made"} and names(target) == {"old"}

    def test_a_link_to_a_folder_stays_one(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "real/old").touch()
        (tmp_path / "link").symlink_to("real")
        with draft_folder(tmp_path / "link", replace=True) as draft:
            (draft / "new").touch()
        assert (tmp_path / "link").is_symlink() and names(tmp_path / "real") == {"new"}
        assert names(tmp_path) == {"link", "real"}


class TestPermissions:
    @pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
    def test_a_new_file_follows_the_umask(self, mask: int, tmp_path: Path, umask: Callable[[int], None]) -> None:
        umask(mask)
        write_atomically(tmp_path / "x", b"")
        with draft_folder(tmp_path / "made"):
            pass
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~mask
        assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o777 & ~mask

    def test_the_umask_is_never_touched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbidden(mask: int) -> int:
            raise AssertionError("os.umask is for the whole process: another thread's files get it as well")

        monkeypatch.setattr(os, "umask", forbidden)
        ended, made = threading.Event(), tmp_path / "made"
        made.mkdir()

        def make_files() -> None:
            number = 0
            while not ended.is_set():
                os.close(os.open(made / f"{number}", os.O_CREAT | os.O_WRONLY, 0o666))
                number += 1

        other = threading.Thread(target=make_files)
        other.start()
        for i in range(50):
            write_atomically(tmp_path / f"{i}", b"content")
        ended.set()
        other.join()
        modes = {path.stat().st_mode for folder in (made, tmp_path) for path in folder.iterdir() if path.is_file()}
        assert len(modes) == 1

    @pytest.mark.parametrize("mode", [0o600, 0o666, 0o755, 0o444])
    def test_a_file_that_is_replaced_keeps_its_own(
        self, mode: int, tmp_path: Path, umask: Callable[[int], None]
    ) -> None:
        umask(0o022)
        target = tmp_path / "x"
        target.touch()
        target.chmod(mode)
        with draft_of(target) as draft:
            assert stat.S_IMODE(draft.stat().st_mode) & ~(mode | 0o600) == 0, "readable by more than the final file is"
            draft.write_bytes(b"new")
        assert stat.S_IMODE(target.stat().st_mode) == mode and target.read_bytes() == b"new"


class TestNames:
    @pytest.mark.parametrize("name", ["n" * 255, "ж" * 127, "x." + "s" * 253, "a" * 233 + ".part.overlay.jpg.json"])
    def test_the_longest_names_can_be_written(self, name: str, tmp_path: Path) -> None:
        write_atomically(tmp_path / name, b"content")
        with draft_of(tmp_path / name) as draft:
            assert len(os.fsencode(draft.name)) <= 50
            draft.write_bytes(b"again")
        assert (tmp_path / name).read_bytes() == b"again" and names(tmp_path) == {name}

    @pytest.mark.parametrize("kind", ["file", "link", "link to nothing", "folder"])
    def test_what_was_planted_under_a_name_is_left_alone(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_atomically(tmp_path / "x.txt", b"")  # abandoned drafts are not looked for in the next minute
        tokens = iter(["0" * 8, "0" * 8, "1" * 8])
        monkeypatch.setattr(drafts.secrets, "token_hex", lambda _: next(tokens))
        planted, victim = tmp_path / ".fs-00000000.part", tmp_path / "victim"
        if kind == "folder":
            planted.mkdir()
        elif kind == "file":
            planted.write_text("precious")
        else:
            planted.symlink_to("victim")
        if kind == "link":
            victim.write_text("precious")
        before = names(tmp_path)
        write_atomically(tmp_path / "x.txt", b"content")
        assert (tmp_path / "x.txt").read_bytes() == b"content" and names(tmp_path) == before
        assert kind not in ("file", "link") or planted.read_text() == "precious"

    def test_a_planted_link_is_no_draft_of_ours(self, tmp_path: Path) -> None:
        (tmp_path / "victim").write_text("precious")
        (tmp_path / ".fs-00000000.part").symlink_to("victim")
        write_atomically(tmp_path / "x.txt", b"content")
        assert names(tmp_path) == {"victim", ".fs-00000000.part", "x.txt"}

    def test_names_cannot_be_foreseen(self, tmp_path: Path) -> None:
        seen = set()
        for _ in range(50):
            with draft_of(tmp_path / "x") as draft:
                seen.add(draft.name)
        assert len(seen) == 50


class TestWhatIsNoFile:
    def test_a_link_stays_a_link(self, tmp_path: Path) -> None:
        real = tmp_path / "real"
        real.mkdir()
        (real / "x.json").write_text("old")
        (real / "x.json").chmod(0o640)
        (tmp_path / "one").symlink_to("real/x.json")
        (tmp_path / "two").symlink_to(tmp_path / "one")
        write_atomically(tmp_path / "two", b"new")
        assert (tmp_path / "one").is_symlink() and (tmp_path / "two").is_symlink()
        assert (real / "x.json").read_text() == "new" and stat.S_IMODE((real / "x.json").stat().st_mode) == 0o640
        assert names(real) == {"x.json"} and names(tmp_path) == {"real", "one", "two"}

    def test_a_link_to_nothing_makes_the_file_that_it_leads_to(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("later")
        write_atomically(tmp_path / "link", b"new")
        assert (tmp_path / "later").read_bytes() == b"new" and (tmp_path / "link").is_symlink()

    def test_links_in_a_circle_are_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(FastSamError, match=r"a: cannot be written \(Too many levels of symbolic links\)"):
            write_atomically(tmp_path / "a", b"")

    def test_a_folder_is_an_error(self, tmp_path: Path) -> None:
        for make in (stream_to, draft_of):
            with (
                pytest.raises(FastSamError, match="it is a folder, expected the name of a file"),
                make(tmp_path),
            ):
                pass

    def test_a_pipe_gets_the_content_and_stays_one(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        for write in (write_atomically, _by_path):
            read: list[bytes] = []
            reader = threading.Thread(target=lambda read=read: read.append(pipe.read_bytes()))
            reader.start()
            write(pipe, b"content")
            reader.join()
            assert read == [b"content"] and stat.S_ISFIFO(pipe.lstat().st_mode)
        assert names(tmp_path) == {"pipe"}

    def test_a_device_is_written_to(self) -> None:
        for write in (write_atomically, _by_path):
            before = os.lstat("/dev/null")
            write(Path("/dev/null"), b"content")
            assert os.path.samestat(before, os.lstat("/dev/null"))
            with pytest.raises(
                FastSamError, match=r"/dev/full: cannot be written \(No space left on device\); make room"
            ):
                write(Path("/dev/full"), b"content")
            assert stat.S_ISCHR(os.lstat("/dev/full").st_mode)

    @pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
    @pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_APPEND])
    def test_standard_output_keeps_what_it_has(self, name: str, flags: int, tmp_path: Path) -> None:
        code = f"os.write(1, b'before '); write_atomically(Path({name!r}), b'content'); os.write(1, b' after')"
        out = tmp_path / "out"
        handle = os.open(out, os.O_CREAT | os.O_WRONLY | flags)
        subprocess.run([sys.executable, "-c", ATOMIC + code], stdout=handle, check=True)
        os.close(handle)
        assert out.read_text() == "before content after" and names(tmp_path) == {"out"}
        done = subprocess.run([sys.executable, "-c", ATOMIC + code], capture_output=True, check=True)
        assert done.stdout == b"before content after"


def _by_path(path: Path, content: bytes) -> None:
    with draft_of(path) as draft:
        draft.write_bytes(content)


class TestFullDisk:
    @pytest.mark.parametrize("write", [write_atomically, _by_path], ids=["stream", "path"])
    def test_it_is_said_and_nothing_is_left(self, write: Callable, tmp_path: Path) -> None:
        if (
            os.geteuid() != 0
            or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=False).returncode
        ):
            pytest.skip("only root may mount a small file system")
        try:
            (tmp_path / "x.bin").write_bytes(b"old")
            with pytest.raises(FastSamError, match=r"x\.bin: cannot be written \(No space left on device\); make room"):
                write(tmp_path / "x.bin", bytes(100_000))
            assert (tmp_path / "x.bin").read_bytes() == b"old" and names(tmp_path) == {"x.bin"}
        finally:
            subprocess.run(["umount", tmp_path], check=True)

    def test_a_limit_is_said_and_nothing_is_left(self, tmp_path: Path) -> None:
        code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for make in (lambda: write_atomically(Path("x.bin"), bytes(100_000)), lambda: by_path()):
    try:
        make()
    except FastSamError as error:
        print(error)
"""
        by_path = (
            "def by_path():\n    with draft_of(Path('x.bin')) as draft:\n        draft.write_bytes(bytes(100_000))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", ATOMIC + by_path + code], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        said = "x.bin: cannot be written (File too large); make room, or choose another folder"
        assert done.stdout.splitlines() == [said, said] and names(tmp_path) == set()


class TestAbandoned:
    @pytest.mark.parametrize("make", ["stream_to", "draft_of", "drafts_of", "draft_folder", "scratch"])
    def test_what_a_killed_writer_left_goes_with_the_next(self, make: str, tmp_path: Path) -> None:
        scratch = "scratch = lambda path: scratch_beside(path, '.onnx')\n"
        code = f"with {make}(Path(sys.argv[1])) as made: print(flush=True); time.sleep(100)"
        killed = child(scratch + code, str(tmp_path / "x.json"))
        killed.stdout.readline()
        write_atomically(tmp_path / "other", b"")
        assert len(names(tmp_path)) == 2, "a draft of a living process was removed"
        killed.kill()
        killed.communicate()
        assert len(names(tmp_path)) == 2
        drafts._remove_abandoned.cache_clear()  # a minute later
        write_atomically(tmp_path / "other", b"")
        assert names(tmp_path) == {"other"}

    def test_a_draft_of_this_process_is_alive(self, tmp_path: Path) -> None:
        with draft_of(tmp_path / "x") as draft, draft_folder(tmp_path / "y") as folder:
            drafts._remove_abandoned.cache_clear()
            write_atomically(tmp_path / "z", b"")
            assert draft.exists() and folder.exists()

    def test_a_draft_is_alive_as_long_as_its_child_is(self, tmp_path: Path) -> None:
        # The process that holds the lock need not be the one with the number that made it: numbers repeat.
        writer = child(
            "with draft_of(Path(sys.argv[1])):\n"
            "    if os.fork(): os._exit(0)\n"
            "    print(flush=True); sys.stdin.readline()\n",
            str(tmp_path / "x"),
        )
        writer.stdout.readline()
        write_atomically(tmp_path / "z", b"")
        assert len(names(tmp_path)) == 2
        writer.communicate("\n")
        deadline = time.monotonic() + 10
        while len(names(tmp_path)) != 2 or (tmp_path / "x").exists() is False:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert names(tmp_path) == {"x", "z"}

    def test_only_drafts_are_removed(self, tmp_path: Path) -> None:
        kept = {".fs-0123abcd.part.json.d", ".fs-0123abcd.old", "fs-0123abcd.part", ".fs-0123abc.part", ".x.part"}
        for name in kept - {".fs-0123abcd.part.json.d"}:
            (tmp_path / name).touch()
        os.mkfifo(tmp_path / ".fs-0123abcd.part.json.d")
        write_atomically(tmp_path / "x", b"")
        assert names(tmp_path) == kept | {"x"}

    def test_a_folder_is_read_once_a_minute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read = []
        scandir = os.scandir
        monkeypatch.setattr(os, "scandir", lambda folder: (read.append(folder), scandir(folder))[1])
        monkeypatch.setattr(drafts.time, "monotonic", lambda: 600.0)
        for i in range(20):
            write_atomically(tmp_path / f"{i}", b"")
        assert read == [str(tmp_path)]

    def test_without_locks_nothing_is_abandoned(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".fs-0123abcd.part").touch()

        def refuse(handle: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(locks.fcntl, "flock", refuse)
        write_atomically(tmp_path / "x", b"content")
        assert names(tmp_path) == {"x", ".fs-0123abcd.part"} and (tmp_path / "x").read_bytes() == b"content"

    def test_a_draft_that_was_taken_for_abandoned_at_birth_is_made_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock, taken = drafts.lock_file, []

        def slow(handle: int) -> None:
            if not taken:  # another writer looks between making the file and locking it
                taken.extend(tmp_path.glob(".fs-*"))
                taken[0].unlink()
            lock(handle)

        monkeypatch.setattr(drafts, "lock_file", slow)
        write_atomically(tmp_path / "x", b"content")
        assert len(taken) == 1 and names(tmp_path) == {"x"} and (tmp_path / "x").read_bytes() == b"content"

    def test_a_folder_that_was_removed_before_it_was_opened_is_made_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One run of 100,000 inputs met it, beside other processes that clean up: FileNotFoundError."""
        opened, taken = drafts.os.open, []

        def slow(path: Path, flags: int) -> int:
            if not taken:  # another writer looks between making the folder and opening it
                taken.append(path)
                path.rmdir()
            return opened(path, flags)

        monkeypatch.setattr(drafts, "os", SimpleNamespace(**{**vars(os), "open": slow}))
        draft = drafts.draft_folder(tmp_path)
        assert len(taken) == 1 and names(tmp_path) == {draft.path.name}
        draft.remove()


class TestProcesses:
    WRITER = """
big = int(sys.argv[2]).to_bytes(1, "little") * 300_000
while True:
    write_atomically(Path(sys.argv[1]), big)
    print(flush=True)
"""

    def test_a_kill_at_any_moment_leaves_no_half_file(self, tmp_path: Path) -> None:
        target, chance = tmp_path / "x.bin", random.Random(0)
        for _ in range(12):
            writer = child(self.WRITER, str(target), "7")
            writer.stdout.readline()
            time.sleep(chance.uniform(0, 0.02))
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
            assert target.read_bytes() == b"\7" * 300_000
            assert len(names(tmp_path)) <= 2, "drafts pile up"
        drafts._remove_abandoned.cache_clear()
        write_atomically(target, b"last")
        assert names(tmp_path) == {"x.bin"}

    def test_two_writers_of_one_file_and_a_reader(self, tmp_path: Path) -> None:
        target = tmp_path / "x.bin"
        writers = [child(self.WRITER, str(target), number) for number in "12"]
        for writer in writers:
            writer.stdout.readline()
        seen = set()
        deadline = time.monotonic() + 20
        while len(seen) < 2 or time.monotonic() < deadline - 19.5:
            content = target.read_bytes()
            assert len(content) == 300_000 and len(set(content)) == 1
            seen.add(content[:1])
            assert time.monotonic() < deadline
        for writer in writers:
            writer.kill()
            assert "Error" not in writer.communicate()[1]
        assert seen == {b"\1", b"\2"}


class TestOnePlace:
    """Files are written by this module alone; an export may write by path into the draft that it was given."""

    ROOT = Path(__file__).resolve().parents[3]
    NOWHERE = ("umask", "mkstemp", "mkdtemp", "NamedTemporaryFile", "rename", "O_CREAT")
    NOT_IN_THE_RUNTIME = ("write_text", "write_bytes", "savetxt", "imwrite")

    @pytest.mark.parametrize(
        ("folder", "words"), [("runtime", NOWHERE + NOT_IN_THE_RUNTIME), ("export", NOWHERE)], ids=["runtime", "export"]
    )
    def test_no_other_module_writes(self, folder: str, words: tuple[str, ...]) -> None:
        for path in (self.ROOT / folder).rglob("*.py"):
            if path.parent == self.ROOT / "runtime/system":
                continue
            used = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
            assert not used & set(words), path


class TestInterrupted:
    """A signal can arrive before the block of a draft has begun, or while it is being removed."""

    MADE_AND_INTERRUPTED = """
from fastsam_deploy.runtime.system import drafts
real = getattr(drafts.os, "open") if sys.argv[2] == "file" else drafts.Path.mkdir
def interrupted(*arguments):
    value = real(*arguments)
    raise SystemExit(143)  # as a signal's handler does, right after the file or folder was made
if sys.argv[2] == "file":
    drafts.os.open = interrupted
else:
    drafts.Path.mkdir = interrupted
os.chdir("/")
with (stream_to if sys.argv[2] == "file" else draft_folder)(Path(sys.argv[1], "x")):
    pass
"""

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_a_draft_that_nobody_holds_yet_goes_with_the_process(self, kind: str, tmp_path: Path) -> None:
        process = child(self.MADE_AND_INTERRUPTED, str(tmp_path), kind)
        process.communicate(timeout=60)
        assert process.returncode == 143
        assert names(tmp_path) == set()

    def test_a_forked_child_removes_nothing_of_its_parent(self, tmp_path: Path) -> None:
        code = """
with draft_folder(Path(sys.argv[1], "x")) as draft:
    (draft / "part").write_text("whole")
    if not os.fork():
        sys.exit(0)
    os.wait()
"""
        process = child(code, str(tmp_path))
        process.communicate(timeout=60)
        assert process.returncode == 0 and (tmp_path / "x/part").read_text() == "whole"

    def test_a_scratch_folder_of_a_killed_process_goes_with_the_next(self, tmp_path: Path) -> None:
        code = """
from fastsam_deploy.runtime.system.scratch import scratch_folder
import tempfile
tempfile.tempdir = sys.argv[1]
with scratch_folder() as folder:
    (folder / "big").write_bytes(bytes(1000))
    print(oct(folder.stat().st_mode & 0o777), flush=True)
    sys.stdin.readline()
"""
        first = child(code, str(tmp_path))
        assert first.stdout.readline() == "0o700\n"
        first.kill()
        first.communicate()
        assert len(names(tmp_path)) == 1
        second = child(code, str(tmp_path))
        second.stdout.readline()
        assert len(names(tmp_path)) == 1, "that of the killed process is gone"
        second.communicate("\n")
        assert names(tmp_path) == set()


class TestExchange:
    def test_a_folder_that_is_replaced_is_never_missing(self, tmp_path: Path) -> None:
        target, missing = tmp_path / "made", []
        target.mkdir()
        (target / "number").write_text("-1")
        ended = threading.Event()

        def look() -> None:
            while not ended.is_set():
                try:
                    int((target / "number").read_text())
                except FileNotFoundError:
                    missing.append(1)

        reader = threading.Thread(target=look)
        reader.start()
        for number in range(200):
            with draft_folder(target, replace=True) as draft:
                (draft / "number").write_text(str(number))
        ended.set()
        reader.join()
        assert names(tmp_path) == {"made"} and (target / "number").read_text() == "199"
        if sys.platform == "linux" and exchange.exchange(target, target):
            assert not missing

    @pytest.mark.parametrize("able", [True, False])
    def test_with_and_without_the_system_call(
        self, able: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not able:
            monkeypatch.setattr(drafts, "exchange", lambda one, other: False)
        target = tmp_path / "made"
        target.mkdir()
        (target / "old").touch()
        with draft_folder(target, replace=True) as draft:
            (draft / "new").touch()
        assert names(target) == {"new"} and names(tmp_path) == {"made"}
