"""Clients and worker processes on a real server: no answer of another process, and nothing that stays registered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import InferenceServerClient

from fastsam_deploy.runtime import Connection, FastSAM, FastSamError
from fastsam_deploy.runtime.system.shared_memory import is_abandoned
from scripts.triton_server import Server
from tests.processes import FORKED, ROOT, run_program, running_program

pytestmark = pytest.mark.triton

WAYS = ["grpc-shared", "grpc", "http-shared", "http"]
"""Transport, and whether arrays travel through shared memory."""

OPENED = (
    FORKED
    + """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import numpy as np
from fastsam_deploy.runtime import Connection, FastSAM, FastSamError
from fastsam_deploy.runtime.system.shared_memory import is_abandoned
address, shared = sys.argv[1], sys.argv[2] == "True"
PIXELS = np.random.default_rng(0).integers(0, 255, (2, 30, 40, 3), np.uint8)
IMAGES = [np.kron(PIXELS[i][: 30 - 4 * i], np.ones((12, 12, 1), np.uint8)) for i in (0, 1)]
"Of more than 200 KB, which go through shared memory, and of different sizes."
def opened(**settings):
    return FastSAM(address, conf=0.05, connection=Connection(shared_memory=shared, **settings))
def answer(model, i):
    found = model.segment(IMAGES[i % 2])
    return found.image_hw, found.boxes_xyxy.tolist()
def told(work):
    try:
        return work()
    except FastSamError as error:
        return f"{type(error).__name__}: {error}"
"""
)


def _arguments(server: Server, way: str) -> tuple[str, str]:
    transport, _, shared = way.partition("-")
    return f"{transport}://{getattr(server, transport)}/fastsam_device", str(bool(shared))


@pytest.fixture
def left(server: Server) -> Iterator[_Left]:
    """What clients have left behind: nothing, at the end."""
    with closing(InferenceServerClient(server.grpc)) as client:
        found = _Left(client)
        yield found
        assert found.registered() == [] and found.bytes() == 0


class _Left:
    def __init__(self, client: InferenceServerClient) -> None:
        self._client = client

    def registered(self) -> list[str]:
        return [name for name in self._client.get_system_shared_memory_status().regions if "fastsam" in name]

    def bytes(self) -> int:
        """In memory, of clients that are dead or here; tests beside this one have their own."""
        return sum(
            path.stat().st_size
            for path in Path("/dev/shm").glob("fastsam_client_*")
            if is_abandoned(path) or path.name.startswith(f"fastsam_client_{os.getpid()}_")
        )


class TestForks:
    @pytest.mark.parametrize("way", WAYS)
    def test_workers_that_inherit_a_client_get_their_own_answers(
        self, server: Server, left: _Left, tmp_path: Path, way: str
    ):
        """The parent goes on asking."""
        code = """
model = opened()
wanted = [answer(model, 0), answer(model, 1)]
assert wanted[0] != wanted[1]
def work(i):
    return answer(model, i) == wanted[i % 2]
ended = False
def busy():
    while not ended:
        assert answer(model, 0) == wanted[0]
if __name__ == "__main__":
    thread = threading.Thread(target=busy)
    thread.start()
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as pool:
        print(sum(pool.map(work, range(80))))
    ended = True
    thread.join()
"""
        assert run_program(tmp_path, OPENED + code, *_arguments(server, way)) == "80\n"

    @pytest.mark.parametrize("way", WAYS)
    def test_a_child_uses_closes_and_ends(self, server: Server, left: _Left, tmp_path: Path, way: str):
        code = """
def used():
    assert answer(model, 1) == wanted
    assert len(model.segment_batch(IMAGES * 3)) == 6
    sys.exit(7)
def closed():
    model.close()
    print(told(lambda: answer(model, 1)).partition(": ")[2], flush=True)
def replaced():
    with opened() as another:
        assert answer(another, 1) == wanted
def of_a_child():
    assert answer(model, 1) == wanted
    assert forked(used) == 7
with opened() as model:
    model.segment_batch(IMAGES * 3)
    wanted = answer(model, 1)
    print([forked(work) for work in (used, closed, replaced, of_a_child, lambda: None)])
    assert answer(model, 1) == wanted
"""
        out = run_program(tmp_path, OPENED + code, *_arguments(server, way))
        address = _arguments(server, way)[0]
        assert out == f"{address}: the connection is closed; open the model again\n[7, 0, 0, 0, 0]\n"

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_a_network_on_a_server(self, server: Server, left: _Left, tmp_path: Path, transport: str):
        """Its stages run in this process."""
        code = """
with opened() as model:
    wanted = answer(model, 1)
    def work():
        assert answer(model, 1) == wanted
    print([forked(work) for _ in range(3)])
"""
        address, shared = _arguments(server, f"{transport}-shared")
        network = address.replace("fastsam_device", "fastsam_engine")
        assert run_program(tmp_path, OPENED + code, network, shared) == "[0, 0, 0]\n"

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
    def test_workers_that_open_the_client_themselves(
        self, server: Server, left: _Left, tmp_path: Path, method: str, way: str
    ):
        """The parent has one open, too. Workers of multiprocessing end without `atexit`."""
        code = """
def begin():
    global model
    model = opened()
def work(i):
    return answer(model, i)
if __name__ == "__main__":
    begin()
    wanted = [answer(model, 0), answer(model, 1)]
    with ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[3]), initializer=begin) as pool:
        print(list(pool.map(work, range(20))) == wanted * 10)
"""
        assert run_program(tmp_path, OPENED + code, *_arguments(server, way), method) == "True\n"

    @pytest.mark.parametrize("way", WAYS)
    def test_forks_while_threads_wait_for_answers(self, server: Server, left: _Left, tmp_path: Path, way: str):
        code = """
