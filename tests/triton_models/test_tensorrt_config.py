"""The configurations of production, unchanged, in a real server: for a plan, and those that are committed.

There is no TensorRT here: the stand-in of `scripts/triton_server.py` runs the `model.onnx` that lies beside the plan.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from fastsam_deploy.export.triton.configs import MODELS
from fastsam_deploy.export.triton.to_triton import Repository, build_repository
from fastsam_deploy.runtime import FastSAM, Points, load_image
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.engines.tensorrt.library import TENSORRT
from scripts.triton_server import Server
from tests.triton_models.plain_client import PlainClient, assert_same, segments_of

pytestmark = pytest.mark.triton

ROOT = Path(__file__).resolve().parents[2]
SIDE, MAX_BATCH = 256, 4


@pytest.fixture
def of_a_plan(tmp_path: Path, demo_onnx: Path) -> Repository:
    """Of a file that is called a plan, and the JSON that the builder of plans writes beside it."""
    with open_engine(demo_onnx) as engine:
        spec = asdict(engine.spec)
    shapes = {name: [batch, 3, SIDE, SIDE] for name, batch in (("min", 1), ("opt", 2), ("max", MAX_BATCH))}
    (tmp_path / "demo.json").write_text(json.dumps({"spec": spec, "profile": shapes}))
    (tmp_path / "demo.plan").write_bytes(TENSORRT.tag + bytes(64))  # TensorRT is not here to read it
    return build_repository(tmp_path / "demo.plan", tmp_path / "repository", imgsz=SIDE)


def test_a_plan_gets_the_settings_of_a_gpu(of_a_plan: Repository):
    config = (of_a_plan.path / "fastsam_engine/config.pbtxt").read_text()
    assert 'platform: "tensorrt_plan"' in config
    assert f"max_batch_size: {MAX_BATCH}" in config
    for size in range(1, MAX_BATCH + 1):
        assert f"graph_spec {{ batch_size: {size} " in config
    assert (of_a_plan.path / "fastsam_engine/1/model.plan").is_file()
    assert of_a_plan.models == MODELS


def test_it_serves(of_a_plan: Repository, start: Callable[..., Server], demo_onnx: Path, coffee: Path, cat: Path):
    shutil.copy(demo_onnx, of_a_plan.path / "fastsam_engine/1/model.onnx")
    server = start(of_a_plan.path, ("fastsam",))
    with PlainClient(server, "http") as client, FastSAM(imgsz=SIDE, rect=False) as local:
        config = client.raw.get_model_config("fastsam_engine")
        assert config["platform"] == "tensorrt_plan"
        assert len(config["optimization"]["cuda"]["graph_spec"]) == MAX_BATCH
        for path in (coffee, cat):
            assert_same(segments_of(client.ask("fastsam", path.read_bytes())), local.segment(path))
        # A square takes images of all shapes into one batch: one request may hold them.
        answer = client.ask("fastsam", [coffee.read_bytes(), cat.read_bytes()])
        for i, path in enumerate((coffee, cat)):
            assert_same(segments_of(answer, i), local.segment(path))
        point = {"prompts": [{"points": [[285, 150]]}]}
        found = segments_of(client.ask("fastsam", coffee.read_bytes(), prompt=point))
        assert_same(found, local.segment(coffee, Points([[285, 150]])))


@pytest.fixture
def committed(tmp_path: Path, demo_onnx: Path) -> Path:
    """A copy of triton_models/ as it is committed, with the network put in."""
    kept = shutil.ignore_patterns("__pycache__", "model.onnx", "model.plan")
    repository = Path(shutil.copytree(ROOT / "triton_models", tmp_path / "triton_models", ignore=kept))
    for model in ("fastsam_engine", "fastsam_device"):
        shutil.copy(demo_onnx, repository / model / "1/model.onnx")
    return repository


def test_the_committed_repository_serves_on_a_cpu(committed: Path, start: Callable[..., Server], coffee: Path):
    """All of its models, as tritonserver loads them when it is told nothing but the name of the configurations."""
    server = start(committed, (), arguments=["--model-config-name=cpu"])
    tall = load_image(coffee).swapaxes(0, 1).copy()
    with PlainClient(server, "grpc") as client, FastSAM(imgsz=1024) as local:
        for model in ("fastsam", "fastsam_device"):
            assert_same(segments_of(client.ask(model, coffee.read_bytes())), local.segment(coffee))
            assert_same(segments_of(client.ask(model, pixels=tall[None])), local.segment(tall))


def test_the_committed_configurations_of_production_load(committed: Path, start: Callable[..., Server], coffee: Path):
    """The ensemble: fastsam_device asks for a GPU."""
    engine = committed / "fastsam_engine/config.pbtxt"
    # Eight warm-ups of a network at 1024 x 1024 on a CPU would take longer than all else here.
    start_of_warmup = engine.read_text().index("model_warmup")
    engine.write_text(engine.read_text()[:start_of_warmup])
    server = start(committed, ("fastsam",))
    with PlainClient(server, "grpc") as client, FastSAM(imgsz=1024, rect=False) as local:
        assert_same(segments_of(client.ask("fastsam", coffee.read_bytes())), local.segment(coffee))
