"""Regions of shared memory: lent, given back, and never left behind, whatever fails."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.utils", reason="needs tritonclient")
if not Path("/dev/shm").is_dir():
    pytest.skip("no shared memory on this system", allow_module_level=True)

from tritonclient.utils import InferenceServerException

from fastsam_deploy.runtime.engines.triton import memory
from fastsam_deploy.runtime.engines.triton.memory import SharedRegions
from fastsam_deploy.runtime.errors import ServerError
from fastsam_deploy.runtime.system import shared_memory
from fastsam_deploy.runtime.system.shared_memory import SharedRegion, abandoned_regions, is_abandoned
from tests.processes import running_program

VALUES = np.arange(1000, dtype=np.float32)


class Server:
    """Knows regions; errors of its answers can be set."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.asked: list[str] = []
        self.errors: dict[str, BaseException] = {}
        self.takes = True
        """Whether a request to register arrives, before its answer fails."""
        self.in_use_until: dict[str, float] = {}

    def register(self, name: str, key: str, size: int) -> None:
        assert key == f"/{name}" and Path("/dev/shm", name).stat().st_size == size
        self.asked.append(name)
        if self.takes:
            self.known.add(name)
        if "register" in self.errors:
            raise self.errors["register"]

    def unregister(self, name: str) -> None:
        if "unregister" in self.errors:
            raise self.errors["unregister"]
        if time.monotonic() < self.in_use_until.get(name, 0):
            raise InferenceServerException(f"Cannot unregister shared memory region '{name}', it is currently in use.")
        self.known.discard(name)

    def registered(self) -> list[str]:
        if "registered" in self.errors:
            raise self.errors["registered"]
        return sorted(self.known)


def files() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob(f"fastsam_client_{os.getpid()}_*")}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def regions(server: Server) -> Iterator[SharedRegions]:
    before = files()
    made = SharedRegions(server, required=False)
    yield made
    made.close()
    assert files() == before and not server.known


def lent(regions: SharedRegions, values: np.ndarray = VALUES) -> SharedRegion:
    made = regions.lend(values)
    assert made is not None
    return made


def test_a_region_holds_the_values_and_is_used_again(regions: SharedRegions, server: Server) -> None:
    first = lent(regions)
    assert server.known == {first.name} == files()
    assert (np.fromfile(f"/dev/shm/{first.name}", np.float32) == VALUES).all()
    regions.take_back(first)
    assert lent(regions, VALUES[:10]) is first and len(files()) == 1


def test_a_larger_array_gets_a_region_in_the_place_of_a_smaller(regions: SharedRegions, server: Server) -> None:
    first = lent(regions)
    regions.take_back(first)
    larger = lent(regions, np.tile(VALUES, 2))
    assert server.known == {larger.name} == files()
    assert larger is not first
    strided = np.arange(4000, dtype=np.uint8).reshape(40, 100)[::2, ::-1]
    regions.take_back(larger)
    assert (np.fromfile(f"/dev/shm/{lent(regions, strided).name}", np.uint8, 2000) == strided.ravel()).all()


def test_a_copy_that_fails_gives_its_region_back(regions: SharedRegions, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: Any) -> None:
        raise RuntimeError("no copy")

    monkeypatch.setattr(SharedRegion, "write", write)
    for _ in range(5):
        with pytest.raises(RuntimeError, match="no copy"):
            regions.lend(VALUES)
    assert len(files()) == 1, "one region, taken five times"


def test_a_server_that_may_know_a_region_is_told_to_forget_it(regions: SharedRegions, server: Server) -> None:
    """Its answer did not come: to register the same name once more would be refused."""
    server.errors["register"] = TimeoutError()
    with pytest.raises(TimeoutError):
        regions.lend(VALUES)
    assert not server.known and not files()
    server.errors.clear()
    regions.take_back(lent(regions))
    server.errors["register"] = InferenceServerException("Deadline", status="StatusCode.DEADLINE_EXCEEDED")
    assert regions.lend(np.tile(VALUES, 2)) is None
    assert not server.known and not files()


@pytest.mark.parametrize("required", [False, True])
def test_a_server_that_takes_none_is_asked_once(server: Server, required: bool) -> None:
    server.takes = False
    server.errors = {
        "register": InferenceServerException("not here", status="StatusCode.INVALID_ARGUMENT"),
        "unregister": AssertionError("it knows none"),
    }
    regions = SharedRegions(server, required=required)
    if required:
        with pytest.raises(ServerError, match=r"does not take shared memory .*not here"):
            regions.lend(VALUES)
    assert regions.lend(VALUES) is None and regions.lend(VALUES) is None
    regions.close()
    assert len(server.asked) == 1 and not files()


@pytest.mark.parametrize("required", [False, True])
def test_a_host_without_room(server: Server, monkeypatch: pytest.MonkeyPatch, required: bool) -> None:
    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    regions = SharedRegions(server, required=required)
    monkeypatch.setattr(shared_memory.os, "posix_fallocate", no_room)
    if required:
        with pytest.raises(ServerError, match=r"/dev/shm has no room for 4,000 bytes .*leave shared_memory out"):
            regions.lend(VALUES)
    else:
        assert regions.lend(VALUES) is None
    assert not files() and not server.asked
    monkeypatch.undo()
    assert regions.lend(VALUES) is not None, "there is room again"
    regions.close()


def test_nothing_is_made_after_close_and_one_failure_keeps_no_other(regions: SharedRegions, server: Server) -> None:
    names = {lent(regions).name for _ in range(3)}
    assert len(names) == 3 and files() == names
    server.errors["unregister"] = RuntimeError("broken")
    with pytest.raises(RuntimeError, match="broken"):
        regions.close()
    assert not files()
    assert regions.lend(VALUES) is None and not files()
    server.known.clear()


