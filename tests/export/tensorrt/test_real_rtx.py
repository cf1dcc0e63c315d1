"""Every kind of file that we write, read and built by NVIDIA's own code: the parser and the builder of TensorRT for
RTX.

They need no GPU. What is shown: NVIDIA's code takes the files, and the layers that it makes of them compute in the
precision of the file, every convolution. Not shown: numbers and speed, as nothing runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("onnx", reason="needs the extra [export]")

import onnx

from fastsam_deploy.export.cli.main import app
from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.export.graph.fp16 import computed_in_fp16
from fastsam_deploy.export.graph.suppression import with_suppression
from fastsam_deploy.export.quantize.graph import layers_of, tensors_to_calibrate, with_folded_weights, with_qdq
from fastsam_deploy.export.tensorrt.builder import plan_from_onnx
from fastsam_deploy.export.tensorrt.check import check_model
from fastsam_deploy.export.tensorrt.layers import LAYERS_IN_LOG, LayerTypes, layer_types, layers_from_log
from fastsam_deploy.export.tensorrt.precision import convolution_kinds
from fastsam_deploy.export.tensorrt.request import request_for
from fastsam_deploy.export.tensorrt.settings import BuildSettings
from fastsam_deploy.export.tensorrt.targets import check_graph
from fastsam_deploy.export.tensorrt.to_engine import build_engine
from fastsam_deploy.runtime.engines.tensorrt.library import TENSORRT_RTX
from fastsam_deploy.runtime.engines.tensorrt.log import tensorrt_log
from fastsam_deploy.runtime.engines.tensorrt.plan_file import read_plan
from fastsam_deploy.runtime.engines.tensorrt.record import NOT_COMPARED, ShapeRange
from fastsam_deploy.runtime.errors import ParameterError
from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec
from fastsam_deploy.runtime.suppression import Suppression

Graph = Any
ROOT = Path(__file__).resolve().parents[3]

ANY_SIZE = ShapeRange((1, 3, 32, 32), (4, 3, 640, 640), (4, 3, 640, 640))


def built(trt: Any, graph: Graph, profiles: dict[str, ShapeRange], *gpus: str) -> tuple[bytes, LayerTypes]:
    """A plan by our own builder, and what NVIDIA's logs of its layers."""
    log = tensorrt_log(trt)
    ranges = {name: (shapes,) for name, shapes in profiles.items()}
    with log.recorded(LAYERS_IN_LOG) as logged:
        plan = plan_from_onnx(trt, graph.SerializeToString(), "m.onnx", ranges, BuildSettings(gpus=gpus), log)
    return plan, layer_types(layers_from_log(logged))


def spec_of(graph: Graph) -> ModelSpec:
    return ModelSpec.from_json(next(e.value for e in graph.metadata_props if e.key == METADATA_KEY))


def fixed(graph: Graph) -> Graph:
    """The same with one input shape."""
    for side, dim in zip((1, 3, 480, 640), graph.graph.input[0].type.tensor_type.shape.dim, strict=True):
        dim.ClearField("dim_param")
        dim.dim_value = side
    return graph


def suppressed(graph: Graph) -> Graph:
    return with_suppression(graph, spec_of(graph), Suppression(0.001, 0.9, 300))


def int8(graph: Graph, target: str, half: bool) -> Graph:
    """As `fastsam-export quantize` makes it, with ranges out of the air: the graph is the same."""
    plain = with_folded_weights(graph)
    layers = [layer for layer in layers_of(plain) if not layer.kept]
    ranges = dict.fromkeys(tensors_to_calibrate(plain, layers, target), (-2.0, 2.5))
    return with_qdq(plain, layers, ranges, target, half=half)


