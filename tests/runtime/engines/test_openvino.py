"""OpenVINO on the shipped model and photographs, against ONNX Runtime; which engine opens a file."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastsam_deploy.runtime import (
    DeviceError,
    FastSAM,
    MissingDependencyError,
    ModelError,
    ParameterError,
    Segments,
    load_image,
)
from fastsam_deploy.runtime.engines import open_engine, open_network, registry
from fastsam_deploy.runtime.engines.interface import Network
from fastsam_deploy.runtime.engines.segmentation import SegmentationEngine
from fastsam_deploy.runtime.settings import EngineSettings
from fastsam_deploy.runtime.system.cpu import name_and_flags, usable_cpus

OUTPUTS = ("output0", "output1")
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino: pip install openvino")


@pytest.fixture(scope="module")
def network(demo_onnx: Path) -> Iterator[Network]:
    pytest.importorskip("openvino")
    network = open_network(demo_onnx, EngineSettings(engine="openvino", precision="fp32"))
    yield network
    network.close()


@pytest.fixture(scope="module")
def reference(demo_onnx: Path) -> Iterator[Network]:
    network = open_network(demo_onnx, EngineSettings(engine="onnxruntime"))
    yield network
    network.close()


def _input(seed: int, *shape: int) -> dict[str, Any]:
    return {"images": np.random.default_rng(seed).random(shape, np.float32)}


def _ious(found: Segments, expected: Segments) -> NDArray[np.float32]:
    """(n,) of each expected mask's best partner."""
    a, b = (one.masks.dense().reshape(len(one), -1).astype(np.float32) for one in (expected, found))
    shared = a @ b.T
    ious = shared / (a.sum(1)[:, None] + b.sum(1)[None] - shared)
    best: NDArray[np.float32] = ious.max(1)
    return best


def test_both_engines_read_the_same_contract_from_the_file(network: Network, reference: Network) -> None:
    ours, theirs = (
        [(tensor.name, tensor.shape) for tensor in (*one.inputs, *one.outputs)] for one in (network, reference)
    )
    assert ours == theirs and {tensor.dtype for tensor in (*network.inputs, *network.outputs)} == {"float32"}
    assert dict(network.metadata) == dict(reference.metadata)
    assert network.description["engine"] == "openvino" and network.description["precision"] == "fp32"
    assert network.description["threads"] == usable_cpus() and network.description["streams"] == 1


def test_one_compiled_model_takes_every_shape(network: Network, reference: Network) -> None:
    """Shapes in turn: a run must not see sizes or memory of the run before."""
    shapes = [(1, 3, 320, 416), (1, 3, 416, 320), (2, 3, 96, 64), (1, 3, 320, 416), (1, 3, 32, 32)]
    for seed, shape in enumerate(shapes):
        feed = _input(seed, *shape)
        for found, expected in zip(network.run(feed, OUTPUTS), reference.run(feed, OUTPUTS), strict=True):
            assert found.shape == expected.shape and found.dtype == expected.dtype
            # Box coordinates are up to hundreds of pixels; the sums of convolutions go in another order.
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


