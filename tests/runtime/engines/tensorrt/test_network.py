"""The engine that runs plans, on the stand-in for TensorRT: flow, shapes, threads, lifetime, errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.emulator.tensorrt.world import World

pytest.importorskip("onnx", reason="the stand-in needs it")

from fastsam_deploy.export.tensorrt.drafts import record_of, write_pair
from fastsam_deploy.export.tensorrt.request import request_for
from fastsam_deploy.export.tensorrt.settings import BuildSettings
from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.engines import open_device_network, open_engine, open_network, registry
from fastsam_deploy.runtime.engines.segmentation import SegmentationEngine
from fastsam_deploy.runtime.errors import DeviceError, FastSamError, ModelError, ParameterError
from fastsam_deploy.runtime.settings import EngineSettings

SHAPES = ("1x64x64,2x128x128,2x128x160", "1x64x64,1x96x128,1x96x128")


@pytest.fixture
def plan(newest: World, demo_onnx: Path, tmp_path: Path) -> Path:
    """A plan of the demo model with two profiles, and its JSON."""
    return write_plan(newest, demo_onnx, tmp_path / "demo.plan")


def write_plan(world: World, model: Path, target: Path, settings: BuildSettings | None = None) -> Path:
    request = request_for(model, target, shapes=SHAPES, settings=settings)
    content = model.read_bytes()
    with world.device.active():
        plan = world.ours.builder.plan_from_onnx(
            world.module, content, model.name, {"images": request.profiles}, request.settings,
            world.ours.log.tensorrt_log(world.module),
        )  # fmt: skip
    write_pair(target, plan, record_of(request, request.spec, plan, content, world.api["version"], world.device))
    return target


def photo(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, np.float32)


def freed(world: World) -> bool:
    """Nothing lives, on the device or in TensorRT."""
    return not (+world.alive or world.device.live or world.device.streams or world.device.pinned_live)


def open_plan(world: World, path: Path) -> Any:
    return world.ours.network.network_from_file(path, EngineSettings("cuda"))


def test_it_gives_what_the_network_gives(world: World, demo_onnx: Path, tmp_path: Path) -> None:
    path = write_plan(world, demo_onnx, tmp_path / "demo.plan")
    with open_engine(demo_onnx) as reference, SegmentationEngine(open_plan(world, path)) as engine:
        assert engine.spec.checkpoint_sha256 == reference.spec.checkpoint_sha256
        assert engine.spec.class_names == reference.spec.class_names
        # Growing and shrinking, both profiles, the same shape again.
        for i, shape in enumerate([(1, 64, 64), (2, 128, 160), (1, 96, 128), (1, 64, 64), (1, 64, 64)]):
            images = photo((shape[0], 3, *shape[1:]), i)
            found, expected = engine.run(images), reference.run(images)
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name])
        first = engine.run(images)["detections"]
        before = first.copy()
        engine.run(photo((1, 3, 64, 64), 99))
        np.testing.assert_array_equal(first, before)  # the caller's own
    assert world.violations == []
    assert freed(world)


def test_fastsam_runs_on_a_plan(newest: World, plan: Path, coffee: Path, demo_onnx: Path) -> None:
    engine = SegmentationEngine(open_plan(newest, plan))
    with FastSAM(engine, imgsz=128, conf=0.2) as model, FastSAM(demo_onnx, imgsz=128, conf=0.2) as other:
        found, expected = model.segment(coffee), other.segment(coffee)
        assert len(expected) > 0
        np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    engine.close()


def test_the_tightest_profile_is_taken(newest: World, plan: Path) -> None:
    with open_plan(newest, plan) as network:
        shared = network._engine
        assert shared.profile_for({"images": (1, 3, 96, 128)}) == 1
        assert shared.profile_for({"images": (2, 3, 96, 128)}) == 0
        with pytest.raises(ParameterError, match=r"images 3x3x64x64; the plan takes .*1x3x64x64 … 2x3x128x160"):
            network.run({"images": photo((3, 3, 64, 64))}, ["output0"])
        assert [network.largest_batch(hw) for hw in [(64, 64), (96, 128), (128, 160), (160, 160)]] == [2, 2, 2, None]
        # The network is usable afterwards.
        assert network.run({"images": photo((1, 3, 64, 64))}, ["output1"])[0].shape == (1, 32, 16, 16)


def test_sides_that_all_profiles_fix_are_fixed(newest: World, demo_onnx: Path, tmp_path: Path) -> None:
    request = request_for(demo_onnx, tmp_path / "demo.plan", shapes=["1x128x160,2x128x160,4x128x160"])
    with newest.device.active():
        plan = newest.ours.builder.plan_from_onnx(
            newest.module, demo_onnx.read_bytes(), "demo", {"images": request.profiles}, request.settings,
            newest.ours.log.tensorrt_log(newest.module),
        )  # fmt: skip
    (tmp_path / "demo.plan").write_bytes(plan)  # as trtexec leaves it: without JSON
    with SegmentationEngine(open_plan(newest, tmp_path / "demo.plan")) as engine:
        assert (engine.spec.batch, engine.spec.size_hw, engine.spec.imgsz) == (None, (128, 160), 160)
        with pytest.raises(ParameterError, match=r"the model takes \(any, 3, 128, 160\)"):
            engine.run(photo((1, 3, 128, 128)))


def test_pointers_of_the_caller(newest: World, plan: Path, demo_onnx: Path) -> None:
    device = newest.device
    with open_plan(newest, plan) as network, open_engine(demo_onnx) as reference:
        assert network.capturable
        stream = device.stream()
        for shape in [(1, 3, 96, 128), (2, 3, 64, 64), (1, 3, 96, 128)]:
            images = photo(shape)
            made = network.output_shapes({"images": shape})
            memory = {name: device.memory(int(np.prod(s)) * 4) for name, s in {"images": shape, **made}.items()}
            stream.copy_in(memory["images"].pointer, images)
            network.enqueue({name: m.pointer for name, m in memory.items()}, {"images": shape}, stream.handle)
            stream.synchronize()
            found = device.bytes_at(memory["output0"].pointer, memory["output0"].nbytes).view(np.float32)
            np.testing.assert_array_equal(found.reshape(made["output0"]), reference.run(images)["detections"])
            for m in memory.values():
                m.free()
        assert newest.contexts_made == 2  # one for each shape: a graph captured for a shape stays valid
        network.forget({"images": (1, 3, 96, 128)})
        assert newest.alive["context"] == 1
        stream.close()
        with pytest.raises(ParameterError, match="output1 has no address"):
            network.enqueue({"images": 1, "output0": 2}, {"images": (2, 3, 64, 64)}, 1)
    assert freed(newest) and newest.violations == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_clones_are_closed_in_any_order(newest: World, plan: Path, order: tuple[int, ...]) -> None:
    first = open_plan(newest, plan)
    networks = [first, first.clone(), first.clone()]
    for network in networks:
        network.run({"images": photo((1, 3, 64, 64))}, ["output0"])
    assert newest.alive == {"runtime": 1, "engine": 1, "context": 3}
    for count, i in enumerate(order):
        networks[i].close()
        networks[i].close()
        assert newest.alive["engine"] == (count < 2)
    assert freed(newest) and newest.violations == []
    for call in (lambda: first.run({"images": photo((1, 3, 64, 64))}, []), first.clone, first.layer_information):
        with pytest.raises(ModelError, match="is closed"):
            call()


def test_many_threads_on_one_network_and_on_clones(newest: World, plan: Path, demo_onnx: Path) -> None:
    first = open_plan(newest, plan)
    networks = [first, first, first.clone(), first.clone()]
    shapes = [(1, 3, 64, 64), (2, 3, 64, 96), (1, 3, 96, 128)]
    with open_engine(demo_onnx) as reference:
        wanted = {s: reference.run(photo(s))["detections"] for s in shapes}
    wrong: list[Any] = []

    def work(network: Any, turn: int) -> None:
        try:
            for i in range(12):
                shape = shapes[(i + turn) % len(shapes)]
                found = network.run({"images": photo(shape)}, ["output0"])[0]
                wrong.extend([shape] * (not np.array_equal(found, wanted[shape])))
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=work, args=(network, i)) for i, network in enumerate(networks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for network in networks:
        network.close()
    assert not wrong
    assert freed(newest) and newest.violations == []


def test_nothing_grows(newest: World, plan: Path) -> None:
    with open_plan(newest, plan) as network:
        shapes = [(1, 3, 64 + 32 * (i % 3), 64 + 32 * (i // 3)) for i in range(12)]
        for shape in shapes:
            network.run({"images": photo(shape)}, ["output0"])
        assert newest.alive["context"] <= 8
        blocks = len(newest.device.live)
        for shape in shapes:
            network.run({"images": photo(shape)}, ["output0"])
        assert len(newest.device.live) == blocks
    assert freed(newest)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("Runtime.deserialize_cuda_engine", "does not take the plan .*was made to fail .*build it again here"),
        ("ICudaEngine.create_execution_context", "no execution context: .*was made to fail"),
        ("IExecutionContext.set_optimization_profile_async", "profile 1: .*was made to fail"),
        ("IExecutionContext.set_input_shape", "input images .*was made to fail"),
        ("IExecutionContext.set_tensor_address", "images: .*was made to fail"),
        ("IExecutionContext.execute_async_v3", "did not run the plan: .*was made to fail"),
    ],
)
def test_what_fails_is_an_error_with_tensorrts_reason(newest: World, plan: Path, member: str, message: str) -> None:
    newest.fail = {member}
    with pytest.raises(FastSamError, match=message):  # noqa: SIM117 opening may fail, or running
        with open_plan(newest, plan) as network:
            network.run({"images": photo((1, 3, 96, 128))}, ["output0"])
    assert freed(newest) and newest.violations == []


def test_outputs_of_no_fixed_size_are_refused(newest: World, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = newest.module.IExecutionContext
    monkeypatch.setattr(context, "get_tensor_shape", lambda self, name: (1, -1, 4))
    with open_plan(newest, plan) as network, pytest.raises(ModelError, match="output0, output1 depend on what is in"):
        network.output_shapes({"images": (1, 3, 64, 64)})
    assert freed(newest)


@pytest.mark.parametrize(
    ("device", "settings", "kind", "message"),
    [
        ("cpu", {}, DeviceError, "runs on an NVIDIA GPU only; pass device='cuda'"),
        ("cuda:1", {}, DeviceError, "there is 1 device"),
        ("gpu", {}, DeviceError, "'cuda' or 'cuda:N'"),
        ("cuda", {"threads": 2}, ParameterError, "threads is 2; .*leave threads out"),
        ("cuda", {"hint": "throughput"}, ParameterError, "hint is 'throughput'"),
        ("cuda", {"cache": True}, ParameterError, "cache is True"),
        ("cuda", {"precision": "fp16"}, ParameterError, "precision 'fp16' asked, the plan's is fp32"),
    ],
)
def test_what_a_plan_does_not_have_is_refused(
    newest: World,
    plan: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    settings: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(registry, "import_module", lambda *_: newest.ours.network)
    for door in (open_network, open_device_network):
        with pytest.raises(kind, match=message):
            door(plan, EngineSettings(device, **settings))
    assert freed(newest)


def test_no_driver_is_an_error_before_tensorrt_is_asked(
    newest: World, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT's runtime without a driver is an object that crashes the process later."""

    def no_driver(number: int = 0) -> None:
        raise DeviceError("no driver")

    monkeypatch.setattr(newest.ours.network.Device, "open", no_driver)
    newest.uses.clear()
    with pytest.raises(DeviceError, match="no driver"):
        open_plan(newest, plan)
    assert not newest.uses


