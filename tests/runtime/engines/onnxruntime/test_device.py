"""ONNX Runtime on device pointers. Without a GPU its CPU provider takes the pointers of a device in memory."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.engines.onnxruntime import provider
from fastsam_deploy.runtime.engines.segmentation import SegmentationEngine
from fastsam_deploy.runtime.errors import DeviceError, FastSamError, ModelError, ParameterError
from fastsam_deploy.runtime.settings import EngineSettings
from tests.emulator.tensorrt.memory_device import MemoryDevice

ours = importlib.import_module("fastsam_deploy.runtime.engines.onnxruntime.device")


@pytest.fixture
def device() -> MemoryDevice:
    return MemoryDevice()


@pytest.fixture
def network(demo_onnx: Path, device: MemoryDevice) -> Iterator[Any]:
    with ours.OnnxRuntimeCudaNetwork(demo_onnx, device, memory="cpu") as found:
        yield found


def photo(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def test_pointers_give_what_arrays_give(network: Any, device: MemoryDevice, demo_onnx: Path) -> None:
    assert not network.capturable
    assert network.largest_batch((64, 64)) is None
    with open_engine(demo_onnx) as reference:
        for shape in [(1, 3, 96, 128), (2, 3, 64, 64), (1, 3, 96, 128)]:
            images = photo(shape)
            made = network.output_shapes({"images": shape})
            memory = {name: device.memory(int(np.prod(s)) * 4) for name, s in {"images": shape, **made}.items()}
            np.copyto(memory["images"].content, images.view(np.uint8).ravel())
            network.enqueue(
                {name: block.pointer for name, block in memory.items()}, {"images": shape}, network.stream.handle
            )
            expected = reference.run(images)
            for name, key in (("output0", "detections"), ("output1", "prototypes")):
                found = memory[name].content.view(np.float32).reshape(made[name])
                np.testing.assert_allclose(found, expected[key], rtol=1e-5, atol=1e-4)


def test_it_is_a_network_for_arrays_too(network: Any, demo_onnx: Path) -> None:
    engine = SegmentationEngine(network)
    with open_engine(demo_onnx) as reference:
        assert engine.spec == reference.spec
        images = photo((1, 3, 64, 96))
        np.testing.assert_allclose(
            engine.run(images)["detections"], reference.run(images)["detections"], rtol=1e-5, atol=1e-4
        )


def test_one_stream_each(network: Any, device: MemoryDevice) -> None:
    shape = {"images": (1, 3, 64, 64)}
    made = network.output_shapes(shape)
    pointers = {n: device.memory(int(np.prod(s)) * 4).pointer for n, s in {**shape, **made}.items()}
    network.enqueue(pointers, shape, network.stream.handle)
    network.enqueue(pointers, shape, network.stream.handle)
    with network.clone() as other:
        with pytest.raises(ParameterError, match=f"it runs on {network.stream.handle:#x}; use a clone"):
            network.enqueue(pointers, shape, other.stream.handle)
        other.enqueue(pointers, shape, other.stream.handle)


def test_the_session_is_gone_before_its_stream(
    demo_onnx: Path, device: MemoryDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = ours.OnnxRuntimeCudaNetwork(demo_onnx, device, memory="cpu")
    sessions: list[Any] = []
    real = network.stream.close
    monkeypatch.setattr(network.stream, "close", lambda: (sessions.append(network._session), real()))
    network.close()
    assert sessions == [None]
    assert not device.streams


def test_nothing_is_left_of_a_network_that_does_not_open(device: MemoryDevice, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError):
        ours.OnnxRuntimeCudaNetwork(tmp_path / "x.onnx", device, memory="cpu")
    assert not device.streams


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"images": (1, 3, 65, 64)}, "choose imgsz or the batch to fit"),
        ({"pictures": (1, 3, 64, 64)}, r"inputs \['pictures'\], expected \['images'\]"),
    ],
)
def test_shapes_that_do_not_fit(network: Any, inputs: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        network.output_shapes(inputs)


def test_a_missing_address(network: Any) -> None:
    with pytest.raises(ParameterError, match="output0, output1 has no address"):
        network.enqueue({"images": 64}, {"images": (1, 3, 64, 64)}, network.stream.handle)


def test_closed_is_closed(network: Any) -> None:
    network.close()
    network.close()
    for call in (
        lambda: network.run({"images": photo((1, 3, 64, 64))}, ["output0"]),
        lambda: network.output_shapes({"images": (1, 3, 64, 64)}),
    ):
        with pytest.raises(ModelError, match="is closed"):
            call()


def test_what_is_no_model(device: MemoryDevice, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot open it on cuda:0"):
        ours.OnnxRuntimeCudaNetwork(tmp_path / "x.onnx", device, memory="cpu")


def test_the_stream_and_the_device_reach_onnx_runtime(demo_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU: the provider's options. What they do there is for a machine that has one.

    There is one session, so that cuDNN's algorithms are chosen once. FP32 means FP32.
    """
    asked: list[Any] = []
    device = MemoryDevice(number=1)

    class Session:
        def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
            asked.append(providers)
            self._real = real(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider"]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    real = ort.InferenceSession
    monkeypatch.setattr(ours.ort, "InferenceSession", Session)
    monkeypatch.setattr(ours.ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    network = ours.OnnxRuntimeCudaNetwork(demo_onnx, device)
    stream = network.stream.handle
    with pytest.raises(FastSamError):  # the CPU provider takes no CUDA memory
        network.enqueue(dict.fromkeys(("images", "output0", "output1"), 64), {"images": (1, 3, 64, 64)}, stream)
    common = {"device_id": 1, "user_compute_stream": str(stream)}
    exact = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    assert asked == [[("CUDAExecutionProvider", {**common, **exact})]]
    assert network.description["precision"] == "fp32" and network.description["cudnn_search"] == "heuristic"
    fast = EngineSettings("cuda:1", precision="tf32", search="exhaustive")
    network = ours.OnnxRuntimeCudaNetwork(demo_onnx, device, fast)
    options = asked[-1][0][1]
    assert (options["use_tf32"], options["cudnn_conv_algo_search"]) == ("1", "EXHAUSTIVE")
    assert network.description["precision"] == "tf32" and network.description["cudnn_search"] == "exhaustive"
    network.clone()
    assert asked[-1][0][1] == {**options, "user_compute_stream": asked[-1][0][1]["user_compute_stream"]}


def test_the_same_options_where_arrays_come_from_the_host(demo_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = importlib.import_module("fastsam_deploy.runtime.engines.onnxruntime.host")
    monkeypatch.setattr(host.ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    for settings, tf32, search in (
        (EngineSettings("cuda:2"), "0", "HEURISTIC"),
        (EngineSettings("cuda:2", precision="fp32"), "0", "HEURISTIC"),
        (EngineSettings("cuda:2", precision="tf32", search="exhaustive"), "1", "EXHAUSTIVE"),
    ):
        options = {"device_id": 2, "use_tf32": tf32, "cudnn_conv_algo_search": search}
        assert host._provider(settings) == ("CUDAExecutionProvider", options)


@pytest.mark.parametrize("pointers", [False, True])
def test_cuda_is_loaded_before_the_first_session(
    demo_onnx: Path, device: MemoryDevice, monkeypatch: pytest.MonkeyPatch, capfd: Any, pointers: bool
) -> None:
    """ONNX Runtime prints what it cannot load: that is for the error, and not for standard output."""
    done: list[str] = []

    class Session:
        def __init__(self, *_: Any, **__: Any) -> None:
            done.append("session")

        def disable_fallback(self) -> None:
            """As that of ONNX Runtime."""

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    def preload() -> None:
        done.append("preload")
        print("Failed to load libcudnn.so.9:\n no such file")

    monkeypatch.setattr(ours.ort, "preload_dlls", preload, raising=False)
    monkeypatch.setattr(ours.ort, "InferenceSession", Session)
    monkeypatch.setattr(ours.ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    on_cuda = EngineSettings("cuda")
    provider.preload_cuda.cache_clear()
    try:
        with pytest.raises(DeviceError, match=r"CPUExecutionProvider \(Failed to load libcudnn.so.9: no such file\); "):
            ours.OnnxRuntimeCudaNetwork(demo_onnx, device) if pointers else open_engine(demo_onnx, on_cuda)
    finally:
        provider.preload_cuda.cache_clear()
    assert done == ["preload", "session"] and capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EngineSettings("cpu", precision="tf32"), "asked for precision 'tf32' on 'cpu', the file is fp32"),
        (EngineSettings("cpu", search="heuristic"), "search is 'heuristic'; it is for device 'cuda'"),
    ],
)
def test_what_only_a_gpu_has(demo_onnx: Path, settings: EngineSettings, message: str) -> None:
    with pytest.raises(FastSamError, match=message):
        open_engine(demo_onnx, settings)


def test_a_precision_that_the_file_has_not(demo_onnx: Path, device: MemoryDevice) -> None:
    with pytest.raises(DeviceError, match="asked for precision 'fp16', the file is fp32"):
        ours.OnnxRuntimeCudaNetwork(demo_onnx, device, EngineSettings("cuda", precision="fp16"), memory="cpu")
    assert not device.streams


def test_a_cpu_where_cuda_was_asked_for_is_an_error(
    demo_onnx: Path, device: MemoryDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    repair = r"run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'fastsam-deploy\[gpu\]'"
    with pytest.raises(DeviceError, match=rf"expected CUDAExecutionProvider; {repair}"):
        ours.OnnxRuntimeCudaNetwork(demo_onnx, device)
    with pytest.raises(DeviceError, match="expected 'cuda' or 'cuda:N'"):
        ours.device_network_from_file(demo_onnx, EngineSettings("cpu"))
    # Some builds list the provider, and then choose another one.
    monkeypatch.setattr(ours.ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with (
        pytest.raises(FastSamError, match="CUDAExecutionProvider"),
        pytest.warns(UserWarning, match="not in available"),
    ):
        ours.OnnxRuntimeCudaNetwork(demo_onnx, device)
