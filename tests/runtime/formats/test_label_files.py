"""YOLO, labelme, label map and CSV files of real photographs, opened by the programs that they are for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy.runtime import FastSAM, Masks, ParameterError, Segments
from fastsam_deploy.runtime.formats import labelmap
from fastsam_deploy.runtime.masks.centre_lines import centre_lines
from tests.data.segments import make


@pytest.fixture(scope="module", params=["cat", "coffee"])
def answer(request: pytest.FixtureRequest) -> tuple[Path, Segments]:
    """A photograph and everything in it."""
    path: Path = request.getfixturevalue(request.param)
    with FastSAM(conf=0.25) as model:
        return path, model.segment(path)


def _iou(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def _loaded_by_ultralytics(folder: Path, photo: Path, lines: list[str]) -> tuple[list[NDArray], list[NDArray]]:
    """The polygons of a data set's only label file, in [0, 1], and the masks that training would see."""
    dataset = pytest.importorskip("ultralytics.data.dataset")
    from ultralytics.data.utils import polygon2mask

    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    shutil.copy(photo, folder / "images/a.jpg")
    (folder / "labels/a.txt").write_text("\n".join(lines))
    data = {"names": {0: "object"}, "nc": 1, "channels": 3}
    (label,) = dataset.YOLODataset(img_path=str(folder / "images"), data=data, task="segment", augment=False).labels
    height, width = label["shape"]
    scaled = [segment * np.float32([width, height]) for segment in label["segments"]]
    return label["segments"], [polygon2mask((height, width), [segment.ravel()]) > 0 for segment in scaled]