model = opened()
wanted = [answer(model, 0), answer(model, 1)]
ended = False
def busy(i):
    while not ended:
        assert answer(model, i) == wanted[i % 2]
threads = [threading.Thread(target=busy, args=(i,)) for i in range(3)]
for thread in threads:
    thread.start()
def work():
    assert answer(model, 1) == wanted[1]
codes = []
for i in range(12):
    time.sleep(0.01 * i)
    codes.append(forked(work))
ended = True
for thread in threads:
    thread.join()
print(set(codes))
"""
        assert run_program(tmp_path, OPENED + code, *_arguments(server, way)) == "{0}\n"

    def test_where_grpc_does_not_work_in_the_child_it_says_so(
        self, server: Server, left: _Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
        code = """
model = opened()
wanted = answer(model, 0)
def work():
    print(told(lambda: answer(model, 0)), flush=True)
def elsewhere():
    with FastSAM(address.replace("grpc://" + sys.argv[3], "http://" + sys.argv[4])) as model:
        print(len(model.segment(IMAGES[0])) > 0, flush=True)
print(forked(work), forked(elsewhere))
"""
        lines = run_program(
            tmp_path, OPENED + code, *_arguments(server, "grpc-shared"), server.grpc, server.http
        ).splitlines()
        assert lines[0].startswith("ServerError: grpc://") and "gRPC does not work in this process" in lines[0]
        assert lines[-2:] == ["True", "0 0"]

    def test_a_fork_does_not_wait_for_ever_for_an_answer(self, server: Server, left: _Left, tmp_path: Path):
        """What gRPC's library would do in such a child nobody knows: it hangs, ends the process, or works."""
        code = """
from fastsam_deploy.runtime.engines.triton import over_grpc
over_grpc.CALLS._patience_s = 0
model = opened()
wanted = answer(model, 0)
thread = threading.Thread(target=model.segment_batch, args=(IMAGES * 20,))
thread.start()
time.sleep(0.2)
def work():
    for use in (lambda: answer(model, 0), opened):
        print(told(use), flush=True)
print(forked(work))
thread.join()
print(answer(model, 0) == wanted)
"""
        lines = run_program(tmp_path, OPENED + code, *_arguments(server, "grpc-shared")).splitlines()
        assert lines[0] == lines[1] and "gRPC does not work in this process, which was forked from one" in lines[0]
        assert lines[2:] == ["0", "True"]


class TestLeftBehind:
    def test_a_script_that_does_not_close(self, server: Server, left: _Left, tmp_path: Path):
        run_program(tmp_path, OPENED + "model = opened()\nanswer(model, 0)", *_arguments(server, "grpc-shared"))
        assert left.registered() == [] and left.bytes() == 0
        code = "def work():\n    model = opened()\n    answer(model, 0)\nwork()\nos._exit(0)"
        run_program(tmp_path, OPENED + code, *_arguments(server, "http-shared"))

    @pytest.mark.parametrize("way", ["grpc-shared", "http-shared"])
    def test_an_exception(self, server: Server, left: _Left, tmp_path: Path, way: str):
        code = "model = opened()\nanswer(model, 0)\nraise KeyError"
        run_program(tmp_path, OPENED + code, *_arguments(server, way), code_expected=1)

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_sigterm_of_the_command(self, server: Server, left: _Left, tmp_path: Path, transport: str):
        """`fastsam segment` with the stages here and the network on the server: whole tensors are shared."""
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)).save(tmp_path / "a.png")
        for i in range(400):
            os.link(tmp_path / "a.png", tmp_path / f"b{i:03}.png")
        address = _arguments(server, transport)[0].replace("fastsam_device", "fastsam_engine")
        command = [sys.executable, "-m", "fastsam_deploy.runtime.cli", "segment", str(tmp_path), "--model", address]
        with subprocess.Popen([*command, "--json", str(tmp_path / "lines.jsonl")], cwd=ROOT) as process:
            try:
                _wait_until(lambda: left.registered() != [])
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 128 + signal.SIGTERM
            finally:
                process.kill()
        assert left.registered() == [] and left.bytes() == 0

    @pytest.mark.parametrize("way", ["grpc-shared", "http-shared"])
    def test_sigkill_and_another_client(self, server: Server, left: _Left, tmp_path: Path, way: str):
        code = "model = opened()\nanswer(model, 0)\nprint(flush=True)\ntime.sleep(60)"
        for signal_number in (signal.SIGKILL, signal.SIGTERM):
            with running_program(tmp_path, OPENED + code, *_arguments(server, way)) as process:
                process.stdout.readline()
                assert len(left.registered()) == 1 and left.bytes() == 0
                with FastSAM(_arguments(server, way)[0]):
                    assert len(left.registered()) == 1, "its owner is alive"
                process.send_signal(signal_number)
                process.wait()
            assert len(left.registered()) == 1 and left.bytes() > 0
            with FastSAM(_arguments(server, way)[0]):
                assert left.registered() == [] and left.bytes() == 0

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_clients_whose_requests_timed_out(self, server: Server, left: _Left, transport: str):
        frame = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), np.uint8)
        address = _arguments(server, transport)[0]
        late = 0
        for _ in range(20):
            connection = Connection(timeout_s=0.03, retries=0, shared_memory=True)
            with FastSAM(address, connection=connection) as model:
                for image in (frame, np.concatenate([frame, frame])):  # the second does not fit into the first's region
                    try:
                        model.segment(image)
                    except FastSamError as error:
                        late += "no answer within" in str(error)
        assert late > 20
        assert left.registered() == [] and left.bytes() == 0


def _wait_until(condition: object) -> None:
    end = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)
