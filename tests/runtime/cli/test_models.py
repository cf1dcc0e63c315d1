"""Every command opens a model the same way: a plan with `TRTFastSAM`, as the Triton server does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest
from typer.testing import CliRunner

from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.cli.main import app

OPTIONS = ["--device", "cuda", "--imgsz", "64"]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_onnx: Path, cat: Path) -> list[tuple[str, str]]:
    """What was opened as a plan, (name, device); the demo model on the CPU stands for it. In a folder with inputs."""
    names: list[tuple[str, str]] = []

    class Plan(FastSAM):
        def __init__(self, model: str | Path, device: str = "cuda", **settings: Any) -> None:
            names.append((str(model), device))
            super().__init__(demo_onnx, **settings)

    monkeypatch.setattr("fastsam_deploy.runtime.trt.TRTFastSAM", Plan)
    monkeypatch.chdir(tmp_path)
    shutil.copy(cat, "cat.jpg")
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    writer.write(cv2.resize(cv2.imread("cat.jpg"), (96, 64)))
    writer.release()
    return names


@pytest.mark.parametrize("name", ["m.plan", "m.engine"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", "cat.jpg", "--model", "{name}", *OPTIONS],
        ["video", "clip.avi", "--model", "{name}", *OPTIONS],
        ["bench", "speed", "cat.jpg", "--model", "plan={name}", "--runs", "1", "--warmup", "0", *OPTIONS],
        ["bench", "fidelity", "plan={name}", "onnx={demo}@device=cpu", "-i", "cat.jpg", *OPTIONS],
        ["bench", "fidelity", "{demo}", "{name}@device=cuda", "-i", "cat.jpg", "--threads", "1", *OPTIONS[2:]],
    ],
    ids=["segment", "video", "speed", "fidelity, reference", "fidelity, candidate"],
)
def test_a_plan_is_opened_with_every_stage_on_its_gpu(
    opened: list[tuple[str, str]], demo_onnx: Path, arguments: list[str], name: str
) -> None:
    words = [word.format(name=name, demo=demo_onnx) for word in arguments]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert opened == [(name, "cuda")]


def test_bench_has_the_options_of_segment(opened: list[tuple[str, str]], demo_onnx: Path) -> None:
    given = ["--precision", "fp32", "--hint", "latency", "--imgsz", "64"]
    once = ["--runs", "1", "--warmup", "0", "--json", "-"]
    done = CliRunner().invoke(app, ["bench", "speed", "cat.jpg", *once, *given], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["settings"].items() >= {"precision": "fp32", "hint": "latency", "imgsz": 64}.items()
    models = [str(demo_onnx), f"same={demo_onnx}"]
    done = CliRunner().invoke(
        app, ["bench", "fidelity", *models, "-i", "cat.jpg", "--json", "-", "--engine", "onnxruntime", *given]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["settings"]["engine"] == "onnxruntime"
    assert opened == []