def test_yolo_labels_come_back_through_ultralytics_loader(answer, tmp_path: Path):
    photo, segments = answer
    polygons, masks = _loaded_by_ultralytics(tmp_path / "ours", photo, segments.to_yolo())
    assert len(polygons) == len(segments) > 20
    ious = np.array([_iou(mask, segments.masks.full(i)) for i, mask in enumerate(masks)])
    assert ious.mean() >= 0.97  # parts joined by lines: some masks have dozens
    single = [i for i, parts in enumerate(centre_lines(segments.masks)) if len(parts) == 1 and not parts[0].holes]
    assert single and (ious[single] == 1).all()  # one polygon: exact to the pixel
    segments.save(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text().splitlines() == segments.to_yolo()


def test_no_yolo_label_is_farther_from_its_mask_than_that_of_ultralytics(answer, tmp_path: Path):
    """Whose labels have no holes; parts are joined in the same manner."""
    ops = pytest.importorskip("ultralytics.utils.ops")
    photo, segments = answer
    height, width = segments.image_hw
    dense = segments.masks.dense()
    lines = [
        " ".join(["0", *(f"{side:.6g}" for side in (polygon / np.float32([width, height])).ravel())])
        for polygon in ops.masks2segments(dense.astype(np.uint8), strategy="all")
    ]
    _, theirs = _loaded_by_ultralytics(tmp_path / "theirs", photo, lines)
    _, ours = _loaded_by_ultralytics(tmp_path / "ours", photo, segments.to_yolo())
    our_ious, their_ious = (np.array([*map(_iou, masks, dense)]) for masks in (ours, theirs))
    assert (our_ious > their_ious - 0.02).all()
    assert 1 - our_ious.mean() < 0.3 * (1 - their_ious.mean())


def test_simplified_labels_are_short_and_still_fit(answer, tmp_path: Path):
    photo, segments = answer
    lines = segments.to_yolo(tolerance_px=1)
    assert len("".join(lines)) < 0.8 * len("".join(segments.to_yolo()))
    _, masks = _loaded_by_ultralytics(tmp_path / "short", photo, lines)
    assert np.mean([_iou(mask, segments.masks.full(i)) for i, mask in enumerate(masks)]) > 0.95
    with pytest.raises(ParameterError, match="tolerance_px is -1, expected 0 or more"):
        segments.to_yolo(tolerance_px=-1)


def test_a_mask_without_pixels_has_no_line():
    segments = make.segments()
    lines = segments.to_yolo()
    assert [line.split()[0] for line in lines] == ["0", "1", "0"] and (segments.areas == 0).tolist().count(True) == 1
    assert all(len(line.split()) >= 7 for line in lines)  # ultralytics takes fewer values for a box


@pytest.mark.parametrize("rows", [["1"], ["101"], ["1", "0", "1"], ["111", "101", "111"], ["11111", "10101", "11111"]])
def test_small_masks_are_drawn_exactly(rows: list[str]):
    dense = np.array([[int(pixel) for pixel in row] for row in rows], np.uint8)
    (parts,) = centre_lines(Masks.from_dense(dense[None]))
    drawn = np.zeros_like(dense)
    for part in parts:
        cv2.fillPoly(drawn, [ring.astype(np.int32) for ring in part.rings], 1)
    np.testing.assert_array_equal(drawn, dense)


@pytest.mark.parametrize("shapes", ["polygons", "masks"])
def test_labelme_reads_its_files_and_draws_the_same_pixels(answer, tmp_path: Path, shapes: str):
    label_file = pytest.importorskip("labelme._label_file")
    shape_tools = pytest.importorskip("labelme.utils.shape")
    photo, segments = answer
    shutil.copy(photo, tmp_path / photo.name)
    segments.save(tmp_path / "a.json", format="labelme", image_path=photo.name, shapes=shapes)
    loaded = label_file.LabelFile(str(tmp_path / "a.json"))
    assert loaded.image_path == photo.name and loaded.image_data == photo.read_bytes()
    assert {shape["label"] for shape in loaded.shapes} == {"object"}
    for i, mask in enumerate(segments.masks):
        own = [shape for shape in loaded.shapes if shape["group_id"] == i]
        _, drawn = shape_tools.shapes_to_label(segments.image_hw, own, {"object": 1})
        np.testing.assert_array_equal(drawn > 0, mask)
        assert own[0]["other_data"]["score"] == pytest.approx(float(segments.scores[i]), abs=1e-6)


def test_labelme_document_is_what_its_own_writer_writes(answer, tmp_path: Path):
    label_file = pytest.importorskip("labelme._label_file")
    photo, segments = answer
    height, width = segments.image_hw
    ours = segments.to_labelme(photo.name)
    shapes = [{name: value for name, value in shape.items() if name != "score"} for shape in ours["shapes"]]
    label_file.write_label_file(
        str(tmp_path / "theirs.json"), shapes=shapes, image_path=photo.name, image_height=height, image_width=width
    )
    theirs = json.loads((tmp_path / "theirs.json").read_text())
    assert list(ours) == list(theirs)
    assert {**theirs, "version": ours["version"]} == {**ours, "shapes": shapes}
    with pytest.raises(ParameterError, match="shapes is 'boxes', expected one of polygons, masks"):
        segments.to_labelme(photo.name, shapes="boxes")


def test_a_label_map_is_a_png_of_16_bits_in_the_order_of_scores(answer, tmp_path: Path):
    _, segments = answer
    shuffled = segments[np.random.default_rng(0).permutation(len(segments))]
    shuffled.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "I;16"
        read = np.asarray(image)
    np.testing.assert_array_equal(read, shuffled.to_label_map())
    assert read.dtype == np.uint16 and read.shape == segments.image_hw
    rank = np.argsort(-shuffled.scores, kind="stable")
    smallest = int(shuffled.areas.argmin())
    number = int(np.flatnonzero(rank == smallest)[0]) + 1
    np.testing.assert_array_equal(read == number, shuffled.masks.full(smallest))
    np.testing.assert_array_equal(read > 0, segments.masks.dense().any(0))
    for i, row in enumerate(rank):
        assert not (read == i + 1)[~shuffled.masks.full(int(row))].any()


def test_a_label_map_holds_more_than_255_segments_and_says_how_many_it_can(monkeypatch: pytest.MonkeyPatch):
    masks = Masks.from_dense(np.eye(300)[:, None])
    scores = np.linspace(1, 0.1, 300, dtype=np.float32)
    segments = Segments.unprompted(masks.boxes_xyxy(), scores, np.zeros(300, np.int64), masks)
    assert segments.to_label_map()[0].tolist() == list(range(1, 301))
    monkeypatch.setattr(labelmap, "MAX_SEGMENTS", 299)
    with pytest.raises(ParameterError, match="300 segments, expected at most 299"):
        segments.to_label_map()


def test_pandas_reads_the_csv_as_the_data_frame(answer, tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    _, segments = answer
    segments.save(tmp_path / "a.csv")
    read = pandas.read_csv(tmp_path / "a.csv")
    frame = segments.to_dataframe()
    pandas.testing.assert_frame_equal(read, frame, check_dtype=False)
    np.testing.assert_allclose(frame[["x1", "y1", "x2", "y2"]], segments.boxes_xyxy, atol=1e-3)
    np.testing.assert_array_equal(frame["area"], segments.areas)


def test_csv_of_prompted_segments_and_of_names_with_commas(tmp_path: Path):
    segments = make.segments()
    segments = Segments.unprompted(
        segments.boxes_xyxy, segments.scores, segments.classes, segments.masks, ('a, "b"', "Hündin")
    ).answering([0, -1, 2, 1], [0.25, np.nan, 1, 0.5])
    segments.save(tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_bytes().decode("utf-8").split("\r\n")
    assert lines[1] == '0,0,"a, ""b""",0.9,10.5,1.25,30.0,21.0,285,0,0.25,'
    assert lines[2].endswith(",,,") and "Hündin" in lines[2]


def test_options_that_a_format_has_not_are_refused(tmp_path: Path):
    segments = make.segments()
    with pytest.raises(ParameterError, match=r"a\.txt: option 'polygons'; options of yolo: tolerance_px"):
        segments.save(tmp_path / "a.txt", polygons=True)
    with pytest.raises(ParameterError, match=r"a\.csv: option 'columns'; options of csv: none"):
        segments.save(tmp_path / "a.csv", columns=3)
    with pytest.raises(ParameterError, match="options of coco: file_name, boxes, polygons, tolerance_px"):
        segments.save(tmp_path / "a.json", format="coco", image="b.jpg")
    segments.save(tmp_path / "a.json", format="coco", file_name="b.jpg", boxes="masks", polygons=True)
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["images"][0]["file_name"] == "b.jpg"
    assert document["annotations"] == json.loads(json.dumps(segments.to_coco(0, boxes="masks", polygons=True)))
    assert not [path for path in tmp_path.iterdir() if path.name != "a.json"]