def test_arrays_are_the_callers_own(network: Network) -> None:
    first = network.run(_input(0, 1, 3, 64, 64), OUTPUTS)
    kept = [array.copy() for array in first]
    second = network.run(_input(1, 1, 3, 64, 64), OUTPUTS)
    for array, copy, other in zip(first, kept, second, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert array.flags.writeable and not np.shares_memory(array, other) and not np.array_equal(array, other)


def test_the_order_of_outputs_is_the_one_asked_for(network: Network) -> None:
    feed = _input(0, 1, 3, 64, 64)
    prototypes, detections = network.run(feed, OUTPUTS[::-1])
    assert prototypes.ndim == 4 and detections.ndim == 3


@pytest.mark.parametrize("kind", ["read-only", "columns first"])
def test_inputs_of_any_memory_layout(network: Network, kind: str) -> None:
    feed = _input(0, 1, 3, 64, 96)
    expected = network.run(feed, OUTPUTS)
    other = np.asfortranarray(feed["images"]) if kind == "columns first" else feed["images"].copy()
    other.flags.writeable = kind != "read-only"
    for found, wanted in zip(network.run({"images": other}, OUTPUTS), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@needs_openvino
@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_many_threads_share_one_network(demo_onnx: Path, coffee: Path, hint: str) -> None:
    with FastSAM(demo_onnx, engine="openvino", hint=hint, imgsz=128, conf=0.1) as model:
        assert model.description["hint"] == hint
        photo = load_image(coffee)
        feeds = [photo[: 200 + 100 * (i % 3), 40 * i :] for i in range(6)]
        expected = [model.segment(image) for image in feeds]
        with ThreadPoolExecutor(4) as pool:
            for found, wanted in zip(pool.map(model.segment, feeds), expected, strict=True):
                np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.01)
    assert sum(map(len, expected)) > 0


@needs_openvino
def test_threads_are_those_asked_for(demo_onnx: Path) -> None:
    network = open_network(demo_onnx, EngineSettings(threads=1, engine="openvino"))
    assert network.description["threads"] == 1
    network.close()


@needs_openvino
def test_masks_are_those_of_onnx_runtime(demo_onnx: Path, coffee: Path, cat: Path) -> None:
    settings = {"conf": 0.25, "imgsz": 320}
    with (
        FastSAM(demo_onnx, engine="openvino", precision="fp32", **settings) as ours,
        FastSAM(demo_onnx, engine="onnxruntime", **settings) as reference,
    ):
        assert ours.spec == reference.spec
        for path in (coffee, cat):
            found, expected = ours.segment(path), reference.segment(path)
            assert len(found) == len(expected) > 10
            assert _ious(found, expected).min() >= 0.99
            np.testing.assert_allclose(np.sort(found.scores), np.sort(expected.scores), atol=1e-4)


@needs_openvino
def test_bf16_is_used_and_told_or_refused(demo_onnx: Path, coffee: Path, cat: Path) -> None:
    """OpenVINO itself takes the hint on any processor, and computes in FP32 where it has nothing else."""
    settings: dict[str, Any] = {"conf": 0.25, "imgsz": 640}  # OpenVINO's BF16 gives 0.980 and 0.978
    if not name_and_flags()[1] & {"amx_bf16", "avx512_bf16"}:
        with pytest.raises(DeviceError, match=r"asked for precision 'bf16', this processor .* computes in 'fp32'"):
            FastSAM(demo_onnx, engine="openvino", precision="bf16")
        return
    with (
        FastSAM(demo_onnx, engine="openvino", precision="bf16", **settings) as fast,
        FastSAM(demo_onnx, engine="openvino", precision="fp32", **settings) as exact,
    ):
        assert (fast.spec.precision, exact.spec.precision) == ("bf16", "fp32")
        ious = [_ious(fast.segment(path), exact.segment(path)).mean() for path in (coffee, cat)]
        assert min(ious) >= 0.97


@needs_openvino
def test_mixed_keeps_the_first_layers_and_the_ends_of_the_head_in_fp32(demo_onnx: Path) -> None:
    import openvino as ov

    from fastsam_deploy.runtime.engines.openvino_mixed import kept_in_fp32, with_fp32_layers

    core = ov.Core()
    model = core.read_model(demo_onnx)
    kept = kept_in_fp32(model)
    convolutions = [
        node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"
    ]
    assert len(convolutions) == 76
    # Six up to a quarter of the input's size, nine ends of the head, and the mean of the distributions.
    assert len(kept & {*convolutions}) == 16
    assert {*convolutions[:6]} <= kept
    assert not kept & {*convolutions[6:40]}
    marked = with_fp32_layers(core, model)
    assert [port.any_name for port in marked.inputs] == ["images"]
    assert [port.any_name for port in marked.outputs] == [port.any_name for port in model.outputs]
    compiled = core.compile_model(marked, "CPU", {"INFERENCE_PRECISION_HINT": ov.Type.bf16})
    computed = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = [(info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for info in computed]
    in_fp32 = kinds.count(("Convolution", "f32"))
    assert in_fp32 == (16 if name_and_flags()[1] & {"amx_bf16", "avx512_bf16"} else 76)


@needs_openvino
def test_mixed_is_nearer_to_fp32_than_bf16(demo_onnx: Path, coffee: Path, cat: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"conf": 0.25, "imgsz": 640, "engine": "openvino"}
    if not name_and_flags()[1] & {"amx_bf16", "avx512_bf16"}:
        with pytest.raises(DeviceError, match=r"asked for precision 'mixed', this processor .* computes in 'fp32'"):
            FastSAM(demo_onnx, precision="mixed", **settings)
        return
    with FastSAM(demo_onnx, precision="fp32", **settings) as exact:
        expected = [exact.segment(path) for path in (coffee, cat)]
    ious = {}
    for precision in ("bf16", "mixed"):
        for _ in range(2):  # the second one reads the cache, which must not mix them up
            with FastSAM(demo_onnx, precision=precision, cache=tmp_path, **settings) as model:
                assert model.spec.precision == precision
                found = [model.segment(path) for path in (coffee, cat)]
            shares = [_ious(*pair).mean() for pair in zip(found, expected, strict=True)]
            assert ious.setdefault(precision, shares) == shares
    assert np.mean(ious["mixed"]) > np.mean(ious["bf16"]) + 0.002


@needs_openvino
def test_the_precision_is_that_of_the_compiled_model_and_not_of_the_request(
    demo_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a processor with AMX, where BF16 is OpenVINO's own choice."""
    from fastsam_deploy.runtime.engines import openvino

    monkeypatch.setattr(openvino, "_name_of_type", lambda _: "bf16")
    with open_engine(demo_onnx, EngineSettings(engine="openvino")) as engine:
        assert engine.description["precision"] == engine.spec.precision == "bf16"
    with pytest.raises(DeviceError, match=r"asked for precision 'fp32', .* computes in 'bf16'"):
        open_network(demo_onnx, EngineSettings(engine="openvino", precision="fp32"))


@needs_openvino
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"device": "cuda"}, DeviceError, "engine 'openvino', which is for device 'cpu'"),
        ({"precision": "fp8"}, ParameterError, "precision is 'fp8', expected one of fp32"),
        ({"hint": "speed"}, ParameterError, "hint is 'speed', expected one of latency, throughput"),
        ({"threads": 0}, ParameterError, "threads is 0"),
        ({"cache": "no such folder"}, ParameterError, "cache is 'no such folder', expected True or a folder"),
    ],
)
def test_what_openvino_does_not_have(
    demo_onnx: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_network(demo_onnx, EngineSettings(engine="openvino", **settings))


@needs_openvino
@pytest.mark.parametrize("content", [b"", b"no network" * 99, None], ids=["empty", "text", "half a file"])
def test_a_broken_file_is_told_in_a_line(demo_onnx: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(demo_onnx.read_bytes()[:3_000_000] if content is None else content)
    with pytest.raises(ModelError, match=r"broken\.onnx: OpenVINO .* cannot open it \(.+\); expected") as caught:
        open_network(path, EngineSettings(engine="openvino"))
    assert "\n" not in str(caught.value)


def test_a_shape_that_the_network_does_not_take(network: Network) -> None:
    with pytest.raises(ModelError, match=r"OpenVINO failed to run it: .+"):
        network.run(_input(0, 1, 3, 33, 64), OUTPUTS)
    assert len(network.run(_input(0, 1, 3, 32, 64), OUTPUTS)) == 2, "it goes on after a failed run"


@needs_openvino
def test_closing(demo_onnx: Path) -> None:
    with open_network(demo_onnx, EngineSettings(engine="openvino")) as network:  # type: ignore[attr-defined]
        network.close()
    with pytest.raises(ModelError, match="the engine is closed"):
        network.run(_input(0, 1, 3, 32, 32), OUTPUTS)


def test_an_unknown_engine(demo_onnx: Path) -> None:
    with pytest.raises(ParameterError, match=r"engine is 'tvm', expected one of onnxruntime, openvino for \.onnx"):
        open_network(demo_onnx, EngineSettings(engine="tvm"))


@pytest.mark.parametrize(
    ("installed", "device", "expected"),
    [
        pytest.param({"onnxruntime", "openvino"}, "cpu", "onnxruntime", id="both"),
        pytest.param({"openvino"}, "cpu", "openvino", id="only OpenVINO"),
        pytest.param({"openvino"}, "cuda", "onnxruntime", id="OpenVINO has no CUDA"),
        pytest.param(set(), "cpu", "onnxruntime", id="none"),
    ],
)
def test_which_engine_opens_a_file_when_none_is_named(
    monkeypatch: pytest.MonkeyPatch, demo_onnx: Path, installed: set[str], device: str, expected: str
) -> None:
    opened = []

    def module(name: str, _: str) -> Any:
        opened.append(name)
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(registry, "find_spec", lambda name: name if name in installed else None)
    monkeypatch.setattr(registry, "import_module", module)
    extra = {"onnxruntime": "cpu" if device == "cpu" else "gpu", "openvino": "openvino"}[expected]
    with pytest.raises(MissingDependencyError, match=rf"pip install 'fastsam-deploy\[{extra}\]'"):
        open_network(demo_onnx, EngineSettings(device))
    assert opened == [{"onnxruntime": ".onnxruntime.host", "openvino": ".openvino"}[expected]]


def test_an_open_engine_has_its_own_settings(demo_onnx: Path) -> None:
    with (
        open_engine(demo_onnx) as engine,
        pytest.raises(ParameterError, match=r"precision is .*hint is .*leave precision, hint out"),
    ):
        FastSAM(engine, precision="fp32", hint="latency")


def test_a_server_has_its_own_settings() -> None:
    with pytest.raises(ParameterError, match="engine is 'openvino'; the server has its own: leave engine out"):
        FastSAM("grpc://localhost:1/fastsam", engine="openvino")


def test_the_spec_tells_what_is_computed_in(reference: Network, demo_onnx: Path) -> None:
    class InBf16:
        """The reference, as if it computed in BF16."""

        def __init__(self) -> None:
            self.description = {"precision": "bf16"}

        def __getattr__(self, name: str) -> Any:
            return getattr(reference, name)

    assert SegmentationEngine(InBf16()).spec.precision == "bf16"  # type: ignore[arg-type]
    with open_engine(demo_onnx) as engine:
        assert engine.spec.precision == "fp32"


@needs_openvino
def test_results_do_not_depend_on_what_ran_before(demo_onnx: Path, coffee: Path, cat: Path) -> None:
    with FastSAM(demo_onnx, engine="openvino", precision="fp32", imgsz=320, conf=0.25) as model:
        first = model.segment(load_image(coffee))
        model.segment(cat)
        again = model.segment(load_image(coffee))
    np.testing.assert_array_equal(first.boxes_xyxy, again.boxes_xyxy)
    np.testing.assert_array_equal(first.masks.dense(), again.masks.dense())