@pytest.mark.parametrize("gpu", ["sm86", "sm120"])
@pytest.mark.parametrize(
    ("change", "profiles"),
    [
        pytest.param(lambda graph: graph, {"images": ANY_SIZE}, id="FP32"),
        pytest.param(fixed, {}, id="FP32, one shape"),
        pytest.param(computed_in_fp16, {"images": ANY_SIZE}, id="FP16"),
        pytest.param(lambda graph: computed_in_fp16(fixed(graph)), {}, id="FP16, one shape"),
        pytest.param(lambda graph: int8(graph, "tensorrt", True), {"images": ANY_SIZE}, id="INT8 and FP16"),
        pytest.param(lambda graph: int8(graph, "tensorrt", False), {"images": ANY_SIZE}, id="INT8 and FP32"),
    ],
)
def test_every_convolution_has_the_type_of_the_file(
    real_rtx: Any, demo_onnx: Path, change: Callable[[Graph], Graph], profiles: dict[str, ShapeRange], gpu: str
) -> None:
    graph = change(onnx.load(demo_onnx))
    asked = Counter(convolution_kinds(graph))
    plan, types = built(real_rtx, graph, profiles, gpu)
    assert types.convolutions == asked and sum(asked.values()) == 77
    assert plan[:4] == TENSORRT_RTX.tag
    assert ".".join(map(str, plan[24:28])) == real_rtx.__version__


@pytest.mark.parametrize("decoded", [True, False])
def test_a_file_exported_without_pytorch(real_rtx: Any, demo_checkpoint: Path, decoded: bool, tmp_path: Path) -> None:
    """Its numbers had one axis where Range takes none: ONNX Runtime took that, NVIDIA's parser did not."""
    from fastsam_deploy.export.direct.to_onnx import export_direct

    graph = onnx.load(export_direct(demo_checkpoint, tmp_path / "m.onnx", imgsz=320, decoded=decoded).path)
    _, types = built(real_rtx, graph, {"images": ANY_SIZE}, "sm86")
    assert types.convolutions == {"fp32": 77 if decoded else 76}, "the mean of a distribution is a convolution, too"


@pytest.mark.parametrize("gpu", ["sm75", "sm86", "sm120"])
@pytest.mark.parametrize(("name", "shape"), [("image", (3, 64, 64)), ("text", (24,))])
def test_clip_in_fp16(real_rtx: Any, name: str, shape: tuple[int, ...], gpu: str) -> None:
    from fastsam_deploy.export.clip.fp16 import halved

    graph = onnx.load(Path(__file__).parents[2] / f"data/clip-tiny/{name}.onnx")
    profile = ShapeRange((1, *shape), (1, *shape), (8, *shape))
    _, types = built(real_rtx, halved(graph), {graph.graph.input[0].name: profile}, gpu)
    assert types.deciding.get("fp16", 0) > 0.9 * sum(types.deciding.values())


@pytest.mark.parametrize(
    ("change", "gpu", "ours", "nvidias"),
    [
        pytest.param(suppressed, "sm86", "has NMS inside, .* without --nms", "NonMaxSuppr.* has no runners", id="NMS"),
        pytest.param(
            lambda graph: int8(graph, "cpu", False),
            "sm86",
            "is quantized for processors .* without --target cpu",
            "does not support it: node .*QuantizeLinear.*: Non-zero zero point",
            id="INT8 for processors",
        ),
    ],
)
def test_what_we_refuse_nvidias_code_refuses_too(
    real_rtx: Any, demo_onnx: Path, change: Callable[[Graph], Graph], gpu: str, ours: str, nvidias: str
) -> None:
    graph = change(onnx.load(demo_onnx))
    with pytest.raises(ParameterError, match=f"m.onnx: {ours}"):
        check_graph(graph, "m.onnx", TENSORRT_RTX, (gpu,), "fp32")
    with pytest.raises(ExportError, match=nvidias):
        built(real_rtx, graph, {"images": ANY_SIZE}, gpu)


def test_int8_on_turing_is_refused_because_nothing_is_int8_there(real_rtx: Any, demo_onnx: Path) -> None:
    graph = int8(onnx.load(demo_onnx), "tensorrt", True)
    with pytest.raises(ParameterError, match=r"INT8 for sm75, .* --precision fp16"):
        check_graph(graph, "m.onnx", TENSORRT_RTX, ("sm75",), "int8")
    for gpus in (("sm75",), ("sm75", "sm86")):  # why sm75 stands alone
        _, types = built(real_rtx, graph, {"images": ANY_SIZE}, *gpus)
        assert "int8" not in types.convolutions
    _, types = built(real_rtx, graph, {"images": ANY_SIZE}, "sm86")
    assert types.convolutions["int8"] == convolution_kinds(graph).count("int8") > 50


