"""Models and worker processes: what docs/processes.md promises of engines in the process itself."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.processes import FORKED, check_gunicorn, run_program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

ENGINES = ["onnxruntime", "openvino"]
START_METHODS = ["fork", "forkserver", "spawn"]

OPENED = (
    FORKED
    + """
from fastsam_deploy.runtime import FastSAM, FastSamError
engine, threads = sys.argv[1], int(sys.argv[2])
def opened(**settings):
    return FastSAM(engine=engine, threads=threads, imgsz=320, **settings)
def answer(model):
    return model.segment("examples/images/cat.jpg").boxes_xyxy.tolist()
def told(work):
    try:
        return work()
    except FastSamError as error:
        return f"{type(error).__name__}: {error}"
"""
)


def _skip_without(engine: str) -> None:
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_opened_before_a_fork_answers_in_the_child_which_ends(tmp_path: Path, engine: str, threads: int):
    _skip_without(engine)
    code = """
model = opened()
wanted = answer(model)
def work():
    assert answer(model) == wanted and len(wanted) > 5
    print("answered", flush=True)
    sys.exit(7)
print(forked(work), answer(model) == wanted)
model.close()
"""
    assert run_program(tmp_path, OPENED + code, engine, threads) == "answered\n7 True\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_opened_before_a_fork_is_closed_in_the_child_at_once(tmp_path: Path, engine: str):
    _skip_without(engine)
    code = """
def used_and_closed():
    answer(model)
    model.close()
def closed():
    model.close()
    model.close()
    print(told(lambda: answer(model)), flush=True)
def dropped():
    global model
    del model
def replaced():
    with opened() as another:
        assert answer(another) == wanted
with opened() as model:
    wanted = answer(model)
    print([forked(work) for work in (used_and_closed, closed, dropped, replaced, lambda: None)])
    assert answer(model) == wanted
print(forked(lambda: None))
"""
    out = run_program(tmp_path, OPENED + code, engine, 2)
    assert out == "ModelError: fastsam-demo.onnx: the engine is closed; open the model again\n[0, 0, 0, 0, 0]\n0\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fork_while_other_threads_are_at_work(tmp_path: Path, engine: str):
    _skip_without(engine)
    code = """
model = opened()
wanted = answer(model)
ended = False
def busy():
    while not ended:
        assert answer(model) == wanted
threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads:
    thread.start()
def work():
    assert answer(model) == wanted
codes = []
for i in range(8):
    time.sleep(0.03 * i)
    codes.append(forked(work, patience_s=60))
ended = True
for thread in threads:
    thread.join()
print(codes)
"""
    assert run_program(tmp_path, OPENED + code, engine, 2, timeout_s=600) == "[0, 0, 0, 0, 0, 0, 0, 0]\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_child_opens_the_same_file_wherever_it_is(tmp_path: Path, demo_onnx: Path, engine: str):
    _skip_without(engine)
    (tmp_path / "model.onnx").write_bytes(demo_onnx.read_bytes())
    code = """
photo = os.path.abspath("examples/images/cat.jpg")
os.chdir(sys.argv[3])
def answer(model):
    return model.segment(photo).boxes_xyxy.tolist()
os.mkdir("cache")
model = FastSAM("model.onnx", engine=engine, threads=threads, imgsz=320, cache="cache")
wanted = answer(model)
def elsewhere():
    os.chdir("/")
    assert answer(model) == wanted
def changed():
    print(told(lambda: answer(model)), flush=True)
print(forked(elsewhere), flush=True)
os.utime("model.onnx", (1, 1))
print(forked(changed), flush=True)
os.unlink("model.onnx")
print(forked(changed), answer(model) == wanted)
"""
    lines = run_program(tmp_path, OPENED + code, engine, 2, tmp_path).splitlines()
    says = "ModelError: model.onnx: has changed since it was opened, before this process was forked"
    assert lines[0] == "0" and lines[2] == "0" and lines[4] == "0 True", lines
    assert [line.partition(";")[0] for line in lines[1:4:2]] == [says, says]


def test_a_stream_begun_before_a_fork(tmp_path: Path):
    code = """
model = opened()
photos = ["examples/images/cat.jpg"] * 4
stream = model.segment_stream(photos)
first = next(stream).result()
def work():
    print(told(lambda: next(stream)), flush=True)
    assert all(len(item.result()) == len(first) for item in model.segment_stream(photos))
print(forked(work), forked(lambda: None))
print(len([item.result() for item in stream]))
"""
    lines = run_program(tmp_path, OPENED + code, "onnxruntime", 2).splitlines()
    assert lines[0].startswith("FastSamError: a stream that was begun before this process was forked")
    assert lines[1:] == ["0 0", "3"]


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_workers_that_open_the_model_themselves(tmp_path: Path, engine: str, method: str):
    """The parent has one open, too."""
    _skip_without(engine)
    code = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
def begin(*_):
    global model
    model = opened()
def work(_):
    return os.getpid(), answer(model)
if __name__ == "__main__":
    begin()
    wanted = answer(model)
    with ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[3]), initializer=begin) as pool:
        answers = list(pool.map(work, range(8)))
    print(all(found == wanted for _, found in answers), os.getpid() in dict((pid, 0) for pid, _ in answers))
"""
    assert run_program(tmp_path, OPENED + code, engine, 2, method) == "True False\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_workers_that_inherit_the_model(tmp_path: Path, engine: str):
    """By "fork", and by a fork server that has opened it."""
    _skip_without(engine)
    code = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
model = opened()
wanted = answer(model)
def work(_):
    return answer(model) == wanted
if __name__ == "__main__":
    for method in ("fork", "forkserver"):
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(["__main__"])
        with ProcessPoolExecutor(2, context) as pool:
            print(all(pool.map(work, range(8))))
"""
    assert run_program(tmp_path, OPENED + code, engine, 2) == "True\nTrue\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_an_open_model_is_not_pickled(tmp_path: Path, engine: str):
    _skip_without(engine)
    code = """
import pickle
try:
    pickle.dumps(opened())
except TypeError as error:
    print(error)
"""
    out = run_program(tmp_path, OPENED + code, engine, 2)
    assert out.startswith("an open FastSAM cannot be pickled or copied; give the path of the model")


@pytest.mark.parametrize("engine", ENGINES)
def test_gunicorn_with_preload_recycles_its_workers(tmp_path: Path, engine: str):
    _skip_without(engine)
    check_gunicorn(tmp_path, f"FastSAM(threads=2, engine={engine!r})")
