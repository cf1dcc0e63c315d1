"""ONNX Runtime's settings, and the cache that both CPU engines share."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime import DeviceError, FastSAM, ParameterError
from fastsam_deploy.runtime.engines import model_cache, open_network
from fastsam_deploy.runtime.engines.onnxruntime import host as onnxruntime
from fastsam_deploy.runtime.settings import EngineSettings
from fastsam_deploy.runtime.system.cpu import usable_cpus

OUTPUTS = ("output0", "output1")
FEED = {"images": np.random.default_rng(0).random((1, 3, 64, 96), np.float32)}
each_engine = pytest.mark.parametrize(
    "engine",
    [
        "onnxruntime",
        pytest.param("openvino", marks=pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")),
    ],
)


@pytest.fixture
def model(demo_onnx: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(demo_onnx, tmp_path / "model.onnx"))


def _open(model: Path, engine: str, cache: Any = True) -> tuple[str | None, list[np.ndarray[Any, Any]]]:
    """What became of the cache, and the answer to FEED."""
    network = open_network(model, EngineSettings(engine=engine, cache=cache))
    try:
        return network.description.get("cache"), network.run(FEED, OUTPUTS)
    finally:
        network.close()


def _same(found: list[Any], expected: list[Any]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@each_engine
def test_nothing_is_written_unless_asked_for(model: Path, engine: str) -> None:
    told, _ = _open(model, engine, cache=False)
    assert told is None and list(model.parent.iterdir()) == [model]


@each_engine
def test_a_cache_beside_the_model_gives_the_same_answers(model: Path, engine: str) -> None:
    _, expected = _open(model, engine, cache=False)
    told, found = _open(model, engine)
    (file,) = set(model.parent.iterdir()) - {model}
    assert told == f"written: {file}" and file.name.startswith(f"model.onnx.{engine}-") and _same(found, expected)
    stamp = file.stat().st_mtime_ns
    told, found = _open(model, engine)
    assert told == f"read: {file}" and _same(found, expected) and file.stat().st_mtime_ns == stamp


@each_engine
def test_the_contract_comes_out_of_the_cache_too(model: Path, engine: str, coffee: Path) -> None:
    plain = FastSAM(model, engine=engine, imgsz=128, conf=0.1)
    cached = [FastSAM(model, engine=engine, imgsz=128, conf=0.1, cache=True) for _ in range(2)]
    expected = plain.segment(coffee)
    assert len(expected) > 0
    for one in cached:
        assert one.spec == plain.spec and one.imgsz == plain.imgsz
        np.testing.assert_array_equal(one.segment(coffee).boxes_xyxy, expected.boxes_xyxy)
    for one in (plain, *cached):
        one.close()


@pytest.mark.parametrize("damage", ["half", "a bit", "another file"])
def test_a_damaged_cache_is_made_again(model: Path, damage: str) -> None:
    _, expected = _open(model, "onnxruntime")
    (file,) = model.parent.glob("*.cache")
    whole = file.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "half": whole[:middle],
        "a bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "another file": b"of someone else" * 99,
    }[damage]
    file.write_bytes(damaged)
    told, found = _open(model, "onnxruntime")
    assert told == f"written: {file}" and _same(found, expected)
    assert _open(model, "onnxruntime")[0] == f"read: {file}"


@pytest.mark.parametrize("change", ["model", "version", "processor"])
def test_a_stale_cache_is_never_read(model: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _open(model, "onnxruntime")
    if change == "model":  # a field at the end of the file that readers do not know
        model.write_bytes(model.read_bytes() + b"\xf2\x3f\x01x")
    elif change == "version":
        monkeypatch.setattr(onnxruntime.ort, "__version__", "99.0")
    else:
        monkeypatch.setattr(model_cache, "name_and_flags", lambda: ("another", frozenset()))
    assert str(_open(model, "onnxruntime")[0]).startswith("written: ")
    assert len(list(model.parent.glob("*.cache"))) == 2


@pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")
def test_settings_that_change_what_is_compiled_have_files_of_their_own(model: Path) -> None:
    for settings in ({}, {"precision": "fp32"}, {"hint": "throughput"}):
        open_network(model, EngineSettings(engine="openvino", cache=True, **settings)).close()
    assert len(list(model.parent.glob("*.cache"))) == 3


@each_engine
def test_a_folder_that_cannot_be_written_is_told_and_no_error(
    model: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = _open(model, engine, cache=False)
    real = os.open

    def refusing(path: Any, *arguments: Any, **named: Any) -> int:
        if isinstance(path, (str, Path)) and Path(path).parent == model.parent and ".part" in str(path):
            raise PermissionError(13, "Permission denied")  # root may write anywhere: no mode would stop the test
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refusing)
    told, found = _open(model, engine)
    assert str(told).startswith("not written: ") and "Permission denied" in str(told) and _same(found, expected)
    assert list(model.parent.iterdir()) == [model]


def test_a_folder_for_the_cache(model: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("caches")
    told, _ = _open(model, "onnxruntime", cache=str(folder))
    assert str(told).startswith(f"written: {folder}") and list(model.parent.iterdir()) == [model]
    with pytest.raises(ParameterError, match="cache is 'no such folder', expected True or a folder"):
        _open(model, "onnxruntime", cache="no such folder")


def test_threads_respect_what_this_process_may_use(model: Path) -> None:
    cpus = usable_cpus()
    assert onnxruntime._options(None).intra_op_num_threads == cpus
    assert onnxruntime._options(3).intra_op_num_threads == 3
    network = open_network(model)
    assert network.description["threads"] == cpus
    network.close()
    for threads in (0, -1):
        with pytest.raises(ParameterError, match="threads is"):
            open_network(model, EngineSettings(threads=threads))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_one_processor_means_one_thread(model: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        network = open_network(model)
    finally:
        os.sched_setaffinity(0, before)
    assert network.description["threads"] == 1
    network.close()


def test_outputs_are_the_callers_own(model: Path) -> None:
    network = open_network(model)
    first = network.run(FEED, OUTPUTS)
    kept = [array.copy() for array in first]
    second = network.run({"images": 1 - FEED["images"]}, OUTPUTS)
    for array, copy, other in zip(first, kept, second, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert array.flags.writeable and not np.shares_memory(array, other)
    network.close()


def test_precisions_and_hints_of_onnx_runtime(model: Path) -> None:
    open_network(model, EngineSettings(precision="fp32", hint="latency")).close()
    for precision in ("fp16", "bf16"):
        with pytest.raises(DeviceError, match=f"precision '{precision}'.*computes in what"):
            open_network(model, EngineSettings(precision=precision))
    with pytest.raises(
        ParameterError,
        match="hint is 'throughput'; ONNX Runtime has no such setting; pass engine='openvino', or leave hint out",
    ):
        open_network(model, EngineSettings(hint="throughput"))