def test_fp32_products_on_turing(real_rtx: Any) -> None:
    graph = onnx.load(Path(__file__).parents[2] / "data/clip-tiny/text.onnx")
    with pytest.raises(ParameterError, match=r"FP32 matrix products \(node_MatMul.*\), .* on sm75; .* FP16"):
        check_graph(graph, "text.onnx", TENSORRT_RTX, ("sm75",), "fp32")
    profile = ShapeRange((1, 24), (1, 24), (8, 24))
    with pytest.raises(ExportError, match="FP32 GEMM is not supported"):
        built(real_rtx, graph, {"tokens": profile}, "sm75")
    built(real_rtx, graph, {"tokens": profile}, "sm86")


def test_why_fp16_is_recommended(real_rtx: Any, demo_onnx: Path) -> None:
    """FP16 convolutions are fused with SiLU, INT8 ones with nothing: they end in FP32, and SiLU is another kernel.

    If this fails, a new version fuses them: measure INT8 again, and change docs/tensorrt.md.
    """
    counts = {}
    for name, graph in (
        ("fp16", computed_in_fp16(onnx.load(demo_onnx))),
        ("int8", int8(onnx.load(demo_onnx), "tensorrt", True)),
    ):
        log = tensorrt_log(real_rtx)
        with log.recorded(LAYERS_IN_LOG) as logged:
            profiles = {"images": (ANY_SIZE,)}
            settings, content = BuildSettings(gpus=("sm89",)), graph.SerializeToString()
            plan_from_onnx(real_rtx, content, "m.onnx", profiles, settings, log)
        layers = layers_from_log(logged)
        convolutions = [layer for layer in layers if layer.is_convolution and layer.narrowest == name]
        ends = Counter(layer.line.split("\t")[3].partition(" ")[0] for layer in convolutions)
        counts[name] = len(layers), sum("Silu" in layer.name for layer in convolutions), dict(ends)
    assert counts == {"fp16": (110, 63, {"fp16": 75}), "int8": (155, 0, {"fp32": 60})}


def test_a_list_of_gpus_costs_nothing_and_profiles_do(real_rtx: Any, demo_onnx: Path) -> None:
    graph = computed_in_fp16(onnx.load(demo_onnx))
    alone, _ = built(real_rtx, graph, {"images": ANY_SIZE}, "sm86")
    listed, _ = built(real_rtx, graph, {"images": ANY_SIZE}, "sm86", "sm89", "sm120")
    assert len(listed) < 1.01 * len(alone)
    log, content = tensorrt_log(real_rtx), graph.SerializeToString()
    three = plan_from_onnx(real_rtx, content, "m.onnx", {"images": (ANY_SIZE,) * 3}, BuildSettings(gpus=("sm86",)), log)
    assert len(three) > 1.5 * len(alone)


@pytest.mark.parametrize("precision", [None, "fp32"])
def test_a_build_writes_a_plan_and_what_is_known_of_it(
    real_rtx: Any, demo_onnx: Path, tmp_path: Path, precision: str | None
) -> None:
    target, gpus = tmp_path / "demo.rtx", ("sm86", "sm89", "sm120")
    request = request_for(
        demo_onnx, target, precision=precision, settings=BuildSettings(gpus=gpus), library=TENSORRT_RTX, device=None
    )
    assert len(request.profiles) == 1
    plan = build_engine(request)
    assert {path.name for path in tmp_path.iterdir()} == {"demo.rtx", "demo.rtx.json"}
    file = read_plan(target)
    record = file.record
    assert record is not None and file.version == record.tensorrt == real_rtx.__version__
    held = precision or "fp16"  # by default
    assert (record.spec.precision, record.gpus, record.gpu) == (held, gpus, None)
    assert record.compared == (NOT_COMPARED,) and record.confirmed == str(plan.layers)
    assert plan.layers is not None
    assert plan.layers.convolutions == ({"fp16": 75, "fp32": 2} if held == "fp16" else {"fp32": 77})
    assert record.command is not None and record.command.endswith("--rtx --gpu sm86,sm89,sm120")
    kinds = Counter(line.partition("\t")[0] for line in record.layers)
    assert kinds["runtime_fusion"] == 65 and kinds["deconv"] == 1


