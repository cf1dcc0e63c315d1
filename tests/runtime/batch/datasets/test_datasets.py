"""Data sets that the command writes, opened by the programs that they are for."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from fastsam_deploy.runtime import FastSAM, Segments, load_image
from fastsam_deploy.runtime.batch import datasets, pictures
from fastsam_deploy.runtime.cli.choices import DatasetFormat, PictureType
from tests.command_line import run_fastsam

FAST = ("--imgsz", "320", "--threads", "1", "--conf", "0.2")
NAMES = ("a/x", "b/x", "cat", "coffee")

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coffee: Path, cat: Path) -> dict[str, Path]:
    """Name of the outputs → image. Two have one name, and one is turned by EXIF."""
    monkeypatch.chdir(tmp_path)
    paths = [Path("photos", name) for name in ("a/x.jpg", "b/x.png", "cat.jpg", "coffee.jpg")]
    for path in paths:
        path.parent.mkdir(exist_ok=True, parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(coffee).save(paths[0], exif=exif, quality=95)
    Image.open(cat).rotate(180).save(paths[1])
    shutil.copy(cat, paths[2])
    shutil.copy(coffee, paths[3])
    return dict(zip(NAMES, paths, strict=True))


@pytest.fixture
def segment(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: str) -> tuple[int, str]:
        code = run_fastsam(monkeypatch, "segment", *arguments, *FAST)
        return code, capfd.readouterr().err

    return run


@pytest.fixture(scope="module")
def model(demo_onnx: Path) -> Any:
    with FastSAM(demo_onnx, imgsz=320, threads=1, conf=0.2) as opened:
        yield opened


FOLDERS = ("photos/a", "photos/b", "photos")


def ious(ours: Segments, theirs: list[np.ndarray]) -> np.ndarray:
    assert len(ours) == len(theirs)
    pairs = zip(ours.masks.dense(), (np.asarray(mask, bool) for mask in theirs), strict=True)
    return np.array([(mask & other).sum() / (mask | other).sum() for mask, other in pairs])


@pytest.mark.parametrize("options", [(), ("--polygons",)], ids=["RLE", "polygons"])
def test_coco_is_one_file_that_pycocotools_reads(
    photos: dict[str, Path], segment: Command, model: FastSAM, options: tuple[str, ...]
) -> None:
    code, err = segment(*FOLDERS, "--format", "coco", "-o", "set", *options)
    assert code == 0, err
    assert err.endswith("fastsam: 4 done, 0 failed, 0 skipped → set (annotations.json)\n")
    coco = COCO("set/annotations.json")
    assert [image["file_name"] for image in coco.dataset["images"]] == ["a/x.jpg", "b/x.png", "cat.jpg", "coffee.jpg"]
    assert coco.dataset["info"]["image_root"] == "../photos"
    assert coco.dataset["categories"] == [{"id": 1, "name": "object"}]
    annotations = coco.dataset["annotations"]
    assert [annotation["id"] for annotation in annotations] == list(range(1, len(annotations) + 1))
    for image in coco.loadImgs(coco.getImgIds()):
        path = Path("set", coco.dataset["info"]["image_root"], image["file_name"])
        segments = model.segment(path)
        assert (image["height"], image["width"]) == segments.image_hw
        found = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert (ious(segments, [coco.annToMask(annotation) for annotation in found]) == 1).all()
        np.testing.assert_allclose([annotation["score"] for annotation in found], segments.scores, atol=1e-6)
        x1, y1, x2, y2 = segments.masks.boxes_xyxy().T
        np.testing.assert_allclose([a["bbox"] for a in found], np.stack([x1, y1, x2 - x1, y2 - y1], 1))
        assert all(isinstance(a["segmentation"], list) == bool(options) for a in found)


@pytest.mark.parametrize("kind", ["coco", "csv"])
def test_a_table_of_all_images_goes_on(photos: dict[str, Path], segment: Command, kind: str) -> None:
    """The ids of annotations and images too; the file is never a part of itself."""
    target = Path("set", {"coco": "annotations.json", "csv": "segments.csv"}[kind])
    assert segment(*FOLDERS, "--format", kind, "-o", "set")[0] == 0
    whole = target.read_bytes()
    shutil.rmtree("set")
    assert segment("photos/a", "photos/b", "--format", kind, "-o", "set")[0] == 0
    first = target.read_bytes()
    Path("photos/broken.jpg").write_bytes(Path("photos/cat.jpg").read_bytes()[:9000])
    code, err = segment(*FOLDERS, "--format", kind, "-o", "set", "--resume")
    assert code == 2
    assert f"fastsam: 2 done, 1 failed, 2 skipped → set ({target.name})" in err
    assert target.read_bytes() == whole != first
    Path("photos/broken.jpg").unlink()
    assert segment(*FOLDERS, "--format", kind, "-o", "set", "--resume")[0] == 0
    assert target.read_bytes() == whole
    code, err = segment(*FOLDERS, "--format", kind, "-o", "set", "--resume", "--max-det", "5")
    assert code == 2 and "max_det was 300, now 5" in err
    assert target.read_bytes() == whole


def test_the_records_of_json_serve_a_data_set_too(photos: dict[str, Path], segment: Command) -> None:
    assert segment(*FOLDERS, "--format", "coco", "-o", "set", "--json", "out.jsonl")[0] == 0
    assert [path.name for path in Path("set").iterdir()] == ["annotations.json"]
    records = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    count = sum(len(record["segments"]) for record in records)
    assert len(json.loads(Path("set/annotations.json").read_text())["annotations"]) == count > 20


def test_csv_is_a_table_over_all_images(photos: dict[str, Path], segment: Command, model: FastSAM) -> None:
    assert segment(*FOLDERS, "--format", "csv", "-o", "set")[0] == 0
    with Path("set/segments.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for path in photos.values():
        segments = model.segment(path)
        mine = [row for row in rows if row["image"] == str(path)]
        assert [int(row["area"]) for row in mine] == segments.areas.tolist()
    assert len({row["image"] for row in rows}) == 4


@pytest.mark.export
@pytest.mark.parametrize("options", [(), ("--copy-images",)], ids=["links", "copies"])
def test_yolo_is_read_by_the_loader_of_ultralytics(
    photos: dict[str, Path], segment: Command, model: FastSAM, options: tuple[str, ...]
) -> None:
    pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    shutil.copy("photos/cat.jpg", "photos/j2.jpg")
    Image.open("photos/cat.jpg").save("photos/j2.jp2", quality_mode="rates", quality_layers=[0])
    code, err = segment(*FOLDERS, "--format", "yolo", "-o", "set", *options)
    assert code == 0, err
    assert err.endswith("fastsam: 6 done, 0 failed, 0 skipped → set (12 yolo files, data.yaml)\n")
    assert Path("set/images/cat.jpg").is_symlink() == (not options)
    assert not Path("set/images/j2.jp2.png").is_symlink(), "decoded here, as not every version of ultralytics reads it"
    Path("moved").mkdir()
    shutil.move("set", "moved/set")
    described = check_det_dataset("moved/set/data.yaml", autodownload=False)
    assert described["names"] == {0: "object"}
    dataset = YOLODataset(described["train"], data=described, task="segment", augment=False, imgsz=640)
    assert len(dataset) == 6
    for label in dataset.labels:
        path = Path(label["im_file"])
        pixels = load_image(path)
        height, width = pixels.shape[:2]
        assert tuple(label["shape"]) == (height, width)
        segments = model.segment(pixels)
        rings = [np.round(ring * (width, height) - 0.5).astype(np.int32) for ring in label["segments"]]
        masks = [cv2.fillPoly(np.zeros((height, width), np.uint8), [ring], 1) for ring in rings]
        assert ious(segments, masks).mean() > 0.99
        lost = [mask & ~read.astype(bool) for mask, read in zip(segments.masks.dense(), masks, strict=True)]
        assert not np.any(lost), "there are only the lines, of one pixel, that join parts"


def test_an_image_without_segments_is_background(photos: dict[str, Path], segment: Command) -> None:
    assert segment("photos/cat.jpg", "--max-det", "1", "--points", "[[1,1]]", "--format", "yolo", "-o", "set")[0] == 0
    assert Path("set/labels/cat.txt").read_bytes() == b""


def test_yolo_leaves_images_that_are_in_their_place(photos: dict[str, Path], segment: Command) -> None:
    Path("set").mkdir()
    Path("photos").rename("set/images")
    before = {path: path.read_bytes() for path in Path("set/images").rglob("*") if path.is_file()}
    code, err = segment("set/images/a", "set/images/b", "set/images", "--format", "yolo", "-o", "set")
    assert code == 0, err
    assert {path: path.read_bytes() for path in Path("set/images").rglob("*") if path.is_file()} == before
    assert sorted(str(path.relative_to("set/labels")) for path in Path("set/labels").rglob("*.txt")) == [
        f"{name}.txt" for name in NAMES
    ]


@pytest.mark.parametrize("first", [(), ("--copy-images",)])
@pytest.mark.parametrize("second", [(), ("--copy-images",)])
def test_yolo_is_written_again_over_what_is_there(
    first: tuple[str, ...], second: tuple[str, ...], photos: dict[str, Path], segment: Command
) -> None:
    """Links of an earlier run lead to the inputs, and are no inputs themselves."""
    before = Path("photos/cat.jpg").read_bytes()
    for options in (first, second):
        assert segment("photos/cat.jpg", "--format", "yolo", "-o", "set", *options)[0] == 0
        assert Path("set/images/cat.jpg").is_symlink() is not bool(options)
        assert Path("set/images/cat.jpg").read_bytes() == before
    assert Path("photos/cat.jpg").read_bytes() == before and not Path("photos/cat.jpg").is_symlink()
    assert not list(Path("set").rglob(".fs-*"))


def test_yolo_leaves_links_that_are_the_inputs(photos: dict[str, Path], segment: Command) -> None:
    before = Path("photos/cat.jpg").read_bytes()
    for options in ((), ("--copy-images",)):
        assert segment("photos/cat.jpg", "--format", "yolo", "-o", "set")[0] == 0
        assert segment("set/images/cat.jpg", "--format", "yolo", "-o", "set", *options)[0] == 0
        assert Path("set/images/cat.jpg").read_bytes() == before


def test_pixels_that_were_chosen_are_those_of_the_data_set(photos: dict[str, Path], segment: Command) -> None:
    assert segment("photos/cat.jpg", "--bands", "3,2,1", "--format", "yolo", "-o", "set")[0] == 0
    np.testing.assert_array_equal(load_image("set/images/cat.png"), load_image("photos/cat.jpg")[..., ::-1])


@pytest.mark.parametrize(("kind", "suffix"), [("json", ".json"), ("npz", ".npz")])
def test_files_of_images_are_read_back(
    photos: dict[str, Path], segment: Command, model: FastSAM, kind: str, suffix: str
) -> None:
    assert segment(*FOLDERS, "--format", kind, "-o", "set")[0] == 0
    for name, path in photos.items():
        np.testing.assert_array_equal(
            Segments.load(f"set/{name}{suffix}").masks.dense(), model.segment(path).masks.dense()
        )


def test_a_labelme_file_names_the_image_from_its_own_folder(photos: dict[str, Path], segment: Command) -> None:
    assert segment(*FOLDERS, "--format", "labelme", "-o", "set")[0] == 0
    for name, path in photos.items():
        file = Path("set", f"{name}.json")
        content = json.loads(file.read_text())
        assert (file.parent / content["imagePath"]).samefile(path)
        assert content["shapes"]


def test_a_label_map_has_the_numbers_of_the_scores(photos: dict[str, Path], segment: Command, model: FastSAM) -> None:
    assert segment(*FOLDERS, "--format", "labelmap", "-o", "set")[0] == 0
    for name, path in photos.items():
        labels = cv2.imread(f"set/{name}.png", cv2.IMREAD_UNCHANGED)
        segments = model.segment(path)
        assert labels.dtype == np.uint16 and labels.shape == segments.image_hw
        np.testing.assert_array_equal(labels, segments.to_label_map())
    code, err = segment("photos", "--format", "labelmap", "-o", "photos")
    assert code == 2 and "label maps would be taken for images" in err


def test_pictures_of_each_kind_and_type(photos: dict[str, Path], segment: Command, model: FastSAM) -> None:
    code, err = segment(
        "photos/cat.jpg", "--save", "crops,cutouts", "--save", "overlay", "--picture-type", "png", "-o", "o"
    )
    assert code == 0
    segments, pixels = model.segment("photos/cat.jpg"), load_image("photos/cat.jpg")
    count = len(segments)
    assert err.endswith(f"fastsam: 1 done, 0 failed, 0 skipped → o (1 overlay, {count} cutouts, {count} crops)\n")
    for i, (x1, y1, x2, y2) in enumerate(segments.masks.boxes_xyxy().astype(int).tolist()):
        np.testing.assert_array_equal(load_image(f"o/cat.crops/{i:03d}.png"), pixels[y1:y2, x1:x2])
        assert cv2.imread(f"o/cat.cutouts/{i:03d}.png", cv2.IMREAD_UNCHANGED).shape == (y2 - y1, x2 - x1, 4)
    assert load_image("o/cat.overlay.png").shape == pixels.shape
    assert segment("photos/cat.jpg", "--save", "crops,overlay", "--picture-type", "webp", "-o", "o")[0] == 0
    assert {path.suffix for path in Path("o/cat.crops").iterdir()} == {".webp"}, "those of the first run are gone"
    assert Image.open("o/cat.overlay.webp").format == "WEBP"
    assert segment("photos/cat.jpg", "--save", "masks", "-o", "p")[0] == 0
    assert [path.name for path in Path("p").iterdir()] == ["cat.masks"]
    assert segment("photos/cat.jpg", "--format", "npz", "--masks", "-o", "q")[0] == 0
    assert sorted(path.name for path in Path("q").iterdir()) == ["cat.masks", "cat.npz"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--save", "overlay,mask"), "pictures 'mask', expected some of overlay, masks, cutouts, crops"),
        (("--polygons",), "--polygons without --format; add --format coco"),
        (("--copy-images", "--format", "coco"), "format is 'coco', which has no copies of images; expected 'yolo'"),
        (("--polygons", "--format", "yolo"), "format is 'yolo', which has no polygons; expected 'coco'"),
    ],
)
def test_what_does_not_go_together(
    photos: dict[str, Path], segment: Command, options: tuple[str, ...], message: str
) -> None:
    code, err = segment("photos", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


def test_the_command_has_all_data_sets_and_types() -> None:
    assert {kind.value for kind in DatasetFormat} == set(datasets.KINDS)
    assert tuple(kind.value for kind in PictureType) == pictures.TYPES
