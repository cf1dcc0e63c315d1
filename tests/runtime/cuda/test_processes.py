"""Models on a GPU and worker processes: what docs/processes.md promises of TensorRT and CUDA."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.emulator.driver.emulated import Emulated, cuda_fixture, emulated_fixture  # noqa: F401
from tests.processes import FORKED, run_program

pytestmark = pytest.mark.gpu

ENGINES = ["onnxruntime", "tensorrt"]
START_METHODS = ["fork", "forkserver", "spawn"]

OPENED = (
    FORKED
    + """
sys.path.insert(0, os.getcwd())
from pathlib import Path
from tests.emulator.driver.emulated import driver
from fastsam_deploy.runtime import FastSamError, TRTFastSAM
engine, kernels, plan, network = sys.argv[1:5]
driver().add_kernels(kernels)
def device():
    from fastsam_deploy.runtime.cuda.driver.device import Device
    return Device.open(0)
def opened():
    if engine == "tensorrt":
        from tests.emulator.tensorrt.on_driver import installed
        if "tensorrt" not in sys.modules:
            installed(device(), driver())
        return TRTFastSAM(plan, imgsz=128, graphs=0, conf=0.05)
    from fastsam_deploy.runtime.engines.onnxruntime.device import OnnxRuntimeCudaNetwork
    return TRTFastSAM(OnnxRuntimeCudaNetwork(Path(network), device(), memory="cpu"), imgsz=128, conf=0.05)
def answer(model):
    return model.segment("examples/images/cat.jpg").boxes_xyxy.tolist()
def told(work):
    try:
        return work()
    except FastSamError as error:
        return f"{type(error).__name__}: {error}"
"""
)

PLAN = """
from tests.emulator.tensorrt import on_driver
on_driver.plan(on_driver.installed(device(), driver()), device(), Path(network), Path(plan))
"""


@pytest.fixture(scope="module")
def files(kernels_build: ModuleType, demo_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The kernels, compiled for the host; a plan for the stand-in of TensorRT; and the network it was made from."""
    pytest.importorskip("onnx", reason="the stand-in for TensorRT needs it")
    folder = tmp_path_factory.mktemp("files")
    paths = kernels_build.build_cpu_kernels(folder), folder / "demo.plan", demo_onnx
    run_program(tmp_path_factory.mktemp("program"), OPENED + PLAN, "tensorrt", *paths)
    return paths


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_opened_before_a_fork_is_an_error_in_the_child_which_ends(
    emulated: Emulated, files: tuple[Path, ...], tmp_path: Path, engine: str
):
    code = """
def used():
    print(told(lambda: answer(model)), flush=True)
    print(told(model.clone), flush=True)
def closed():
    model.close()
    model.close()
def dropped():
    global model
    del model
model = opened()
wanted = answer(model)
print([forked(work) for work in (used, closed, dropped, lambda: None)], answer(model) == wanted, len(wanted) > 3)
model.close()
print(forked(lambda: None))
"""
    lines = run_program(tmp_path, OPENED + code, engine, *files).splitlines()
    assert lines[-2:] == ["[0, 0, 0, 0] True True", "0"]
    assert all(line.startswith("DeviceError: ") and "before this process was forked" in line for line in lines[:2])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fork_while_other_threads_hold_every_lock(
    emulated: Emulated, files: tuple[Path, ...], tmp_path: Path, engine: str
):
    code = """
from contextlib import ExitStack
from fastsam_deploy.runtime.cuda.driver.graphs import GraphCache
model, graphs = opened(), GraphCache(1)
wanted = answer(model)
network, stages = model._segmenter._network, model._segmenter._stages
locks = [network.lock, graphs._lock, stages._lock, stages._slots._changed]
if engine == "tensorrt":
    locks += [network._engine.lock, network._engine.log._lock]
held, free = threading.Event(), threading.Event()
def hold():
    with ExitStack() as stack:
        for lock in locks:
            stack.enter_context(lock)
        held.set()
        free.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
def work():
    graphs.close()
    if engine == "tensorrt":
        assert network._engine.log.mark() == 0
        network._engine.retain()
    print(told(lambda: answer(model)), flush=True)
    network.close()
    model.close()
print(forked(work))
free.set()
thread.join()
print(answer(model) == wanted)
"""
    lines = run_program(tmp_path, OPENED + code, engine, *files).splitlines()
    assert lines[-2:] == ["0", "True"] and "before this process was forked" in lines[-3]


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_workers_that_open_the_model_themselves(
    emulated: Emulated, files: tuple[Path, ...], tmp_path: Path, engine: str, method: str
):
    """The parent has one open, too, unless it forks."""
    code = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
def begin(*_):
    global model
    model = opened()
def work(_):
    return os.getpid(), answer(model)
if __name__ == "__main__":
    method = sys.argv[5]
    if method != "fork":
        begin()
    with ProcessPoolExecutor(2, multiprocessing.get_context(method), initializer=begin) as pool:
        answers = list(pool.map(work, range(6)))
    if method == "fork":
        begin()
    wanted = answer(model)
    print(all(boxes == wanted for _, boxes in answers), os.getpid() in dict(answers), len(wanted) > 3)
"""
    assert run_program(tmp_path, OPENED + code, engine, *files, method) == "True False True\n"


def test_an_open_model_is_not_pickled(emulated: Emulated, files: tuple[Path, ...], tmp_path: Path):
    code = """
import pickle
try:
    pickle.dumps(opened())
except TypeError as error:
    print(error)
"""
    out = run_program(tmp_path, OPENED + code, "tensorrt", *files)
    assert out.startswith("an open TRTFastSAM cannot be pickled or copied; give the path of the model")