def test_a_region_that_the_server_still_reads_is_given_back_when_it_is_done(
    regions: SharedRegions, server: Server
) -> None:
    """As after a time limit: the server goes on with a request that was given up."""
    first = lent(regions)
    server.in_use_until[first.name] = time.monotonic() + 0.3
    regions.take_back(first)
    second = lent(regions, np.tile(VALUES, 2))
    assert {first.name, second.name} == server.known == files(), "the first one is outgrown and not to be removed yet"
    server.in_use_until[second.name] = time.monotonic() + 0.5
    regions.take_back(second)
    time.sleep(0.35)
    third = lent(regions, np.tile(VALUES, 3))
    assert {second.name, third.name} == server.known == files(), "the first one has gone with the next occasion"
    regions.close()
    assert not server.known and not files()


def test_a_server_that_reads_for_ever_does_not_stop_close(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PATIENCE_S", 0.2)
    regions = SharedRegions(server, required=False)
    first = lent(regions)
    ends = server.in_use_until[first.name] = time.monotonic() + 3
    regions.close()
    assert time.monotonic() < ends and not files() and server.known == {first.name}
    time.sleep(max(ends - time.monotonic(), 0))
    with_another(server)
    assert not server.known


def with_another(server: Server) -> None:
    """Another client comes, uses the server's shared memory, and goes."""
    regions = SharedRegions(server, required=False)
    lent(regions)
    regions.close()


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(), InferenceServerException("away", status="StatusCode.UNAVAILABLE")]
)
def test_a_server_that_has_ended(server: Server, error: Exception) -> None:
    regions = SharedRegions(server, required=False)
    lent(regions)
    server.errors = {"unregister": error, "registered": error}
    start = time.monotonic()
    regions.close()
    assert time.monotonic() - start < 5 and not files()
    SharedRegions(server, required=False).close()


def test_a_server_that_was_started_again_is_told_anew(regions: SharedRegions, server: Server) -> None:
    first = lent(regions)
    regions.take_back(first)
    server.known.clear()
    regions.forget()
    assert lent(regions) is first and server.known == {first.name} and server.asked == [first.name] * 2


CLIENT = """
import sys, time
from fastsam_deploy.runtime.system.shared_memory import SharedRegion
region = SharedRegion(4000)
print(region.name, flush=True)
time.sleep(60)
"""


class TestLeftovers:
    def test_a_client_that_starts_removes_what_a_killed_one_left(self, server: Server, tmp_path: Path) -> None:
        with running_program(tmp_path, CLIENT) as client:
            name = client.stdout.readline().strip()
            path = Path("/dev/shm", name)
            server.known |= {name, "another_program"}
            assert not is_abandoned(path) and name not in abandoned_regions()
            with_another(server)
            assert path.exists() and name in server.known, "it is alive"
            client.send_signal(signal.SIGKILL)
            client.wait()
            assert is_abandoned(path) and name in abandoned_regions()
        SharedRegions(server, required=False).close()
        assert not path.exists() and server.known == {"another_program"}

    def test_a_region_without_a_file_goes_if_the_server_shares_memory(self, server: Server) -> None:
        name = f"fastsam_client_1_{'0' * 32}"
        server.known |= {name, "fastsam_client_x", "fastsam_7_stub"}
        server.takes, server.errors["register"] = False, InferenceServerException("no such key")
        SharedRegions(server, required=False).close()
        assert name in server.known, "it may be in a container with memory of its own"
        server.errors.clear()
        server.takes = True
        SharedRegions(server, required=False).close()
        assert server.known == {"fastsam_client_x", "fastsam_7_stub"} and not files()

    def test_a_client_at_work_removes_leftovers_with_each_new_region(
        self, server: Server, regions: SharedRegions
    ) -> None:
        regions.take_back(lent(regions))
        asked = len(server.asked)
        server.known.add(f"fastsam_client_1_{'0' * 32}")
        regions.take_back(lent(regions))
        assert len(server.known) == 2, "nothing is asked of the server where a region is used again"
        assert server.known == {lent(regions, np.tile(VALUES, 2)).name} and len(server.asked) == asked + 1

    def test_a_server_that_does_not_tell(self, server: Server, regions: SharedRegions) -> None:
        server.errors["registered"] = InferenceServerException("restricted")
        assert lent(regions).name in server.known

    def test_a_forked_child_does_not_keep_a_dead_parents_regions(self, server: Server) -> None:
        reader, writer = os.pipe()
        parent = os.fork()
        if not parent:
            regions = SharedRegions(server, required=False)
            made = lent(regions)
            if not os.fork():
                regions.abandon()
                time.sleep(10)
            os.write(writer, made.name.encode())
            os._exit(0)
        name = os.read(reader, 200).decode()
        os.waitpid(parent, 0)
        path = Path("/dev/shm", name)
        assert path.exists() and is_abandoned(path)
        SharedRegions(server, required=False).close()
        assert not path.exists()

    def test_many_clients_at_once_see_nobody_dead(self, server: Server) -> None:
        failures: list[Exception] = []

        def client() -> None:
            try:
                for _ in range(30):
                    regions = SharedRegions(server, required=True)
                    made = lent(regions)
                    assert Path("/dev/shm", made.name).exists()
                    regions.close()
            except Exception as error:  # noqa: BLE001 - told below
                failures.append(error)

        threads = [threading.Thread(target=client) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures and not files() and not server.known
