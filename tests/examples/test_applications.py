"""The applications in `examples`, on generated pictures with known answers, with the demo model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastsam_deploy.runtime import FastSAM, load_image
from tests.examples.pictures import iou, object_that_stands_out, part_with_defects, town

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
sys.path.append(str(EXAMPLES))

import anomaly  # noqa: E402
import buildings  # noqa: E402
import salient_object  # noqa: E402

TILE = 640


@pytest.fixture(scope="module")
def model(demo_onnx: Path) -> FastSAM:
    with FastSAM(demo_onnx) as opened:
        yield opened


def _run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], main, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["example", *arguments])
    main()
    return capsys.readouterr().out


def test_anomaly_finds_the_defects(tmp_path: Path, model: FastSAM):
    image, masks = part_with_defects()
    cv2.imwrite(str(tmp_path / "part.png"), image[..., ::-1])
    points, boxes = [[150, 120], [395, 110]], [[295, 255, 365, 325]]
    inspection = anomaly.inspect(model, tmp_path / "part.png", points=points, boxes=boxes)
    assert inspection.defects.prompts.tolist() == [0, 1, 2]
    for found, name in zip(inspection.defects.masks, ("stain", "dent", "hole"), strict=True):
        assert iou(found, masks[name]) > 0.85, name
    true_share = np.any(list(masks.values()), axis=0).mean()
    assert inspection.share == pytest.approx(true_share, rel=0.1)


def test_anomaly_takes_texts(tmp_path: Path, demo_onnx: Path):
    """Which segment a text picks depends on the CLIP; the small one here has random weights."""
    pytest.importorskip("tokenizers", reason="needs the extra [clip]")
    image, _ = part_with_defects()
    cv2.imwrite(str(tmp_path / "part.png"), image[..., ::-1])
    with FastSAM(demo_onnx, clip=ROOT / "tests/data/clip-tiny") as with_clip:
        inspection = anomaly.inspect(with_clip, tmp_path / "part.png", texts=["a stain", "a hole"])
        assert inspection.defects.prompts.tolist() == [0, 1]
        assert len(salient_object.salient_object(with_clip, tmp_path / "part.png")) == 1


def test_anomaly_as_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    image, _ = part_with_defects()
    cv2.imwrite(str(tmp_path / "part.png"), image[..., ::-1])
    output = tmp_path / "defects.png"
    said = _run(
        monkeypatch, capsys, anomaly.main, str(tmp_path / "part.png"), "--points", "330,290", "--output", str(output)
    )
    assert "defect of " in said and "% of the image is bad" in said
    assert load_image(output).shape == image.shape


def test_the_salient_object_is_cut_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    image, mask = object_that_stands_out()
    cv2.imwrite(str(tmp_path / "photo.png"), image[..., ::-1])
    output = tmp_path / "object.png"
    _run(monkeypatch, capsys, salient_object.main, str(tmp_path / "photo.png"), "--output", str(output))
    cut = cv2.imread(str(output), cv2.IMREAD_UNCHANGED)
    assert cut.shape[2] == 4 and abs((cut[..., 3] > 0).sum() / mask.sum() - 1) < 0.1
    rows, columns = np.nonzero(mask)
    assert np.abs(np.array(cut.shape[:2]) - (np.ptp(rows) + 1, np.ptp(columns) + 1)).max() <= 6
    assert cut[cut[..., 3] > 0][:, 2].mean() > 180, "red"


def _large_town() -> tuple[np.ndarray, np.ndarray, int]:
    """2 x 2 towns, the union of all roofs, and how many there are."""
    image, masks = town()
    return np.tile(image, (2, 2, 1)), np.tile(np.any(masks, axis=0), (2, 2)), 4 * len(masks)


def test_buildings_are_on_the_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A GeoTIFF with a turned grid of half a metre: the polygons, drawn in its coordinates, are the roofs."""
    rasterio = pytest.importorskip("rasterio", reason="needs the extra [geo]")
    from rasterio.features import rasterize

    image, roofs, count = _large_town()
    turn = np.deg2rad(-20)
    place = rasterio.Affine(
        0.5 * np.cos(turn), -0.5 * np.sin(turn), 465_000, 0.5 * np.sin(turn), 0.5 * np.cos(turn), 5_249_000
    )
    path, output = tmp_path / "city.tif", tmp_path / "buildings.geojson"
    height, width = roofs.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=3, dtype="uint8", crs="EPSG:32633", transform=place
    ) as dataset:
        dataset.write(image.transpose(2, 0, 1))
    said = _run(monkeypatch, capsys, buildings.main, str(path), "--tiles", str(TILE), "--output", str(output))
    document = json.loads(output.read_text(encoding="utf-8"))
    assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633" in said
    features = document["features"]
    assert count * 0.95 <= len(features) <= count * 1.1
    drawn = rasterize([feature["geometry"] for feature in features], out_shape=(height, width), transform=place)
    assert iou(drawn > 0, roofs) > 0.85
    areas = [feature["properties"]["area"] for feature in features]
    assert sum(areas) == pytest.approx(roofs.sum() * 0.25, rel=0.15), "square metres"


def test_buildings_of_an_image_without_a_place(model: FastSAM):
    image, masks = town()
    found = buildings.buildings(model.segment(image))
    assert [max(iou(mask, part) for part in found.masks) > 0.8 for mask in masks] == [True] * len(masks)
    document = buildings.geojson(found, buildings.Place.of(EXAMPLES / "images/coffee.jpg"))
    assert "crs" not in document and len(document["features"]) == len(found)
    ring = np.array(document["features"][0]["geometry"]["coordinates"][0][0])
    assert (ring[0] == ring[-1]).all() and ring.min() >= 0 and ring.max() <= 640
