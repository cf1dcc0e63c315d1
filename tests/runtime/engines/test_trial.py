"""Model files of strangers, tried in a process with limits first: a changed bit takes gigabytes there, and not here."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime import DeviceError, EngineSettings, FastSAM, ModelError, ParameterError
from fastsam_deploy.runtime.engines import open_engine, trial, tried
from fastsam_deploy.runtime.engines.trial import try_file
from fastsam_deploy.runtime.isolation.limits import Limits
from tests.hostile.boundaries.models import small_network

pytestmark = pytest.mark.timeout(300)

ENGINES = ("onnxruntime", "openvino")


@pytest.fixture(autouse=True)
def _nothing_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PASSED", set())


def needs(engine: str) -> None:
    pytest.importorskip(engine, reason=f"needs the extra [{engine}]")


def file_that_takes(side: int, folder: Path) -> Path:
    """A network that adds the largest of side x side zeros to its detections: they take 4 bytes each."""
    onnx = pytest.importorskip("onnx", reason="needs the extra [direct]")
    model = onnx.ModelProto.FromString(small_network())
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([side, side]), "sides"))
    (sigmoid,) = (node for node in model.graph.node if node.op_type == "Sigmoid")
    sigmoid.output[0] = "scores"
    model.graph.node.extend(
        [
            onnx.helper.make_node("ConstantOfShape", ["sides"], ["zeros"]),
            onnx.helper.make_node("ReduceMax", ["zeros"], ["largest"], keepdims=0),
            onnx.helper.make_node("Add", ["scores", "largest"], ["output0"]),
        ]
    )
    path = folder / f"{side}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bit_that_asks_for_gigabytes_is_an_error(engine: str, tmp_path: Path) -> None:
    """Two bits make 1 x 1 a matrix of 4 GiB. Nothing of that is asked for in this process."""
    needs(engine)
    settings = EngineSettings(engine=engine, threads=1, try_first=True)
    with open_engine(file_that_takes(1, tmp_path), settings) as opened:
        assert opened.spec.imgsz == 64
    path = file_that_takes(1 ^ 1 << 15, tmp_path)
    with pytest.raises(ModelError, match=r"32769\.onnx: .*MiB"):
        open_engine(path, settings)


def test_the_bit_of_the_demo_model_that_took_8_gigabytes(demo_onnx: Path, tmp_path: Path) -> None:
    """A divisor of a side, 4, with one bit more: OpenVINO takes 8.3 GB for an input of 64 x 64."""
    needs("openvino")
    content = demo_onnx.read_bytes()
    start = b"\x42\x06val_10\x4a\x08"  # name and content of the initializer
    assert content.count(start + (4).to_bytes(8, "little")) == 1
    path = tmp_path / "flipped.onnx"
    path.write_bytes(content.replace(start + (4).to_bytes(8, "little"), start + (4 ^ 1 << 30).to_bytes(8, "little")))
    with pytest.raises(ModelError, match=r"flipped\.onnx: "):
        try_file(path, EngineSettings(engine="openvino", threads=1), 64, limits=Limits(60, 1 << 30))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_in_order_opens_and_gives_the_same(engine: str, demo_onnx: Path, coffee: Path) -> None:
    needs(engine)
    with FastSAM(demo_onnx, engine=engine, imgsz=160, try_first=True) as model:
        first = model.segment(coffee)
    with FastSAM(demo_onnx, engine=engine, imgsz=160) as model:
        assert model.segment(coffee) == first


def test_errors_keep_their_class(tmp_path: Path, demo_onnx: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot open it"):
        FastSAM(path, try_first=True)
    with pytest.raises(ModelError, match="no such file"):
        FastSAM(tmp_path / "none.onnx", try_first=True)
    with pytest.raises(DeviceError, match="precision 'bf16'"):
        tried(demo_onnx, EngineSettings(engine="onnxruntime", precision="bf16", try_first=True))
    with pytest.raises(ParameterError, match="try_first with device 'cuda'"):
        tried(demo_onnx, EngineSettings("cuda", try_first=True))
    with pytest.raises(ParameterError, match="try_first is 1, expected True or False"):
        EngineSettings(try_first=1)  # type: ignore[arg-type]


def test_time_is_limited(demo_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsam_deploy.runtime.isolation.process.START_S", 0.0)
    with pytest.raises(ModelError, match=r"opening it takes more than 0\.01 s"):
        try_file(demo_onnx, EngineSettings(try_first=True), limits=Limits(0.01, 1 << 30))


def test_a_file_that_ends_the_process_is_an_error(demo_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Killed(trial.LimitedProcess):
        def answer(self, deadline: float) -> dict[str, Any]:
            started.append(self.pid)
            os.kill(self.pid, 11)
            return super().answer(deadline)

    monkeypatch.setattr(trial, "LimitedProcess", Killed)
    with pytest.raises(ModelError, match="the process that opens it has ended"):
        try_file(demo_onnx, EngineSettings(try_first=True))
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_file_is_tried_once_and_again_when_it_has_changed(demo_onnx: Path, tmp_path: Path) -> None:
    path, settings = tmp_path / "x.onnx", EngineSettings(engine="onnxruntime", try_first=True)
    path.write_bytes(demo_onnx.read_bytes())
    try_file(path, settings, 64)
    try_file(path, settings, 64, limits=Limits(1e-9, 1))
    path.write_bytes(demo_onnx.read_bytes()[:-1])
    with pytest.raises(ModelError):
        try_file(path, settings, 64)


def test_the_memory_of_who_asks_does_not_count() -> None:
    """On Linux, what `getrusage` says of a process includes its parent up to the moment when it was started."""
    ballast = np.ones(50_000_000)
    program = "from fastsam_deploy.runtime.isolation.limits import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0 <= int(done.stdout) < ballast.nbytes // 2


def test_nothing_is_tried_unless_asked(demo_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert tried(demo_onnx, EngineSettings(threads=2)) == EngineSettings(threads=2)
