"""Plans of TensorRT for RTX on the same engine, on the stand-in: flow, GPUs, cache of kernels, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.emulator.tensorrt.world import World

pytest.importorskip("onnx", reason="the stand-in needs it")

from fastsam_deploy.export.tensorrt.request import request_for
from fastsam_deploy.export.tensorrt.settings import BuildSettings
from fastsam_deploy.export.tensorrt.to_engine import build_engine, compare_plan
from fastsam_deploy.runtime.engines import open_device_network, open_engine
from fastsam_deploy.runtime.engines.segmentation import SegmentationEngine
from fastsam_deploy.runtime.errors import DeviceError, MissingDependencyError, ModelError, ParameterError
from fastsam_deploy.runtime.settings import EngineSettings

SHAPE = (1, 3, 96, 128)
PHOTO: NDArray[np.float32] = np.random.default_rng(0).random(SHAPE, np.float32)


@pytest.fixture
def plan(rtx: World, demo_onnx: Path, tmp_path: Path) -> Path:
    """An FP32 plan of the demo model for two kinds of GPUs; the stand-in's device is sm89."""
    shapes = ["1x64x64,1x96x128,2x128x160"]
    request = request_for(
        demo_onnx, tmp_path / "demo.rtx", precision="fp32", shapes=shapes, settings=BuildSettings(gpus=("sm86",
        "sm89")), device=None, library=rtx.library,
    )  # fmt: skip
    build_engine(request)
    assert not rtx.violations
    rtx.uses.clear()
    return request.output


def freed(world: World) -> bool:
    return not (+world.alive or world.device.live or world.device.streams or world.device.pinned_live)


