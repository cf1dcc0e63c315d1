"""A plan on the command line: gated and timed as `TRTFastSAM`, the model that `fastsam segment` and Triton run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from typer.testing import CliRunner

from fastsam_deploy.runtime.app.application import Application, NetworkChoice
from fastsam_deploy.runtime.app.models import SizedModel
from fastsam_deploy.runtime.cli.main import app
from fastsam_deploy.runtime.opening import ModelSettings
from fastsam_deploy.runtime.stages.isolated import IsolatedLoader

pytestmark = pytest.mark.gpu

FAST = ("--imgsz", "160", "--conf", "0.2")


@pytest.fixture
def plan(open_network: Callable[[Path], Any], demo_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a plan, which stands for the demo model's file on the same device memory."""
    monkeypatch.setattr(
        "fastsam_deploy.runtime.segmenters.open.open_device_network", lambda path, device: open_network(demo_onnx)
    )
    return "demo.plan"


@pytest.fixture
def photo(coffee: Path, tmp_path: Path) -> str:
    """A small photograph: kernels on a host are slow."""
    path = tmp_path / "coffee.png"
    cv2.imwrite(str(path), cv2.imread(str(coffee))[::3, ::3])
    return str(path)


def run(*arguments: str) -> Any:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_gate_compares_the_masks_that_the_gpu_makes(plan: str, photo: str, demo_onnx: Path) -> None:
    limits = ("--min-recall", "1", "--min-precision", "1", "--at-iou", "0.9", "--min-iou", "0.99")
    report = run("bench", "fidelity", str(demo_onnx), f"{plan}@device=cuda", "-i", photo, *FAST, *limits, "--json", "-")
    (candidate,) = report["candidates"]
    assert candidate["fidelity"]["candidate"] > 3
    assert "cuda_graphs" in candidate["model"], "the description of a model with every stage on the GPU"
    assert "cuda_graphs" not in report["reference"]["model"]


def test_speed_times_what_the_gpu_does_in_one_piece(plan: str, photo: str, demo_onnx: Path) -> None:
    models = ("-m", f"cpu={demo_onnx}@device=cpu", "-m", f"gpu={plan}", "--device", "cuda")
    report = run("bench", "speed", photo, *models, "--runs", "1", "--warmup", "0", *FAST, "--json", "-")
    cpu, gpu = report["models"]
    assert cpu["segments"] == gpu["segments"] != [0]
    assert set(gpu["stages_ms"]) == {"load", "device", "other", "total"}
    assert set(cpu["stages_ms"]) == {"load", "letterbox", "engine", "decode", "masks", "other", "total"}
    assert "cuda_graphs" in gpu["model"]


def test_the_line_of_an_image_tells_the_time_of_the_gpu(plan: str, photo: str) -> None:
    words = ["segment", photo, "--model", plan, "--device", "cuda", *FAST, "--json", "-"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert re.search(r"segments, \d+ ms \(GPU [1-9]\d* ms\)", done.stderr), done.stderr


def test_segment_and_video_run_it_too(plan: str, photo: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    frame = cv2.imread(photo)
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (frame.shape[1], frame.shape[0]))
    writer.write(frame)
    writer.release()
    for command, source in (("segment", photo), ("video", str(clip))):
        answer = run(command, source, "--model", plan, "--device", "cuda", *FAST, "--json", "-")
        assert "cuda_graphs" in answer["model"]
        assert set(answer["timing_ms"]) == {"load", "device", "prompt"}
        assert len(answer["segments"]) > 3


def test_the_web_page_shows_what_a_plan_finds(plan: str, photo: str, demo_onnx: Path) -> None:
    settings = ModelSettings.from_keywords(device="cuda", imgsz=160, conf=0.2)
    with SizedModel(plan, settings) as model, IsolatedLoader() as loader:
        page = Application(model, loader)
        *_, (view, _) = page.open("user", "coffee.png", Path(photo).read_bytes(), NetworkChoice(conf=0.2))
        everything = model.usual.segment(photo)
        assert len(everything) > 3 and view.status.startswith(f"{len(everything)} objects found.")
        assert model.sizes is None and "cuda_graphs" in model.usual.description
        image = page.sessions.of("user").image
        assert image is not None and image.everything == everything