def of_another_version(world: World, plan: Path) -> None:
    content = bytearray(plan.read_bytes())
    content[24:28] = bytes([10, 3, 0, 26])
    plan.write_bytes(content)
    change(plan, plan_sha256=None)


def change(plan: Path, **values: Any) -> None:
    beside = plan.with_suffix(".json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **values}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(
            of_another_version,
            r"built by TensorRT 10\.3\.0\.26, here is 11\.4\.0\.106; .*engine fastsam-demo\.onnx --output",
            id="another TensorRT",
        ),
        pytest.param(
            lambda w, p: change(p, gpu="NVIDIA L4", compute_capability="9.0"),
            r"built on NVIDIA L4 \(compute capability 9\.0\), here is Test GPU \(8\.9\); .*--precision fp32",
            id="another GPU",
        ),
        pytest.param(lambda w, p: p.write_bytes(p.read_bytes()[:-9]), "is cut off: .* demo.json says", id="truncated"),
        pytest.param(lambda w, p: p.write_bytes(p.read_bytes()[:9]), "no whole plan", id="almost nothing"),
        pytest.param(lambda w, p: p.write_bytes(b""), "no TensorRT plan", id="empty"),
        pytest.param(
            lambda w, p: p.write_bytes(p.read_bytes()[:-1] + b"!"), "SHA-256 differ", id="another plan of this size"
        ),
        pytest.param(lambda w, p: p.write_bytes(b"\x08\x09ONNX" * 9), "begins with .*no TensorRT plan", id="no plan"),
        pytest.param(
            lambda w, p: p.with_suffix(".json").write_text("{}"), "expected the JSON that is written beside", id="JSON"
        ),
        pytest.param(
            lambda w, p: (p.with_suffix(".json").unlink(), p.write_bytes(p.read_bytes()[:-9])),
            "does not take the plan .*cut off",
            id="truncated, without JSON",
        ),
    ],
)
def test_a_plan_that_does_not_run_here(
    newest: World, plan: Path, spoil: Callable[[World, Path], Any], message: str
) -> None:
    spoil(newest, plan)
    with pytest.raises(ModelError, match=message):
        open_plan(newest, plan)
    assert freed(newest)


