"""The result type: validation, slicing, COCO, files."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from fastsam_deploy.runtime.errors import FastSamError, MissingDependencyError, ParameterError
from fastsam_deploy.runtime.masks.store import Masks
from fastsam_deploy.runtime.segments import Segments
from fastsam_deploy.runtime.wire.answer import answer_tensors, answers_from_tensors


@pytest.fixture
def three() -> Segments:
    dense = np.zeros((3, 20, 30), np.bool_)
    dense[0, 2:8, 3:9] = dense[1, 0:20, 10:30] = dense[2, 19, 29] = True
    boxes = np.array([[3, 2, 9, 8], [10, 0, 30, 20], [29, 19, 30, 20]], np.float32)
    return Segments.unprompted(
        boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 0]), Masks.from_dense(dense), ("cat", "dog")
    )


def _same(a: Segments, b: Segments, tolerance: float = 0.0) -> None:
    np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=tolerance)
    np.testing.assert_allclose(a.scores, b.scores, atol=tolerance)
    np.testing.assert_array_equal(a.classes, b.classes)
    np.testing.assert_array_equal(a.prompts, b.prompts)
    np.testing.assert_allclose(a.fits, b.fits, atol=tolerance)
    np.testing.assert_array_equal(a.masks.dense(), b.masks.dense())
    assert (a.image_hw, a.class_names) == (b.image_hw, b.class_names)


def test_rows_belong_together(three):
    with pytest.raises(ValueError, match=r"scores \(2,\), expected \(3,\)"):
        Segments.unprompted(three.boxes_xyxy, three.scores[:2], three.classes, three.masks)


def test_slicing_keeps_rows_together(three):
    for rows, expected in (
        (slice(None, None, -1), [2, 1, 0]),
        (1, [1]),
        (np.int64(2), [2]),
        ([True, False, True], [0, 2]),
    ):
        part = three[rows]
        assert part.scores.tolist() == three.scores[expected].tolist()
        np.testing.assert_array_equal(part.masks.dense(), three.masks.dense()[expected])
    assert len(three[[]]) == 0 and three[[]].image_hw == (20, 30)
    with pytest.raises(IndexError):
        three[3]


def test_empty_goes_everywhere(tmp_path):
    nothing = Segments.empty((7, 5))
    assert nothing.to_coco() == [] and nothing.masks.dense().shape == (0, 7, 5) and nothing.masks.polygons() == []
    for suffix in (".json", ".npz"):
        nothing.save(tmp_path / f"x{suffix}")
        _same(Segments.load(tmp_path / f"x{suffix}"), nothing)


def test_coco_annotations_are_read_by_pycocotools(three, tmp_path):
    from pycocotools.coco import COCO

    rows = three.to_coco(image_id=7)
    document = {
        "info": {},
        "images": [{"id": 7, "height": 20, "width": 30}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": json.loads(json.dumps(rows)),
    }
    (tmp_path / "coco.json").write_text(json.dumps(document))
    coco = COCO(str(tmp_path / "coco.json"))
    for annotation, mask, area in zip(coco.loadAnns(coco.getAnnIds(7)), three.masks, three.areas, strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == area
    assert rows[0]["bbox"] == [3, 2, 6, 6] and [row["category_id"] for row in rows] == [1, 2, 1]


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_files_come_back(three, tmp_path, suffix):
    answered = three.answering([0, -1, 5], [0.5, np.nan, 1])
    answered.save(tmp_path / f"x{suffix}")
    _same(Segments.load(tmp_path / f"x{suffix}"), answered, tolerance=1e-6)


def test_json_is_plain(three):
    row = json.loads(json.dumps(three.to_json()))["segments"][0]
    assert row["bbox"] == [3, 2, 6, 6] and row["prompt"] is None and row["fit"] is None and row["area"] == 36


def test_what_is_no_segments_file_is_refused(three, tmp_path):
    three.save(tmp_path / "good.npz")
    three.save(tmp_path / "good.json")
    damaged = {
        "cut.npz": (tmp_path / "good.npz").read_bytes()[:300],
        "cut.json": (tmp_path / "good.json").read_bytes()[:300],
        "empty.npz": b"",
        "other.json": b'{"segments": 3}',
        "binary.json": b"\xff\xfe\x00",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FastSamError, match=r"expected|Segments\.save"):
            Segments.load(tmp_path / name)
    np.savez(tmp_path / "foreign.npz", a=1)
    for name in ("foreign.npz", "absent.json", "x.txt"):
        with pytest.raises(FastSamError):
            Segments.load(tmp_path / name)
    with pytest.raises(FastSamError, match="suffix"):
        three.save(tmp_path / "x.gif")


def test_equal_are_the_same_values_and_pixels(three):
    again = three[:]
    assert three == again and three == replace(again, timing_ms={"decode": 1.0})
    wide = replace(three, masks=three.masks.with_margin(3))
    assert wide == three, "how wide a crop is does not count"
    assert np.isnan(three.fits).all() and three.answering([0, 1, 2], [np.nan, 1, 1]) == three.answering(
        [0, 1, 2], [np.nan, 1, 1]
    ), "NaN is equal to NaN"
    others = (
        three[:2],
        three[[1, 0, 2]],
        three.answering([0, 0, 0], [1, 1, 1]),
        replace(three, class_names=("cat", "cow")),
        replace(three, scores=three.scores + np.float32(0.01)),
        replace(three, masks=three.masks[[0, 1, 1]]),
        Segments.empty((20, 30)),
        "segments",
    )
    assert all(three != other for other in others)
    assert Segments.empty((20, 30), ("cat", "dog")) != Segments.empty((20, 31), ("cat", "dog"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(three)


def test_timing_that_is_filled_later_is_kept():
    timing: dict[str, float] = {}
    empty = Segments.empty((4, 5))
    segments = Segments.unprompted(empty.boxes_xyxy, empty.scores, empty.classes, empty.masks, timing_ms=timing)
    timing["masks"] = 3.0
    assert segments.timing_ms == {"masks": 3.0}


def test_coco_boxes_are_those_of_detections_or_of_masks(three):
    wider = replace(three, boxes_xyxy=np.tile(np.array([0, 0, 30, 20], np.float32), (3, 1)))
    assert [row["bbox"] for row in wider.to_coco()] == [[0, 0, 30, 20]] * 3
    extents = [[3, 2, 6, 6], [10, 0, 20, 20], [29, 19, 1, 1]]
    assert [row["bbox"] for row in wider.to_coco(boxes="masks")] == extents
    assert [row["id"] for row in wider.to_coco(7, 5, boxes="masks")] == [5, 6, 7]


def test_coco_polygons_are_read_by_pycocotools(three):
    from pycocotools import mask as coco

    for row, mask in zip(three.to_coco(polygons=True), three.masks, strict=True):
        read = coco.decode(coco.merge(coco.frPyObjects(row["segmentation"], *mask.shape))).astype(bool)
        np.testing.assert_array_equal(read, mask)
    nothing = replace(three[[0]], masks=Masks.from_dense(np.zeros((1, 20, 30))))
    assert nothing.to_coco(polygons=True)[0]["segmentation"] == nothing.masks.rle()[0], "it has no polygon"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"boxes": "mask"}, "one of detections, masks"),
        ({"tolerance_px": 1.0}, "polygons=True"),
        ({"polygons": True, "tolerance_px": -1.0}, "0 or more"),
        ({"polygons": True, "tolerance_px": float("nan")}, "0 or more"),
    ],
)
def test_settings_of_coco_are_checked(three, settings, says):
    with pytest.raises(ParameterError, match=says):
        three.to_coco(**settings)


def test_a_class_without_a_name_is_called_by_its_number(three, tmp_path):
    """Files of other exporters have lost their names: everything that names classes raised IndexError."""
    nameless = Segments.unprompted(three.boxes_xyxy, three.scores, np.array([0, 5, 2]), three.masks)
    assert nameless.class_names == ("object", "class1", "class2", "class3", "class4", "class5")
    assert nameless[[0]].class_names == nameless.class_names
    for suffix in (".json", ".npz"):
        nameless.save(tmp_path / f"x{suffix}")
        _same(Segments.load(tmp_path / f"x{suffix}"), nameless, 1e-3)
    nameless.save(tmp_path / "coco.json", format="coco")
    document = json.loads((tmp_path / "coco.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    assert [names[row["category_id"]] for row in document["annotations"]] == ["object", "class5", "class2"]
    (answer,) = answers_from_tensors(answer_tensors([nameless], ["bits"]), ("object",))
    assert answer.class_names == nameless.class_names
    if find_spec("supervision"):
        assert nameless.to_supervision().data["class_name"].tolist() == ["object", "class5", "class2"]


@pytest.mark.parametrize("number", [-1, 1 << 16, 10**12])
def test_class_numbers_that_cannot_be_are_refused(three, number):
    with pytest.raises(ValueError, match=f"class {number}; expected numbers from 0 to 65535"):
        replace(three, classes=np.array([0, number, 1]))
    document = three.to_json()
    document["segments"][1]["class"] = number
    with pytest.raises(FastSamError, match=f"class {number}"):
        Segments.from_json(document)


def test_supervision(three):
    try:
        import supervision
    except ImportError:
        with pytest.raises(MissingDependencyError, match="pip install"):
            three.to_supervision()
        return
    found = three.to_supervision()
    assert isinstance(found, supervision.Detections)
    np.testing.assert_array_equal(found.mask, three.masks.dense())
    assert found.data["class_name"].tolist() == ["cat", "dog", "cat"]
    assert len(Segments.empty((4, 4)).to_supervision()) == 0


def test_ids_of_tracks_go_everywhere(three, tmp_path):
    assert three.track_ids.tolist() == [-1, -1, -1] and "track_id" not in three.to_json()["segments"][0]
    tracked = replace(three, track_ids=np.array([7, 1, -1]))
    assert tracked[[2, 0]].track_ids.tolist() == [-1, 7]
    assert [row.get("track_id") for row in tracked.to_coco()] == [7, 1, None]
    for name in ("x.json", "x.npz"):
        tracked.save(tmp_path / name)
        assert Segments.load(tmp_path / name).track_ids.tolist() == [7, 1, -1]
    tracked.save(tmp_path / "x.csv")
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in lines] == ["track_id", "7", "1", ""]
    if find_spec("supervision") is not None:
        detections = tracked.to_supervision()
        assert detections.tracker_id.tolist() == [7, 1, -1] and three.to_supervision().tracker_id is None
        assert Segments.from_supervision(detections, (20, 30)) == tracked
    if find_spec("pandas") is not None:
        assert tracked.to_dataframe().track_id.tolist()[:2] == [7, 1]
    assert tracked != three and "track_id" in tracked._repr_html_()
    by_track, by_number = tracked[[0]].plot(color_by="track"), three[[0]].plot(color_by=[7])
    np.testing.assert_array_equal(by_track, by_number)
