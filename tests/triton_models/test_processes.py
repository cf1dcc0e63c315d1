"""Clients of a real server and worker processes: no answer is another process's."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from fastsam_deploy.runtime import FastSAM
from scripts.triton_server import Server
from tests.processes import check_gunicorn, run_program
from tests.triton_models.clients import OPENED, LeftBehind, arguments

pytestmark = pytest.mark.triton

WAYS = ["grpc-shared", "grpc", "http-shared", "http"]
"""Transport, and whether arrays travel through shared memory."""


class TestForks:
    @pytest.mark.parametrize("way", WAYS)
    def test_workers_that_inherit_a_client_get_their_own_answers(
        self, server: Server, left: LeftBehind, tmp_path: Path, way: str
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
        assert run_program(tmp_path, OPENED + code, *arguments(server, way)) == "80\n"

    @pytest.mark.parametrize("way", WAYS)
    def test_a_child_uses_closes_and_ends(self, server: Server, left: LeftBehind, tmp_path: Path, way: str):
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
        out = run_program(tmp_path, OPENED + code, *arguments(server, way))
        address = arguments(server, way)[0]
        assert out == f"{address}: the connection is closed; open the model again\n[7, 0, 0, 0, 0]\n"

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_a_network_on_a_server(self, server: Server, left: LeftBehind, tmp_path: Path, transport: str):
        """Its stages run in this process."""
        code = """
with opened() as model:
    wanted = answer(model, 1)
    def work():
        assert answer(model, 1) == wanted
    print([forked(work) for _ in range(3)])
"""
        address, shared = arguments(server, f"{transport}-shared")
        network = address.replace("fastsam_device", "fastsam_engine")
        assert run_program(tmp_path, OPENED + code, network, shared) == "[0, 0, 0]\n"

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
    def test_workers_that_open_the_client_themselves(
        self, server: Server, left: LeftBehind, tmp_path: Path, method: str, way: str
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
        assert run_program(tmp_path, OPENED + code, *arguments(server, way), method) == "True\n"

    @pytest.mark.parametrize("way", WAYS)
    def test_forks_while_threads_wait_for_answers(self, server: Server, left: LeftBehind, tmp_path: Path, way: str):
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
        assert run_program(tmp_path, OPENED + code, *arguments(server, way)) == "{0}\n"

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_an_open_client_is_not_pickled(self, server: Server, left: LeftBehind, transport: str):
        with (
            FastSAM(arguments(server, transport)[0]) as model,
            pytest.raises(TypeError, match=r"open FastSAM cannot be pickled"),
        ):
            pickle.dumps(model)

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_gunicorn_with_preload_recycles_its_workers(
        self, server: Server, left: LeftBehind, tmp_path: Path, transport: str
    ):
        """The photograph travels as pixels, which is enough for shared memory."""
        check_gunicorn(tmp_path, f"FastSAM({arguments(server, transport)[0]!r})")

    def test_where_grpc_does_not_work_in_the_child_it_says_so(
        self, server: Server, left: LeftBehind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
            tmp_path, OPENED + code, *arguments(server, "grpc-shared"), server.grpc, server.http
        ).splitlines()
        assert lines[0].startswith("ServerError: grpc://") and "gRPC does not work in this process" in lines[0]
        assert lines[-2:] == ["True", "0 0"]

    def test_a_fork_does_not_wait_for_ever_for_an_answer(self, server: Server, left: LeftBehind, tmp_path: Path):
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
        lines = run_program(tmp_path, OPENED + code, *arguments(server, "grpc-shared")).splitlines()
        assert lines[0] == lines[1] and "gRPC does not work in this process, which was forked from one" in lines[0]
        assert lines[2:] == ["0", "True"]