def test_a_version_compatible_plan_runs_in_a_later_version(world: World, demo_onnx: Path, tmp_path: Path) -> None:
    path = write_plan(world, demo_onnx, tmp_path / "demo.plan", BuildSettings(version_compatible=True))
    content = bytearray(path.read_bytes())
    content[24] -= 1  # an older major version
    path.write_bytes(content)
    change(path, plan_sha256=None)
    with open_plan(world, path) as network:
        assert network.run({"images": photo((1, 3, 64, 64))}, ["output1"])[0].shape == (1, 32, 16, 16)
    content[24] += 2
    path.write_bytes(content)
    with pytest.raises(ModelError, match="or a later one"):
        open_plan(world, path)


def test_a_hardware_compatible_plan_runs_on_another_gpu(newest: World, demo_onnx: Path, tmp_path: Path) -> None:
    path = write_plan(newest, demo_onnx, tmp_path / "demo.plan", BuildSettings(hardware_compatible=True))
    newest.device.compute_capability = (9, 0)
    open_plan(newest, path).close()
    newest.device.compute_capability = (7, 5)
    with pytest.raises(ModelError, match=r"here is Test GPU \(7\.5\)"):
        open_plan(newest, path)


def test_a_plan_of_ultralytics(newest: World, plan: Path) -> None:
    """Four bytes of length, JSON, plan (ultralytics' exporter); class numbers are text there."""
    names = {str(i): f"thing {i}" for i in range(12)}
    header = {"description": "x", "version": "8.4.190", "stride": 32, "task": "segment", "imgsz": [128, 160]}
    text = json.dumps({**header, "batch": 1, "names": {"0": "object"}, "args": {"half": False}}).encode()
    path = plan.with_name("yolo.engine")
    path.write_bytes(len(text).to_bytes(4, "little", signed=True) + text + plan.read_bytes())
    with SegmentationEngine(open_plan(newest, path)) as engine:
        assert engine.spec.class_names == ("object",)
        assert engine.spec.imgsz == 160
        assert engine.spec.tools == {"ultralytics": "8.4.190"}
        assert engine.run(photo((1, 3, 64, 64)))["prototypes"].shape == (1, 32, 16, 16)
    from fastsam_deploy.runtime.engines.tensorrt.plan_file import read_plan

    text = json.dumps({"names": names}).encode()
    path.write_bytes(len(text).to_bytes(4, "little") + text + plan.read_bytes())
    assert read_plan(path).metadata["names"].startswith("{0: 'thing 0', 1: 'thing 1', 2:")
    path.write_bytes(len(text).to_bytes(4, "little") + text)
    with pytest.raises(ModelError, match="cut off"):
        read_plan(path)
