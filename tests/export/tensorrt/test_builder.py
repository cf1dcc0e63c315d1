"""`fastsam-export engine`: what is asked of TensorRT, what is written, and that a failure leaves nothing.

TensorRT is the stand-in of trt_world.py: this shows flow and errors, no number of TensorRT's.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.emulator.tensorrt.world import World

pytest.importorskip("onnx", reason="needs the extra [export]")

from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.export.tensorrt.request import request_for
from fastsam_deploy.export.tensorrt.settings import BuildSettings
from fastsam_deploy.export.tensorrt.to_engine import Plan, build_engine
from fastsam_deploy.runtime.engines.tensorrt.plan_file import read_plan
from fastsam_deploy.runtime.engines.tensorrt.record import PlanRecord
from fastsam_deploy.runtime.errors import FastSamError, ParameterError

SHAPES = ["1x96x128,1x128x128,2x160x160"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, coffee: Path) -> Path:
    """A folder with one photograph: the comparison is quick."""
    folder = tmp_path_factory.mktemp("images")
    (folder / coffee.name).write_bytes(coffee.read_bytes())
    return folder


def build(model: Path, output: Path, images: Path, **settings: Any) -> Plan:
    settings.setdefault("shapes", SHAPES)
    return build_engine(request_for(model, output, **settings), images)


def told(plan: Path) -> dict[str, Any]:
    """What the stand-in wrote into a plan: how it was asked to build."""
    content = plan.read_bytes()
    found: dict[str, Any] = json.loads(content[44 : 44 + int.from_bytes(content[28:36], "little")])
    return found


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_plan_is_built_confirmed_compared_and_written(
    world: World, demo_onnx: Path, tmp_path: Path, images: Path, precision: str
) -> None:
    target = tmp_path / "demo.plan"
    plan = build(demo_onnx, target, images, precision=precision)
    assert files(tmp_path) == {"demo.plan", "demo.json"}
    assert world.violations == []
    assert not +world.alive  # runtime, engine and contexts are freed
    assert not world.device.live and not world.device.streams and not world.device.pinned_live
    assert {finding.what for finding in plan.findings} >= {"boxes (px)", "scores", "mask IoU, mean"}
    assert plan.layers is not None and plan.layers.convolutions[precision] > 10

    record = json.loads((tmp_path / "demo.json").read_text())
    assert record["spec"]["precision"] == precision
    assert record["profile"] == {"min": [1, 3, 96, 128], "opt": [1, 3, 128, 128], "max": [2, 3, 160, 160]}
    assert record["plan_sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert (record["tensorrt"], record["gpu"], record["compute_capability"]) == (
        world.api["version"],
        "Test GPU",
        "8.9",
    )
    assert len(record["compared"]) == len(plan.findings)
    assert f"--precision {precision} --shapes 1x96x128,1x128x128,2x160x160" in record["command"]

    asked = told(target)
    assert asked["verbosity"] == "DETAILED"
    assert "TF32" not in asked["flags"]  # FP32 means FP32
    assert asked["profiles"] == [{"images": [[1, 3, 96, 128], [1, 3, 128, 128], [2, 3, 160, 160]]}]

    content = target.read_bytes()
    graph = onnx.load_from_string(content[44 + int.from_bytes(content[28:36], "little") :]).graph
    assert {i.type.tensor_type.elem_type for i in (*graph.input, *graph.output)} == {onnx.TensorProto.FLOAT}


def test_settings_reach_tensorrt(newest: World, demo_onnx: Path, tmp_path: Path, images: Path) -> None:
    cache = tmp_path / "timings"
    settings = BuildSettings(1.5, cache, True, True, 5, True)
    build(demo_onnx, tmp_path / "demo.plan", images, settings=settings)
    asked = told(tmp_path / "demo.plan")
    assert set(asked["flags"]) == {"TF32", "VERSION_COMPATIBLE"}
    assert asked["pools"] == {"WORKSPACE": 3 << 29}
    assert (asked["ampere"], asked["level"]) == (True, 5)
    assert cache.read_bytes() == b" timed"
    record = PlanRecord.from_json((tmp_path / "demo.json").read_text(), "demo.json")
    assert (record.version_compatible, record.hardware_compatible) == (True, "ampere_plus")
    assert record.command is not None
    assert record.command.endswith(
        "--workspace 1.5 --version-compatible --hardware-compatible --optimization-level 5 --tf32"
    )
    assert newest.violations == []


def test_a_timing_cache_is_read_and_written_again(newest: World, demo_onnx: Path, tmp_path: Path, images: Path) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(b"known,")
    build(demo_onnx, tmp_path / "demo.plan", images, settings=BuildSettings(timing_cache=cache))
    assert cache.read_bytes() == b"known, timed"


def test_a_timing_cache_of_another_gpu_is_refused(newest: World, demo_onnx: Path, tmp_path: Path, images: Path) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(b"another GPU")
    with pytest.raises(ParameterError, match=r"timing cache .* give another file"):
        build(demo_onnx, tmp_path / "demo.plan", images, settings=BuildSettings(timing_cache=cache))
    assert files(tmp_path) == {"timings"}
    assert cache.read_bytes() == b"another GPU"


def test_a_model_of_one_shape_needs_no_profile(newest: World, demo_onnx: Path, tmp_path: Path, images: Path) -> None:
    model = fixed(demo_onnx, tmp_path / "fixed.onnx", (1, 3, 128, 160))
    build(model, tmp_path / "demo.plan", images, shapes=[])
    assert told(tmp_path / "demo.plan")["profiles"] == []
    record = read_plan(tmp_path / "demo.plan").record
    assert record is not None
    assert (record.spec.batch, record.spec.size_hw) == (1, (128, 160))


def fixed(model: Path, target: Path, shape: tuple[int, ...]) -> Path:
    """The demo model with one input shape."""
    graph = onnx.load(model)
    for side, dim in zip(shape, graph.graph.input[0].type.tensor_type.shape.dim, strict=True):
        dim.ClearField("dim_param")
        dim.dim_value = side
    for output in graph.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.ClearField("dim_param") if not dim.HasField("dim_value") else None
    onnx.save(graph, target)
    return target


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        pytest.param({"noise": 0.2}, "does not give what ONNX Runtime gives: .*scores", id="other numbers"),
        pytest.param({"noise": float("nan")}, "NaN or infinite", id="no numbers"),
        pytest.param({"told_type": "HALF"}, "asked for fp32, TensorRT built .*fp16", id="another precision"),
        pytest.param(
            {"fail": {"Builder.build_serialized_network"}}, "built no plan: .*was made to fail", id="nothing built"
        ),
        pytest.param(
            {"fail": {"IBuilderConfig.add_optimization_profile"}}, "does not accept the shapes", id="profile refused"
        ),
        pytest.param(
            {"fail": {"Runtime.deserialize_cuda_engine"}}, "does not take the plan .*made to fail", id="plan refused"
        ),
        pytest.param({"fail": {"IExecutionContext.execute_async_v3"}}, "did not run the plan", id="run fails"),
    ],
)
def test_a_failure_leaves_what_was_there(
    newest: World, demo_onnx: Path, tmp_path: Path, images: Path, break_it: dict[str, Any], message: str
) -> None:
    (tmp_path / "demo.plan").write_bytes(b"an older plan")
    for name, value in break_it.items():
        setattr(newest, name, value)
    with pytest.raises(FastSamError, match=message):
        build(demo_onnx, tmp_path / "demo.plan", images, precision="fp32")
    assert files(tmp_path) == {"demo.plan"}
    assert (tmp_path / "demo.plan").read_bytes() == b"an older plan"
    assert newest.violations == []
    assert not +newest.alive and not newest.device.live


def test_fp16_that_became_fp32_is_found(world: World, demo_onnx: Path, tmp_path: Path, images: Path) -> None:
    world.told_type = "FLOAT"
    with pytest.raises(ExportError, match=r"asked for fp16, TensorRT built convolutions: .* fp32"):
        build(demo_onnx, tmp_path / "demo.plan", images, precision="fp16")
    assert files(tmp_path) == set()


def test_what_the_parser_does_not_take_is_named(world: World, demo_onnx: Path, tmp_path: Path, images: Path) -> None:
    graph = onnx.load(demo_onnx)
    # Celu is in ONNX Runtime, and not in the list of what the stand-in's parser takes.
    last = graph.graph.node[-1]
    wanted = last.output[0]
    last.output[0] = "before"
    graph.graph.node.append(onnx.helper.make_node("Celu", ["before"], [wanted], "the/odd/one"))
    onnx.save(graph, tmp_path / "odd.onnx")
    with pytest.raises(ExportError, match=r"odd\.onnx: .*'the/odd/one' \(Celu\): Plugin not found"):
        build(tmp_path / "odd.onnx", tmp_path / "odd.plan", images)
    assert files(tmp_path) == {"odd.onnx"}


def test_without_tensorrt_the_error_says_what_to_install(
    demo_onnx: Path, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(FastSamError, match=r"fastsam-deploy\[trt\].*--trtexec --run"):
        build(demo_onnx, tmp_path / "demo.plan", images)
    assert files(tmp_path) == set()


def test_int8_is_calibrated_on_the_photographs(
    newest: World, demo_onnx: Path, tmp_path: Path, images: Path, coffee: Path
) -> None:
    target = tmp_path / "demo.plan"
    plan = build(
        demo_onnx, target, images, precision="int8", calibration=coffee.parent, shapes=["1x256x256,1x256x256,1x256x256"]
    )
    assert files(tmp_path) == {"demo.plan", "demo.json"}
    assert plan.record.spec.precision == "int8"
    assert plan.layers is not None and plan.layers.convolutions["int8"] > 10
    assert {finding.what for finding in plan.findings} == {
        *("scores", "coefficients (share)", "prototypes (share)"),
        *("mask IoU, mean", "missing detections (share)", "additional detections (share)"),
    }
    assert plan.record.command is not None and f"--calibration {coffee.parent.name}" in plan.record.command


def test_a_graph_with_nms_is_compared_by_its_detections(
    newest: World, demo_onnx: Path, tmp_path: Path, images: Path
) -> None:
    from fastsam_deploy.export.graph.suppression import spec_with_suppression, with_suppression
    from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec
    from fastsam_deploy.runtime.suppression import Suppression

    graph, suppression = onnx.load(demo_onnx), Suppression(0.01, 0.8, 50)
    spec = ModelSpec.from_json(next(e.value for e in graph.metadata_props if e.key == METADATA_KEY))
    graph = with_suppression(graph, spec, suppression)
    onnx.helper.set_model_props(graph, {METADATA_KEY: spec_with_suppression(spec, suppression).to_json()})
    onnx.save(graph, tmp_path / "nms.onnx")
    plan = build(tmp_path / "nms.onnx", tmp_path / "nms.plan", images)
    assert plan.record.spec.suppression == suppression
    assert {finding.what for finding in plan.findings} == {
        *("prototypes (share)", "same detections (share)"),
        *("mask IoU, mean", "missing detections (share)", "additional detections (share)"),
    }
    assert newest.violations == []
