"""Model repositories: what is in their configurations, and what is refused. Real servers are in tests/triton_models."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")
pytest.importorskip("tritonclient.grpc", reason="needs the extra [triton]: tritonclient is not installed")

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as protocol
from typer.testing import CliRunner

from fastsam_deploy.export.cli.main import app
from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.export.triton import to_triton
from fastsam_deploy.export.triton.configs import MODELS, Serving, config_of
from fastsam_deploy.export.triton.to_triton import build_repository, warmup_image
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.engines.tensorrt.library import TENSORRT_RTX
from fastsam_deploy.runtime.errors import ModelError, ParameterError
from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec
from fastsam_deploy.runtime.wire.question import Limits
from scripts.dev import make_triton_configs

ROOT = Path(__file__).resolve().parents[3]
PLAN = b"ftrt" + bytes(20) + bytes([10, 16, 1, 11]) + b"what TensorRT makes of a network"
GPU = Serving("tensorrt", "gpu", 640, rect=False)
CPU = Serving("onnxruntime", "cpu", 640, rect=True)
SPECS = {
    "dynamic": ModelSpec(imgsz=640),
    "80 classes": ModelSpec(imgsz=640, class_names=tuple(f"thing {i}" for i in range(80))),
    "NMS inside": ModelSpec(imgsz=640, layout="nms", detections="found", prototypes="protos"),
    "FP16 input": ModelSpec(imgsz=640, input_dtype="float16", input="image"),
    "fixed": ModelSpec(imgsz=1024, size_hw=(640, 1024)),
    "half fixed": ModelSpec(imgsz=640, size_hw=(None, 640)),
    "16 prototypes": ModelSpec(imgsz=640, mask_dim=16),
}


def _parsed(text: str | bytes) -> Any:
    """As Triton reads it: unknown fields and wrong types are errors."""
    return text_format.Parse(text, protocol.ModelConfig())


def _dims(tensors: Any) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in tensors}


def _texts(config: Any) -> dict[str, str]:
    return {name: value.string_value for name, value in config.parameters.items()}


@pytest.fixture
def changed_onnx(demo_onnx: Path, tmp_path: Path) -> Callable[..., Path]:
    """The demo model with some dimensions of its input fixed: {index: size}."""

    def make(sides: dict[int, int], name: str = "changed.onnx") -> Path:
        model = onnx.load(demo_onnx)
        for index, side in sides.items():
            model.graph.input[0].type.tensor_type.shape.dim[index].dim_value = side
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def plan(tmp_path: Path, demo_onnx: Path) -> Callable[..., Path]:
    """A file of this name with a JSON beside it; its content is TensorRT's business."""

    def make(low: list[int], best: list[int], high: list[int], **spec: Any) -> Path:
        with open_engine(demo_onnx) as engine:
            found = asdict(replace(engine.spec, **spec))
        (tmp_path / "m.plan").write_bytes(PLAN)
        profile = {"min": low, "opt": best, "max": high}
        (tmp_path / "m.json").write_text(json.dumps({"spec": found, "profile": profile}))
        return tmp_path / "m.plan"

    return make


def test_the_committed_configurations_are_those_that_are_made_now():
    """If this fails: python scripts/dev/make_triton_configs.py."""
    made = make_triton_configs.files()
    for name, content in made.items():
        assert (ROOT / "triton_models" / name).read_bytes() == content, name
    committed = {str(path.relative_to(ROOT / "triton_models")) for path in (ROOT / "triton_models").rglob("*.pbtxt")}
    assert committed == {name for name in made if name.endswith(".pbtxt")}


@pytest.mark.parametrize("path", sorted((ROOT / "triton_models").rglob("*.pbtxt")), ids=lambda path: str(path)[-60:])
def test_a_committed_configuration_is_one(path: Path):
    config = _parsed(path.read_text(encoding="utf-8"))
    model = path.relative_to(ROOT / "triton_models").parts[0]
    assert config.name == model
    assert config.max_batch_size == 8


