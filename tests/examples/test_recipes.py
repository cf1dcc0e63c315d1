"""The recipes in `examples/recipes`, with the tools that read what they write."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from fastsam_deploy.runtime import FastSAM, Points, load_image
from tests.video_servers import mjpeg_server

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "examples/recipes"


def _recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photos(tmp_path: Path, cat: Path, coffee: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in (cat, coffee):
        shutil.copy(path, folder)
    return folder


def _run(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["recipe", *map(str, arguments)])
    module.main()


def test_label_studio_reads_the_masks(photos: Path, tmp_path: Path, demo_onnx: Path, monkeypatch: pytest.MonkeyPatch):
    decoder = pytest.importorskip("label_studio_brush_rle_rs", reason="needs label-studio-brush-rle-rs")
    _run(monkeypatch, _recipe("label_studio"), photos, "--prefix", "/data/", "--output", tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    assert [task["data"]["image"] for task in tasks] == ["/data/cat.jpg", "/data/coffee.jpg"]
    with FastSAM(demo_onnx) as model:
        wanted = [model.segment(path) for path in sorted(photos.iterdir())]
    for task, segments in zip(tasks, wanted, strict=True):
        (prediction,) = task["predictions"]
        assert len(prediction["result"]) == len(segments) > 0
        for result, mask in zip(prediction["result"], segments.masks, strict=True):
            height, width = result["original_height"], result["original_width"]
            rgba = np.asarray(decoder.decode_rle(result["value"]["rle"], False)).reshape(height, width, 4)
            np.testing.assert_array_equal(rgba[..., 3] > 0, mask)
            assert result["value"]["brushlabels"] == ["object"]


@pytest.mark.parametrize("seed", range(4))
def test_any_mask_survives_the_brush(seed: int):
    decoder = pytest.importorskip("label_studio_brush_rle_rs", reason="needs label-studio-brush-rle-rs")
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 300), rng.integers(1, 300))) < (0.5, 0.001, 1.0, 0.0)[seed]
    encoded = _recipe("label_studio").brush_rle(mask)
    assert max(encoded) < 256
    np.testing.assert_array_equal(
        np.asarray(decoder.decode_rle(encoded, False)).reshape(*mask.shape, 4)[..., 0] > 0, mask
    )


def test_supervision_reads_its_data_set(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    supervision = pytest.importorskip("supervision", reason="needs the extra [supervision]")
    _run(monkeypatch, _recipe("supervision_dataset"), photos, "--output", tmp_path / "coco.json")
    made = supervision.DetectionDataset.from_coco(str(photos), str(tmp_path / "coco.json"), force_masks=True)
    assert made.classes == ["object"] and len(made) == 2
    with FastSAM() as model:
        for path, _, annotation in made:
            np.testing.assert_array_equal(annotation.mask, model.segment(path).masks.dense())


def test_the_camera_loop(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A ball moves to the right in a folder of frames; then a camera over HTTP, which shows nothing."""
    loop = _recipe("camera_loop")
    (tmp_path / "frames").mkdir()
    for number in range(6):
        image = np.full((240, 320, 3), (120, 140, 110), np.uint8)
        cv2.circle(image, (80 + 12 * number, 120), 34, (40, 40, 220), -1)
        cv2.imwrite(str(tmp_path / f"frames/{number}.png"), image)
    _run(monkeypatch, loop, tmp_path / "frames", "--point", "80,120")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(6))
    where = [line["center_xy"][0] for line in lines]
    np.testing.assert_allclose(where, [(80 + 12 * number) / 160 - 1 for number in range(6)], atol=0.03)
    assert all(0.03 < line["share"] < 0.07 and line["age_ms"] >= 0 for line in lines)
    with mjpeg_server() as server:
        _run(monkeypatch, loop, server.url, "--point", "5,5", "--imgsz", "64", "--frames", "3")
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A screen without a monitor, of a number that is free."""
    pytest.importorskip("tkinter", reason="needs tkinter (Debian: python3-tk)")
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb")
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        try:
            with os.fdopen(reader) as told:
                number = told.readline().strip()
            assert number, "Xvfb did not start"
            monkeypatch.setenv("DISPLAY", f":{number}")
            yield
        finally:
            server.kill()


def test_clicks_in_a_window_are_the_prompts_of_python(display: None, coffee: Path, demo_onnx: Path, tmp_path: Path):
    recipe = _recipe("click_window")
    with FastSAM(demo_onnx) as model:
        everything = model.segment(coffee, keep_image=True)
    window = recipe.ClickWindow(everything, tmp_path / "clicked.png")
    window.root.update()
    window.canvas.event_generate("<Button-1>", x=285, y=150)
    assert window.selected == everything.select(Points([[285, 150]]))
    window.canvas.event_generate("<Button-3>", x=20, y=20)
    assert window.selected == everything.select(Points([[285, 150], [20, 20]], [1, 0]))
    window.undo()
    assert window.selected == everything.select(Points([[285, 150]]))
    window.save()
    np.testing.assert_array_equal(load_image(tmp_path / "clicked.png"), window.selected.plot())
    window.undo()
    assert window.selected == everything and window.points == []
    window.root.event_generate("<Escape>")
    window.run()