def change(plan: Path, **values: Any) -> None:
    beside = plan.with_name(f"{plan.name}.json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **values}))


def test_it_gives_what_the_network_gives(rtx: World, plan: Path, demo_onnx: Path) -> None:
    with open_engine(demo_onnx) as reference:
        network = open_device_network(plan)
        with SegmentationEngine(network) as engine:  # type: ignore[arg-type]
            assert engine.spec.class_names == reference.spec.class_names
            made, expected = engine.run(PHOTO), reference.run(PHOTO)
            for name in expected:
                np.testing.assert_array_equal(made[name], expected[name])
            told = network.description  # type: ignore[attr-defined]
            assert (told["engine"], told["version"], told["precision"]) == ("tensorrt_rtx", "1.7.1.116", "fp32")
            assert "cache" not in told
            other = network.clone()
            other.close()
    assert {path.name for path in plan.parent.iterdir()} == {"demo.rtx", "demo.rtx.json"}
    assert freed(rtx) and rtx.violations == []


@pytest.mark.parametrize("capturable", [True, False])
def test_the_library_says_whether_a_stream_can_be_captured(rtx: World, plan: Path, capturable: bool) -> None:
    rtx.capturable = capturable
    network = open_device_network(plan)
    assert network.capturable is capturable
    network.close()
    assert freed(rtx) and rtx.violations == []


@pytest.mark.parametrize(
    ("capability", "message"),
    [
        ((12, 0), r"built for sm86, sm89, here is Test GPU \(sm120\); build one for it, .* --rtx --gpu sm120$"),
        ((9, 0), r"GPU \(sm90\) is none of the GPUs that TensorRT for RTX serves .*H100.* plans of TensorRT itself"),
        ((8, 7), r"\(sm87\) is none of .*Jetson"),
    ],
)
def test_the_gpu_is_checked_before_the_library_is_asked(
    rtx: World, plan: Path, capability: tuple[int, int], message: str
) -> None:
    rtx.device.compute_capability = capability
    with pytest.raises(ModelError, match=message):
        open_device_network(plan)
    assert not rtx.uses


def test_without_a_driver_it_is_our_error(rtx: World, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(number: int = 0) -> None:
        raise DeviceError("no driver")

    monkeypatch.setattr(rtx.ours.network.Device, "open", no_driver)
    with pytest.raises(DeviceError, match="no driver"):
        open_device_network(plan)
    assert not rtx.uses


def test_without_the_library_the_error_says_what_to_install(
    rtx: World, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in rtx.library.modules:
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"demo\.rtx: .*pip install 'fastsam-deploy\[rtx\]'"):
        open_device_network(plan)


def of_another_version(plan: Path) -> None:
    content = plan.read_bytes()
    plan.write_bytes(content[:24] + bytes([1, 6, 1, 120]) + content[28:])
    change(plan, plan_sha256=None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(
            of_another_version,
            r"by TensorRT for RTX 1\.6\.1\.120, here is 1\.7\.1\.116; .*install tensorrt_rtx==1\.6\.1\.120, or build",
            id="another version",
        ),
        pytest.param(lambda plan: plan.write_bytes(plan.read_bytes()[:-9]), "is cut off: .* demo.rtx.json", id="cut"),
        pytest.param(
            lambda plan: plan.write_bytes(b"ftrt" + plan.read_bytes()[4:]),
            r"is a plan of TensorRT, and the suffix '\.rtx' is that of TensorRT for RTX; rename it to demo\.plan",
            id="a plan of the other library",
        ),
        pytest.param(
            lambda plan: plan.write_bytes(b"\x08\x09ONNX" * 9), r"no TensorRT for RTX plan .* --rtx$", id="no plan"
        ),
    ],
)
def test_a_plan_that_does_not_run_here(rtx: World, plan: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(plan)
    with pytest.raises(ModelError, match=message):
        open_device_network(plan)
    assert freed(rtx)


@pytest.mark.parametrize("member", ["Runtime.deserialize_cuda_engine", "ICudaEngine.create_execution_context"])
def test_what_fails_leaves_nothing(rtx: World, plan: Path, member: str) -> None:
    rtx.fail = {member}
    with pytest.raises((ModelError, DeviceError), match="was made to fail"):
        open_device_network(plan)
    assert freed(rtx) and rtx.violations == []


def caches(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.cache"))


def opened(plan: Path, cache: bool | str) -> Any:
    return open_device_network(plan, EngineSettings("cuda", cache=cache))


def test_compiled_kernels_are_kept_beside_the_plan(rtx: World, plan: Path) -> None:
    network = opened(plan, True)
    assert network.description["cache"] == "not there yet"
    other = network.clone()
    network.close()
    assert not caches(plan.parent)  # written by the last one, whole
    other.close()
    (file,) = caches(plan.parent)
    written = file.read_bytes()
    assert file.name.startswith("demo.rtx.tensorrt_rtx-") and b"kernels for SM89" in written
    with opened(plan, True) as again:
        assert again.description["cache"] == f"read: {file}"
    assert caches(plan.parent) == [file] and file.read_bytes() == written
    # Of another kind of GPU, and of another driver: files of their own.
    rtx.device.name = "Other GPU"
    opened(plan, True).close()
    rtx.device.driver_version = "13.9"
    opened(plan, True).close()
    assert len(caches(plan.parent)) == 3
    assert freed(rtx) and rtx.violations == []


def test_a_damaged_cache_counts_as_none_and_a_folder_is_taken(rtx: World, plan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    opened(plan, str(folder)).close()
    (file,) = caches(folder)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    network = opened(plan, str(folder))
    assert network.description["cache"] == "not there yet"
    network.close()
    assert file.read_bytes() == whole
    with pytest.raises(ParameterError, match="expected True or a folder that exists"):
        opened(plan, str(tmp_path / "absent"))
    assert freed(rtx)


def test_what_the_library_does_not_take_is_written_anew(
    rtx: World, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(plan, True).close()
    (file,) = caches(plan.parent)
    monkeypatch.setattr(rtx.module.IRuntimeCache, "deserialize", lambda self, content: False)
    network = opened(plan, True)
    assert network.description["cache"] == f"not taken by the library: {file}"
    network.close()
    assert freed(rtx)


def test_a_comparison_on_a_gpu_is_noted_in_the_json(
    rtx: World, plan: Path, demo_onnx: Path, coffee: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / coffee.name).write_bytes(coffee.read_bytes())
    beside = plan.with_name("demo.rtx.json")
    before = beside.read_text()
    rtx.noise = 0.2
    with pytest.raises(Exception, match="does not give what ONNX Runtime gives"):
        compare_plan(plan, demo_onnx, images=tmp_path / "images")
    assert beside.read_text() == before and "not compared on a GPU" in before
    rtx.noise = 0.0
    compared = compare_plan(plan, demo_onnx, images=tmp_path / "images")
    lines = json.loads(beside.read_text())["compared"]
    assert len(lines) == len(compared.findings) > 3 and all(line.startswith("Test GPU: ") for line in lines)
    open_device_network(plan).close()
    beside.unlink()
    with pytest.raises(ParameterError, match="has no JSON beside it"):
        compare_plan(plan, demo_onnx)
    assert freed(rtx) and rtx.violations == []