def test_a_plan_in_another_precision_than_asked_is_not_written(
    real_rtx: Any, demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the layers really reads NVIDIA's log: an FP32 graph in the place of the FP16 one is found."""
    monkeypatch.setattr("fastsam_deploy.export.tensorrt.precision.computed_in_fp16", lambda graph: graph)
    monkeypatch.setattr("fastsam_deploy.export.tensorrt.precision.convolution_share", lambda *_: 1.0)
    request = request_for(
        demo_onnx, tmp_path / "m.rtx", settings=BuildSettings(gpus=("sm86",)), library=TENSORRT_RTX, device=None
    )
    with pytest.raises(ExportError, match="asked for fp16, TensorRT built convolutions: 77 fp32"):
        build_engine(request)
    assert not list(tmp_path.iterdir())


def test_the_check_of_any_file(real_rtx: Any, demo_onnx: Path, tmp_path: Path) -> None:
    whole = check_model(demo_onnx)
    assert [verdict.gpu for verdict in whole.verdicts] == list(TENSORRT_RTX.gpus)
    assert all(verdict.is_taken and verdict.layers.convolutions == {"fp32": 77} for verdict in whole.verdicts)
    assert check_model(demo_onnx, "sm89", precision="fp16").precision == "fp16"
    graph = onnx.load(demo_onnx)
    last = graph.graph.node[-1]
    wanted, last.output[0] = last.output[0], "before"
    make = onnx.helper.make_node
    graph.graph.node.extend(
        [make("OddOne", ["before"], ["mid"], "the/odd/one"), make("OddTwo", ["mid"], [wanted], "the/odd/two")]
    )
    onnx.save(graph, tmp_path / "odd.onnx")
    (verdict,) = check_model(tmp_path / "odd.onnx", "sm86").verdicts
    assert "node 499 'the/odd/one' (OddOne)" in verdict.reason  # the first, from NVIDIA's parser
    assert "'the/odd/two' (OddTwo)" in verdict.reason  # and all others whose operator it does not know


def test_the_commands(real_rtx: Any, demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["engine", *arguments], catch_exceptions=True)
        return done.exit_code, done.output

    code, text = run(str(demo_onnx), "--rtx", "--gpu", "sm86,8.9", "-o", "m.rtx")
    assert code == 0, text
    assert "TensorRT for RTX 1.7" in text and "sm86, sm89" in text and "75 fp16, 2 fp32" in text
    assert "not compared on a GPU" in text and "--compare m.rtx" in text
    assert json.loads(Path("m.rtx.json").read_text())["gpus"] == ["sm86", "sm89"]
    code, text = run("--layers", "m.rtx")
    assert code == 0
    assert len(text.splitlines()) > 100 and any(
        "Corr" in line and "fp16 ?x16x?x?" in line for line in text.splitlines()
    )
    code, text = run("--check", str(demo_onnx), "--gpu", "sm120")
    assert code == 0 and "sm120: 17." in text
    onnx.save(suppressed(onnx.load(demo_onnx)), "nms.onnx")
    code, text = run("--check", "nms.onnx", "--gpu", "sm120")
    assert code == 1 and "sm120: refused: has NMS inside" in text


def test_the_script(bindings: Callable[[str], Path], demo_onnx: Path, tmp_path: Path) -> None:
    """In a process that has the wheels on its path, as after pip install."""
    script = str(ROOT / "scripts/onnx2trt.sh")
    path = os.pathsep.join([str(bindings("rtx-1.7")), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": path}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", script, *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    (tmp_path / "demo.onnx").write_bytes(demo_onnx.read_bytes())
    done = run("--onnx", "demo.onnx", "--rtx", "--gpu", "sm89")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("demo.rtx: fp16, ") and (tmp_path / "demo.rtx.json").is_file()
    done = run("--check", "demo.onnx", "--gpu", "sm89")
    assert done.returncode == 0 and "sm89: 17." in done.stdout, done.stderr
    done = run("demo.onnx", "--rtx", "--gpu", "sm90")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "none of the GPUs" in done.stderr
