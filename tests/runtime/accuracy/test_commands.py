"""`fastsam bench edges`, `proposals` and `instances` from beginning to end, on small data sets with known answers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat
from skimage.morphology import thin

from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.accuracy.boundaries import borders
from tests.command_line import run_fastsam

Run = Callable[..., str]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object, code: int = 0) -> str:
        ended = run_fastsam(monkeypatch, "bench", *map(str, arguments))
        output = "".join(capsys.readouterr())
        assert ended == code, output
        return output

    return run


def drawing(number: int) -> np.ndarray:
    labels = np.ones((60, 90), np.uint16)
    labels[10:40, 10 : 40 + number] = 2
    labels[20:50, 60:80] = 3
    return labels


def save_truth(path: Path, labels: np.ndarray) -> None:
    cells = np.empty((1, 1), object)
    cells[0, 0] = {"Boundaries": thin(borders(labels)), "Segmentation": labels}
    savemat(path, {"groundTruth": cells})


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """Three images in the layout of BSDS500, with perfect edge maps."""
    for name in ("truth", "maps", "images"):
        (tmp_path / name).mkdir()
    for number in range(3):
        labels = drawing(number)
        save_truth(tmp_path / f"truth/{number}.mat", labels)
        cv2.imwrite(str(tmp_path / f"maps/{number}.png"), thin(borders(labels)).astype(np.uint8) * 255)
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), np.repeat(labels[..., None] * 60, 3, 2).astype(np.uint8))
    return tmp_path


def test_perfect_edge_maps(bench: Run, drawings: Path):
    arguments = ["edges", "--truth", drawings / "truth", "--predictions", drawings / "maps", "-o", drawings / "out"]
    output = bench(*arguments, "--thresholds", 5)
    assert "| this model | 1.000 | 1.000 |" in output
    document = json.loads((drawings / "out/edges.json").read_text())
    assert document["images"] == 3
    assert document["boundaries"]["ods"] == 1.0
    assert document["regions"] is None
    assert (drawings / "out/edges.md").read_text() in output


def test_an_interrupted_run_goes_on_and_other_settings_are_refused(bench: Run, drawings: Path):
    arguments = ["edges", "--truth", drawings / "truth", "--predictions", drawings / "maps", "-o", drawings / "out"]
    bench(*arguments, "--thresholds", 5)
    journal = drawings / "out/edges.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    before = json.loads((drawings / "out/edges.json").read_text())
    journal.write_bytes(lines[0] + lines[1] + lines[2][:20])  # killed while it wrote a line
    bench(*arguments, "--thresholds", 5)
    assert sorted(journal.read_bytes().splitlines()) == sorted(line.strip() for line in lines)
    assert json.loads((drawings / "out/edges.json").read_text()) == before
    assert "thresholds was 5, now 7" in bench(*arguments, "--thresholds", 7, code=2)


def test_an_image_that_changed_is_judged_again(bench: Run, drawings: Path):
    arguments = ["edges", "--truth", drawings / "truth", "--predictions", drawings / "maps", "-o", drawings / "out"]
    bench(*arguments, "--thresholds", 3)
    cv2.imwrite(str(drawings / "maps/1.png"), np.zeros((60, 90), np.uint8))
    bench(*arguments, "--thresholds", 3)
    assert 0.6 < json.loads((drawings / "out/edges.json").read_text())["boundaries"]["recall"] < 0.7


def test_segmentations_are_judged_by_their_regions_too(bench: Run, drawings: Path):
    (drawings / "segs").mkdir()
    for number in range(3):
        cells = np.empty((1, 2), object)
        cells[0, 0], cells[0, 1] = drawing(number), np.ones((60, 90), np.uint16)
        savemat(drawings / f"segs/{number}.mat", {"segs": cells})
    output = bench(
        "edges",
        "--truth",
        drawings / "truth",
        "--predictions",
        drawings / "segs",
        "-o",
        drawings / "out",
        "--name",
        "x",
    )
    assert "| x | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 0.000 | 0.000 |" in output


def test_edges_of_a_model(bench: Run, drawings: Path):
    bench(
        "edges", "--truth", drawings / "truth", "--images", drawings / "images", "-o", drawings / "out",
        "--imgsz", 320, "--thresholds", 3,
    )  # fmt: skip
    edges = cv2.imread(str(drawings / "out/edges/1.png"), cv2.IMREAD_UNCHANGED)
    assert edges.shape == (60, 90)
    assert edges.dtype == np.uint16
    assert json.loads((drawings / "out/edges.json").read_text())["images"] == 3


def test_a_missing_prediction_names_the_image(bench: Run, drawings: Path):
    (drawings / "maps/1.png").unlink()
    arguments = ["edges", "--truth", drawings / "truth", "--predictions", drawings / "maps", "-o", drawings / "out"]
    assert "nothing for 1.mat" in " ".join(bench(*arguments, code=2).split())


@pytest.fixture(scope="module")
def own_masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose objects are what the demo model itself segments in two photographs, with its own class."""
    folder = tmp_path_factory.mktemp("coco")
    images, annotations = [], []
    photographs = Path(__file__).resolve().parents[3] / "examples/images"
    with FastSAM(imgsz=320) as model:
        for number, name in enumerate(("coffee.jpg", "cat.jpg"), 1):
            (folder / name).write_bytes((photographs / name).read_bytes())
            segments = model.segment(folder / name)
            height, width = segments.image_hw
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            rows = segments.to_coco(image_id=number, boxes="masks")
            annotations += [{**row, "id": len(annotations) + i} for i, row in enumerate(rows, 1)]
    categories = [{"id": 1, "name": "object"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))
    boxes = [{**row, "score": 0.5} for row in annotations]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return folder


