"""Data sets made of parts: what `fastsam segment` writes for the same images, and what other programs read."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from fastsam_deploy.runtime import Segments
from fastsam_deploy.runtime.batch import read
from fastsam_deploy.runtime.batch.datasets import DatasetOptions
from fastsam_deploy.runtime.batch.parts.export import export_dataset
from tests.batch_runs import FAST, run_inline, write_photographs
from tests.command_line import run_fastsam

pytest.importorskip("pyarrow", reason="the extra [batch]")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five photographs, two of them with one stem, one damaged; and the parts of a run over them."""
    monkeypatch.chdir(tmp_path)
    write_photographs(Path("photos"), 4)
    (Path("photos/second/00000.jpg")).write_bytes(Path("photos/first/00001.jpg").read_bytes())
    (Path("photos/second/00009.jpg")).write_bytes(b"\xff\xd8\xff damaged")
    run_inline("photos", "out")
    return tmp_path


def segmented(monkeypatch: pytest.MonkeyPatch, kind: str) -> Path:
    """The same data set by `fastsam segment`, which fails for the damaged image."""
    code = run_fastsam(monkeypatch, "segment", "photos", "-r", "--format", kind, "-o", f"expected-{kind}", *FAST)
    assert code == 2
    return Path(f"expected-{kind}")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.name[0] != "."}


@pytest.mark.parametrize("polygons", [False, True])
def test_coco_is_what_pycocotools_reads(photos: Path, monkeypatch: pytest.MonkeyPatch, polygons: bool) -> None:
    (path,) = export_dataset("out", "coco", Path("set"), DatasetOptions(polygons=polygons))
    coco = COCO(path)
    assert [image["file_name"] for image in coco.loadImgs(sorted(coco.getImgIds()))] == [
        "first/00000.jpg", "first/00001.jpg", "second/00000.jpg", "second/00002.jpg", "second/00003.jpg",
    ]  # fmt: skip
    if not polygons:
        expected = json.loads((segmented(monkeypatch, "coco") / "annotations.json").read_text())
        written = json.loads(path.read_text())
        assert expected["info"].pop("image_root") == written["info"].pop("image_root") == "../photos"
        assert written == expected


@pytest.mark.parametrize("kind", ["yolo", "csv"])
def test_other_kinds_are_what_segment_writes(photos: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    export_dataset("out", kind, Path("set"))
    expected, written = contents(segmented(monkeypatch, kind)), contents(Path("set"))
    if kind == "csv":
        assert {name: text.replace(f"{photos}/".encode(), b"") for name, text in written.items()} == expected
    else:
        assert written == expected
        assert all(path.is_symlink() for path in Path("set/images").rglob("*.jpg"))


def test_yolo_of_a_shard_has_copies_and_is_read_by_the_loader_of_ultralytics(photos: Path) -> None:
    pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    with tarfile.open("train-000.tar", "w") as tar:
        tar.add("photos/first/00000.jpg", "0001.jpg")
        tar.add("photos/first/00001.jpg", "0002.jpg")
    run_inline("train-000.tar", "shards")
    export_dataset("shards", "yolo", Path("set"))
    images = sorted(Path("set/images").rglob("*.jpg"))
    assert len(images) == 2 and not any(path.is_symlink() for path in images)
    described = check_det_dataset("set/data.yaml")
    data: Any = YOLODataset(described["train"], data=described, task="segment", augment=False)
    counts = [len(image.result()[image.result().areas > 0]) for image in read("shards")]
    assert [len(label["cls"]) for label in data.labels] == counts and all(counts)


def test_segments_come_back_as_they_were(photos: Path) -> None:
    """Through Parquet and back: every value, also those of prompts."""
    from fastsam_deploy.runtime import FastSAM, Points

    prompts = '[{"points": [[20, 20], [60, 60]], "mode": "each"}]'
    run_inline("photos", "prompted", prompts=prompts)
    with FastSAM(imgsz=64, conf=0.05, threads=1) as model:
        for output, prompt in (("out", None), ("prompted", Points([[20, 20], [60, 60]], mode="each"))):
            images = [image for image in read(output) if image.error is None]
            assert len(images) == 5
            for image in images:
                segments = image.result()
                assert isinstance(segments, Segments) and segments == model.segment(image.path, prompt)


def test_arrow_has_the_columns_that_are_documented(photos: Path) -> None:
    results = read("out")
    table = results.to_arrow()
    assert len(results) == table.num_rows == 6
    page = Path(__file__).resolve().parents[4] / "docs/million.md"
    text = page.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in table.schema.names)
    assert table.schema.metadata[b"fastsam.format"] == b"1"
    assert json.loads(table.schema.metadata[b"fastsam.settings"])["conf"] == 0.05
    assert results.to_arrow(["id", "error"]).column_names == ["id", "error"]
    (failed,) = [row for row in table.to_pylist() if row["error"]]
    assert failed["id"] == "second/00009.jpg" and failed["sha256"] and failed["rle"] is None
    with pytest.raises(Exception, match=r"columns are \['mask'\]"):
        results.to_arrow(["mask"])