@pytest.mark.parametrize("variant", ["", "onnxruntime", "cpu"])
def test_the_models_of_a_committed_variant_agree(variant: str):
    """Triton takes config.pbtxt for a model that has no file of the name: those must fit the others too."""
    agreed = set()
    for model in MODELS:
        own = ROOT / "triton_models" / model / f"configs/{variant}.pbtxt"
        file = own if own.is_file() else ROOT / "triton_models" / model / "config.pbtxt"
        config = _parsed(file.read_text(encoding="utf-8"))
        texts = _texts(config)
        if model == "fastsam_engine":
            height, width = _dims(config.input)["images"][1:]
            agreed.add(("true" if height < 0 else "false", "1024"))
            assert width in (-1, 1024)
        else:
            agreed.add((texts["rect"], texts["imgsz"]))
    assert len(agreed) == 1, agreed


@pytest.mark.parametrize("serving", [GPU, CPU, replace(GPU, engine="onnxruntime"), replace(CPU, cache=True)], ids=str)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("model", MODELS)
def test_every_configuration_is_one(model: str, spec: ModelSpec, serving: Serving):
    config = _parsed(config_of(model, spec, serving))
    assert config.name == model
    assert config.max_batch_size == serving.max_batch


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_tensors_follow_from_the_network(spec: ModelSpec):
    for serving in (GPU, CPU):
        sides = list(spec.fixed_hw or ((-1, -1) if serving.rect else (640, 640)))
        quarter = [side if side < 0 else side // 4 for side in sides]
        columns = 4 + spec.class_count + spec.mask_dim
        detections = [columns, -1] if spec.layout == "raw" else [-1, 6 + spec.mask_dim]
        outputs = {spec.detections: detections, spec.prototypes: [spec.mask_dim, *quarter]}
        engine = _parsed(config_of("fastsam_engine", spec, serving))
        before = _parsed(config_of("fastsam_preprocess", spec, serving))
        after = _parsed(config_of("fastsam_postprocess", spec, serving))
        assert _dims(engine.input) == {spec.input: [3, *sides]}
        assert _dims(before.output)[spec.input] == [3, *sides]
        assert _dims(engine.output) == outputs
        assert {name: _dims(after.input)[name] for name in outputs} == outputs
        kind = protocol.TYPE_FP16 if spec.input_dtype == "float16" else protocol.TYPE_FP32
        assert {engine.input[0].data_type, before.output[0].data_type} == {kind}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_ensemble_connects_what_is_there(spec: ModelSpec):
    """Names and types on both ends of each connection; what may be left out may be so on both."""
    configs = {model: _parsed(config_of(model, spec, CPU)) for model in MODELS}
    ensemble = configs["fastsam"]
    known = {tensor.name: (tensor.data_type, tensor.optional) for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        part = configs[step.model_name]
        inputs = {tensor.name: tensor for tensor in part.input}
        assert set(step.input_map) == set(inputs)
        for theirs, ours in step.input_map.items():
            kind, optional = known[ours]
            assert inputs[theirs].data_type == kind
            assert inputs[theirs].optional == optional
        outputs = {tensor.name: tensor for tensor in part.output}
        assert set(step.output_map) == set(outputs)
        known |= {ours: (outputs[theirs].data_type, False) for theirs, ours in step.output_map.items()}
    for tensor in ensemble.output:
        assert known[tensor.name] == (tensor.data_type, False)
    assert _dims(ensemble.output) == _dims(configs["fastsam_device"].output)


def test_a_newer_limit_is_written_where_it_is_not_the_default():
    """Repositories stay as they are; absent is the default."""
    usual = _texts(_parsed(config_of("fastsam_postprocess", ModelSpec(), CPU)))
    assert {name for name in usual if name.startswith("limit_")} == {
        *(f"limit_{name}" for name in ("image_bytes", "pixels", "prompts", "groups", "segments", "max_det"))
    }
    small = replace(CPU, limits=Limits(answer_bytes=1000))
    for model in MODELS:
        if model != "fastsam_engine":
            assert _texts(_parsed(config_of(model, ModelSpec(), small)))["limit_answer_bytes"] == "1000"


def test_a_repository_for_the_cpu(demo_onnx: Path, tmp_path: Path):
    made = build_repository(demo_onnx, tmp_path / "new/repository", imgsz=320, max_batch=3, instances=2, threads=1)
    assert (made.path, made.version) == (tmp_path / "new/repository", 1)
    files = {str(path.relative_to(made.path)) for path in made.path.rglob("*") if path.is_file()}
    assert files == {
        *(f"{model}/config.pbtxt" for model in MODELS),
        *(f"fastsam_{name}/1/model.py" for name in ("preprocess", "postprocess", "device")),
        *(f"fastsam_{name}/1/model.onnx" for name in ("engine", "device")),
        *(f"fastsam_{name}/warmup/image" for name in ("preprocess", "device")),
    }
    assert (made.path / "fastsam/1").is_dir()
    assert (made.path / "fastsam_engine/1/model.onnx").read_bytes() == demo_onnx.read_bytes()
    config = _parsed((made.path / "fastsam_device/config.pbtxt").read_text())
    assert (config.max_batch_size, config.instance_group[0].count) == (3, 2)
    texts = _texts(config)
    assert (texts["imgsz"], texts["rect"], texts["threads"], texts["model"]) == ("320", "true", "1", "model.onnx")
    with open_engine(demo_onnx) as engine:
        assert ModelSpec.from_json(texts[METADATA_KEY]) == engine.spec
    assert made.path.stat().st_mode & 0o005 == 0o005, "a server that is another user can read it"


def test_the_photograph_for_the_warm_up():
    content = warmup_image()
    assert int.from_bytes(content[:4], "little") == len(content) - 4
    assert content[4:7] == b"\xff\xd8\xff"


def test_a_model_of_fixed_size(changed_onnx: Callable[..., Path], tmp_path: Path):
    made = build_repository(changed_onnx({2: 640, 3: 1024}), tmp_path / "repository", rect=True)
    engine = _parsed((made.path / "fastsam_engine/config.pbtxt").read_text())
    assert _dims(engine.input) == {"images": [3, 640, 1024]}
    assert _dims(engine.output)["output1"] == [32, 160, 256]
    assert list(engine.model_warmup[0].inputs["images"].dims) == [3, 640, 1024]
    texts = _texts(_parsed((made.path / "fastsam/config.pbtxt").read_text()))
    assert (texts["imgsz"], texts["rect"]) == ("1024", "false"), "a fixed size leaves no choice"
    with pytest.raises(ParameterError, match="the model takes only inputs of 640 x 1024"):
        build_repository(changed_onnx({2: 640, 3: 1024}), tmp_path / "other", imgsz=640)


@pytest.mark.parametrize("same", [True, False], ids=["one size", "a range of sizes"])
def test_a_plan(plan: Callable[..., Path], tmp_path: Path, same: bool):
    low, high = ([1, 3, 512, 512], [4, 3, 512, 512]) if same else ([1, 3, 32, 32], [4, 3, 1024, 1024])
    made = build_repository(
        plan(low, [2, 3, 512, 512], high), tmp_path / "repository", **({} if same else {"imgsz": 512})
    )
    assert made.models == MODELS
    device = _parsed((made.path / "fastsam_device/config.pbtxt").read_text())
    assert _texts(device)["model"] == "model.plan"
    # With its JSON: without, the runtime would take the plan for a foreign one.
    there = {path.name for path in (made.path / "fastsam_device/1").iterdir()}
    assert there == {"model.py", "model.plan", "model.json"}
    engine = _parsed((made.path / "fastsam_engine/config.pbtxt").read_text())
    assert (engine.platform, engine.max_batch_size) == ("tensorrt_plan", 4)
    graphs = engine.optimization.cuda.graph_spec
    assert [graph.batch_size for graph in graphs] == [1, 2, 3, 4]
    assert {tuple(graph.input["images"].dim) for graph in graphs} == {(3, 512, 512)}
    assert [warmup.batch_size for warmup in engine.model_warmup] == [1, 2, 3, 4]
    assert _dims(engine.input) == {"images": [3, 512, 512]}
    assert _texts(_parsed((made.path / "fastsam/config.pbtxt").read_text()))["rect"] == "false"


def test_a_plan_of_tensorrt_for_rtx(plan: Callable[..., Path], tmp_path: Path):
    """Triton has no backend for it: `fastsam_device` alone, and its configuration says so."""
    path = plan([1, 3, 512, 512], [2, 3, 512, 512], [4, 3, 512, 512])
    path.with_suffix(".json").rename(tmp_path / "m.rtx.json")
    model = tmp_path / "m.rtx"
    model.write_bytes(TENSORRT_RTX.tag + PLAN[4:])
    made = build_repository(model, tmp_path / "repository")
    assert made.models == made.load_order == ("fastsam_device",)
    assert {path.name for path in made.path.iterdir()} == {"fastsam_device"}
    text = (made.path / "fastsam_device/config.pbtxt").read_text()
    assert "Triton has no backend for plans of TensorRT for RTX" in text and "the extra [rtx]" in text
    config = _parsed(text)
    assert (_texts(config)["model"], config.backend, config.max_batch_size) == ("model.rtx", "python", 4)
    written = {path.name for path in (made.path / "fastsam_device/1").iterdir()}
    assert written == {"model.py", "model.rtx", "model.rtx.json"}
    done = CliRunner().invoke(app, ["triton", str(model), "-o", str(tmp_path / "repository"), "--add-version"])
    assert done.exit_code == 0 and "version 2" in done.output and "Triton has no backend" in done.output
    with pytest.raises(ParameterError, match=r"expected 'gpu'$"):
        build_repository(model, tmp_path / "other", device="cpu")
    (tmp_path / "m.rtx.json").unlink()
    with pytest.raises(ModelError, match=r"m\.rtx\.json: no such file"):
        build_repository(model, tmp_path / "other")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        ("{", "Expecting"),
        ("[]", "TypeError"),
        ("{}", "KeyError"),
        ('{"spec": {}, "profile": {"min": [1, 3, 64, 64]}}', "KeyError"),
        (
            '{"spec": {}, "profile": {"min": [], "opt": [], "max": []}}',
            r"one or more with shapes \(b, 3",
        ),
        ('{"spec": {"layout": "other"}, "profile": {}}', "layout is 'other'"),
    ],
)
def test_a_plan_without_its_description(tmp_path: Path, content: str | None, says: str):
    (tmp_path / "m.plan").write_bytes(PLAN)
    if content is not None:
        (tmp_path / "m.json").write_text(content)
    with pytest.raises(ModelError, match=says):
        build_repository(tmp_path / "m.plan", tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_a_plan_that_is_none(plan: Callable[..., Path], demo_onnx: Path, tmp_path: Path):
    """An ONNX file of that name, an empty one, a cut one, another one than the JSON describes: all were packed."""
    path = plan([1, 3, 512, 512], [1, 3, 512, 512], [4, 3, 512, 512])
    beside = path.with_suffix(".json")
    described = json.loads(beside.read_text())
    whole = {**described, "plan_bytes": len(PLAN), "plan_sha256": hashlib.sha256(PLAN).hexdigest()}
    cases = [
        (demo_onnx.read_bytes(), described, "which is no TensorRT plan"),
        (b"vtrt" + PLAN[4:], described, "is a plan of TensorRT for RTX, .* rename it to m.rtx"),
        (b"", described, "which is no TensorRT plan"),
        (PLAN[:20], described, "holds 20 bytes, no whole plan"),
        (PLAN[:-1], whole, "is cut off"),
        (PLAN[:-1] + b"!", whole, "SHA-256 differ"),
    ]
    for content, text, says in cases:
        path.write_bytes(content)
        beside.write_text(json.dumps(text))
        with pytest.raises(ModelError, match=says):
            build_repository(path, tmp_path / "repository")
        assert not (tmp_path / "repository").exists()
    path.write_bytes(PLAN)
    build_repository(path, tmp_path / "repository")


def _behind_a_header(**changes: Any) -> bytes:
    """A plan as ultralytics writes it."""
    header = {"description": "Ultralytics FastSAM-s model", "version": "8.4.190", "stride": 32, "task": "segment"}
    header |= {"batch": 4, "imgsz": [640, 480], "names": {"0": "object"}, "args": {"dynamic": True, "quantize": 16}}
    text = json.dumps({**header, **changes}).encode()
    return len(text).to_bytes(4, "little", signed=True) + text + PLAN


@pytest.mark.parametrize("suffix", [".engine", ".plan"])
def test_a_plan_behind_a_header(tmp_path: Path, suffix: str):
    """Triton takes the plan alone; this package reads the header, and no JSON of another plan."""
    path = tmp_path / f"FastSAM-s{suffix}"
    path.write_bytes(_behind_a_header())
    path.with_suffix(".json").write_text("{}")
    made = build_repository(path, tmp_path / "repository")
    assert (made.path / "fastsam_engine/1/model.plan").read_bytes() == PLAN
    assert (made.path / "fastsam_device/1/model.plan").read_bytes() == path.read_bytes()
    assert {file.name for file in (made.path / "fastsam_device/1").iterdir()} == {"model.py", "model.plan"}
    engine = _parsed((made.path / "fastsam_engine/config.pbtxt").read_text())
    assert (engine.platform, engine.max_batch_size) == ("tensorrt_plan", 4)
    assert _dims(engine.input) == {"images": [3, 640, 640]}
    assert _dims(engine.output) == {"output0": [37, -1], "output1": [32, 160, 160]}
    assert engine.input[0].data_type == protocol.TYPE_FP32
    assert _texts(_parsed((made.path / "fastsam_device/config.pbtxt").read_text()))["model"] == "model.plan"
    assert (made.spec.class_names, made.spec.precision) == (("object",), "fp16")


def test_what_the_header_of_a_plan_says(tmp_path: Path):
    path = tmp_path / "yolo.engine"
    path.write_bytes(_behind_a_header(args={"dynamic": True, "half": True, "nms": True}, names=["cat", "dog"]))
    made = build_repository(path, tmp_path / "repository", imgsz=320)
    engine = _parsed((made.path / "fastsam_engine/config.pbtxt").read_text())
    assert engine.input[0].data_type == protocol.TYPE_FP16
    assert _dims(engine.output)["output0"] == [-1, 38]
    assert made.spec.class_names == ("cat", "dog")
    cases = [
        ({"args": {"dynamic": False}}, "takes batches of 4 only.*dynamic=True"),
        ({"args": None}, "expected batch, names and args"),
        ({"batch": "many"}, "expected batch, names and args"),
        ({"names": 5}, "expected batch, names and args"),
    ]
    for changes, says in cases:
        path.write_bytes(_behind_a_header(**changes))
        with pytest.raises(ModelError, match=says):
            build_repository(path, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_served(
    demo_onnx: Path, plan: Callable[..., Path], changed_onnx: Callable[..., Path], tmp_path: Path
):
    some_plan = plan([1, 3, 512, 512], [1, 3, 512, 512], [4, 3, 512, 512])
    (tmp_path / "text.onnx").write_bytes(b"hello")
    (tmp_path / "there").mkdir()
    cases: list[tuple[type[Exception], str, Path, dict[str, Any]]] = [
        (ModelError, "suffix '.pt', expected .onnx, .plan, .engine or .rtx", tmp_path / "m.pt", {}),
        (ModelError, "no such file", tmp_path / "absent.onnx", {}),
        (ModelError, "no such file", tmp_path / "absent.plan", {}),
        (ModelError, "text.onnx", tmp_path / "text.onnx", {}),
        (ModelError, "takes batches of 2 only", changed_onnx({0: 2}), {}),
        (ParameterError, "device is 'cuda'", demo_onnx, {"device": "cuda"}),
        (ParameterError, "device is 'cpu' for m.plan; expected 'gpu'", some_plan, {"device": "cpu"}),
        (ParameterError, "max_batch is 0, expected 1 or more", demo_onnx, {"max_batch": 0}),
        (ParameterError, "queue is -1", demo_onnx, {"queue": -1}),
        (ParameterError, "max_batch is 8, m.plan takes at most 4", some_plan, {"max_batch": 8}),
        (ParameterError, "imgsz is 500", demo_onnx, {"imgsz": 500}),
        (ParameterError, "imgsz is 640, the model takes only", some_plan, {"imgsz": 640}),
    ]
    for kind, says, model, settings in cases:
        with pytest.raises(kind, match=says):
            build_repository(model, tmp_path / "repository", **settings)
    with pytest.raises(ExportError, match="exists already"):
        build_repository(demo_onnx, tmp_path / "there")
    with pytest.raises(ExportError, match="has no fastsam; expected a repository"):
        build_repository(demo_onnx, tmp_path / "there", add_version=True)
    assert not (tmp_path / "repository").exists()
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["an error", "Ctrl-C"])
def test_an_interrupted_build_leaves_nothing(
    demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    build_repository(demo_onnx, tmp_path / "old")
    before = _content(tmp_path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(to_triton, "warmup_image", fail)
    for output, add_version in (("new", False), ("old", True)):
        with pytest.raises(type(error)):
            build_repository(demo_onnx, tmp_path / output, add_version=add_version)
    assert _content(tmp_path) == before


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_version_is_added(demo_onnx: Path, changed_onnx: Callable[..., Path], tmp_path: Path):
    path = build_repository(demo_onnx, tmp_path / "repository", imgsz=320).path
    before = _content(path)
    made = build_repository(changed_onnx({}, "next.onnx"), path, imgsz=320, queue=7, add_version=True)
    assert (made.path, made.version) == (path, 2)
    after = _content(path)
    assert {name: after[name] for name in before if "/1/" in name} == {n: c for n, c in before.items() if "/1/" in n}
    assert {name for name in after if "/2/" in name} == {name.replace("/1/", "/2/") for name in before if "/1/" in name}
    assert {name for name in after if "/2/" not in name} == set(before)
    assert after["fastsam_engine/2/model.onnx"] == (tmp_path / "next.onnx").read_bytes()
    for model in MODELS:
        assert (path / model / "2").is_dir()
        config = _parsed(after[f"{model}/config.pbtxt"].decode())
        if model in ("fastsam_preprocess", "fastsam_engine", "fastsam_device"):
            assert config.dynamic_batching.default_queue_policy.max_queue_size == 7
    assert build_repository(demo_onnx, path, imgsz=320, add_version=True).version == 3


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "COLUMNS": "300"}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "start",
    [
        pytest.param([sys.executable, "-m", "fastsam_deploy.export.cli.main", "triton"], id="fastsam-export triton"),
        pytest.param(["bash", ROOT / "scripts/build_model_repository.sh"], id="build_model_repository.sh"),
    ],
)
def test_the_command(start: list[str | Path], demo_onnx: Path, tmp_path: Path):
    options = ["--imgsz", "320", "--square", "--max-batch", "2", "--queue", "5", "--queue-ms", "100", "--threads", "1"]
    done = _run(*start, demo_onnx, "--output", "made", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "fastsam_device, version 1; onnxruntime on cpu, imgsz 320, one shape for all images" in done.stdout
    expected = Serving("onnxruntime", "cpu", 320, rect=False, max_batch=2, queue=5, queue_ms=100, threads=1)
    with open_engine(demo_onnx) as engine:
        for model in MODELS:
            assert (tmp_path / "made" / model / "config.pbtxt").read_text() == config_of(model, engine.spec, expected)
    again = _run(*start, demo_onnx, "--output", "made", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.startswith("fastsam-export: made: exists already")
    added = _run(*start, demo_onnx, "--output", "made", "--imgsz", "320", "--add-version", cwd=tmp_path)
    assert added.returncode == 0, added.stderr
    assert "version 2" in added.stdout
    order = "fastsam_engine, fastsam_postprocess, fastsam_preprocess, fastsam, fastsam_device"
    assert f"load {order}, one after the other, and stop where one is refused" in added.stdout