def test_proposals_of_a_model_on_its_own_masks(bench: Run, own_masks: Path, tmp_path: Path):
    arguments = ["proposals", "-a", own_masks / "annotations.json", "-i", own_masks, "--imgsz", 320, "-o", tmp_path]
    output = bench(*arguments)
    assert "FastSAM (paper)" in output
    document = json.loads((tmp_path / "proposals.json").read_text())
    assert document["images"] == 2
    assert document["thresholds"] == {"conf": 0.001, "iou": 0.9, "max_det": 1000}
    assert document["masks"]["all"]["AR@1000"] == 1.0  # every object is a proposal, exactly
    assert document["masks"]["all"]["AR@10"] < 1.0
    bench(*arguments)  # from the journal
    assert json.loads((tmp_path / "proposals.json").read_text()) == document
    assert "imgsz" in bench(*arguments[:-3], 256, "-o", tmp_path, code=2)


def test_instances_of_a_model_on_its_own_masks(bench: Run, own_masks: Path, tmp_path: Path):
    bench(
        "instances", "-a", own_masks / "annotations.json", "-i", own_masks, "--boxes", own_masks / "boxes.json",
        "--imgsz", 320, "-o", tmp_path,
    )  # fmt: skip
    document = json.loads((tmp_path / "instances.json").read_text())
    assert document["mean_iou"]["box"]["all"] > 0.75
    assert 0.3 < document["mean_iou"]["click"]["all"] < 1
    assert document["average_precision"]["AP"] > 0.5


def test_an_image_of_another_size_is_refused(bench: Run, own_masks: Path, tmp_path: Path):
    document = json.loads((own_masks / "annotations.json").read_text())
    document["images"][0]["width"] += 1
    (tmp_path / "a.json").write_text(json.dumps(document))
    output = bench(
        "proposals", "-a", tmp_path / "a.json", "-i", own_masks, "--imgsz", 320, "-o", tmp_path / "out", code=2
    )
    assert "601×400" in output


def test_a_missing_library_is_named_before_anything_is_done(drawings: Path):
    python = os.environ.get("FASTSAM_BARE_PYTHON")
    if python is None:
        pytest.skip("needs an environment without the extra [accuracy]; scripts/test.sh makes one")
    code = "import sys; from fastsam_deploy.runtime.cli.main import main; sys.exit(main())"
    arguments = ["edges", "--truth", drawings / "truth", "--predictions", drawings / "maps", "-o", drawings / "out"]
    result = subprocess.run([python, "-c", code, "bench", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "scipy" in result.stderr
    assert "fastsam-deploy[accuracy]" in result.stderr or ".[accuracy]" in result.stderr
    assert not (drawings / "out").exists()


def test_edge_maps_of_another_model_or_of_changed_images_are_not_taken(bench: Run, drawings: Path):
    arguments = ["edges", "--truth", drawings / "truth", "--images", drawings / "images", "-o", drawings / "out"]
    bench(*arguments, "--imgsz", 320, "--thresholds", 3)
    assert "maps.jsonl" in bench(*arguments, "--imgsz", 160, "--thresholds", 3, code=2)
    maps = [drawings / f"out/edges/{number}.png" for number in range(3)]
    before = [path.stat().st_mtime_ns for path in maps]
    maps[2].unlink()
    cv2.imwrite(str(drawings / "images/1.png"), np.full((60, 90, 3), 90, np.uint8))
    bench(*arguments, "--imgsz", 320, "--thresholds", 3)
    assert [path.stat().st_mtime_ns == time_ns for path, time_ns in zip(maps, before, strict=True)] == [
        True,
        False,
        False,
    ]


def test_results_for_other_annotations_or_boxes_are_not_taken(bench: Run, own_masks: Path, tmp_path: Path):
    (tmp_path / "a.json").write_bytes((own_masks / "annotations.json").read_bytes())
    (tmp_path / "b.json").write_bytes((own_masks / "boxes.json").read_bytes())
    files = ["-a", tmp_path / "a.json", "--boxes", tmp_path / "b.json", "-i", own_masks]
    arguments = ["instances", *files, "--imgsz", 320, "-o", tmp_path / "out"]
    bench(*arguments)
    (tmp_path / "b.json").write_text("[]")
    assert "other settings (boxes was" in bench(*arguments, code=2)
    (tmp_path / "b.json").write_text("nothing")
    assert "no results of COCO" in bench(*arguments, code=2)
    document = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**document, "annotations": document["annotations"][:1]}))
    (tmp_path / "b.json").write_bytes((own_masks / "boxes.json").read_bytes())
    assert "other settings (annotations was" in bench(*arguments, code=2)


@pytest.mark.parametrize("option", [("--conf", 0.3), ("--iou", 0.5), ("--max-det", 10)])
def test_thresholds_that_would_have_no_effect_are_refused(
    bench: Run, own_masks: Path, tmp_path: Path, option: tuple[str, float]
):
    arguments = ["proposals", "-a", own_masks / "annotations.json", "-i", own_masks, "-o", tmp_path / "out"]
    assert f"{option[0]} {option[1]}: this measurement has thresholds of its own" in bench(*arguments, *option, code=2)
    assert not (tmp_path / "out").exists()
