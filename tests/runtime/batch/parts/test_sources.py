"""Where images come from: folders, patterns, tables, tar shards."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from fastsam_deploy.runtime.batch import read
from fastsam_deploy.runtime.batch.parts.sources.content import content_of, contents
from fastsam_deploy.runtime.batch.parts.sources.image import SourceImage
from fastsam_deploy.runtime.batch.parts.sources.search import source_images
from fastsam_deploy.runtime.errors import FastSamError, ImageError, ParameterError
from tests.batch_runs import run_inline, write_photographs

pa = pytest.importorskip("pyarrow", reason="the extra [batch]")
import pyarrow.parquet  # noqa: E402


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write_photographs(folder, 6)
    return folder


def ids(source: str | Path, exclude: Path | None = None) -> list[str]:
    return [image.id for image in source_images(str(source), None if exclude is None else str(exclude))]


ALL = [f"first/{i:05d}.jpg" for i in range(3)] + [f"second/{i:05d}.jpg" for i in range(3, 6)]


def test_a_folder_is_its_images_and_those_below(photos: Path) -> None:
    (photos / "notes.csv").write_text("who,what\n")  # somebody else's table
    (photos / ".hidden").mkdir()
    (photos / ".hidden/00009.jpg").write_bytes(b"")
    (photos / "first/00000.overlay.jpg").write_bytes(b"")
    out = photos / "out"
    write_photographs(out, 2)
    assert ids(photos, exclude=out) == ALL
    assert ids(f"file://{photos}", exclude=out) == ALL
    assert ids(photos / "first/00001.jpg") == ["00001.jpg"]


def test_a_pattern(photos: Path) -> None:
    assert ids(photos / "*/0000[1-4].jpg") == [
        "first/00001.jpg",
        "first/00002.jpg",
        "second/00003.jpg",
        "second/00004.jpg",
    ]
    assert ids(photos / "**/00001.jpg") == ["first/00001.jpg"]


@pytest.mark.parametrize("source", ["none", "none/*.jpg", "none-{0..2}.tar"])
def test_what_is_not_there_is_said(tmp_path: Path, source: str) -> None:
    with pytest.raises(ImageError, match=r"no such file|no image found"):
        ids(tmp_path / source)


def table(folder: Path, suffix: str, rows: list[dict[str, object]]) -> Path:
    path = folder / f"images{suffix}"
    if suffix == ".csv":
        import csv

        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_has_paths_ids_and_prompts(photos: Path, tmp_path: Path, suffix: str) -> None:
    """Each image answers its own prompts, as one that is segmented alone does."""
    from fastsam_deploy.runtime import Boxes, Everything, FastSAM, Points

    prompts = [
        json.dumps([{"points": [[30, 30], [60, 50]], "mode": "each"}]),
        json.dumps({"boxes": [10, 10, 80, 80]}),
        None,
    ]
    rows: list[dict[str, object]] = [
        {"id": f"image {i}", "path": f"photos/first/{i:05d}.jpg", "prompts": text} for i, text in enumerate(prompts)
    ]
    rows.append({"id": "far", "path": "photos/first/00001.jpg", "prompts": json.dumps([{"points": [[3000, 1]]}])})
    rows.append({"id": "wrong", "path": "photos/first/00001.jpg", "prompts": '{"circles": []}'})
    path = table(tmp_path, suffix, rows)
    run_inline(path, tmp_path / "out")
    results = {image.id: image for image in read(tmp_path / "out")}
    assert list(results) == [row["id"] for row in rows]
    asked = [Points([[30, 30], [60, 50]], mode="each"), Boxes([10, 10, 80, 80]), Everything()]
    with FastSAM(imgsz=64, conf=0.05, threads=1) as model:
        for i, prompt in enumerate(asked):
            expected = model.segment(photos / f"first/{i:05d}.jpg", prompt)
            assert results[f"image {i}"].result() == expected
            assert results[f"image {i}"].prompts == prompts[i]
    assert len(results["image 0"].result()) and len(results["image 1"].result())
    assert "(3000, 1)" in str(results["far"].error)
    assert "circles" in str(results["wrong"].error)


def test_a_table_without_paths_or_with_one_id_twice_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ParameterError, match="row 1 names no image; expected a column path"):
        ids(table(tmp_path, ".csv", [{"name": "a.jpg"}]))
    rows: list[dict[str, object]] = [{"id": 1, "path": ALL[0]}, {"id": 1, "path": ALL[1]}]
    with pytest.raises(ParameterError, match="the id '1' appears twice"):
        run_inline(table(photos, ".csv", rows), tmp_path / "out")


def shard(path: Path, photos: Path, mode: str) -> None:
    """Three samples as WebDataset writes them: an image with metadata, with prompts, and two images."""
    with tarfile.open(path, mode) as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        images = [(photos / name).read_bytes() for name in ALL]
        add("a/0001.jpg", images[0])
        add("a/0001.json", b'{"caption": "a cat"}')
        add("a/0001.txt", b"a cat")
        add("a/0002.json", b'{"prompts": [{"points": [[40, 40]]}]}')
        add("a/0002.jpg", images[1])
        add("a/0003.left.jpg", images[2])
        add("a/0003.right.jpg", images[3])
        add("a/0004.prompts.json", b'{"boxes": [0, 0, 50, 50]}')
        add("a/0004.jpg", images[4])


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_shards_give_what_their_images_give_alone(photos: Path, tmp_path: Path, ending: str) -> None:
    for i in range(2):
        shard(tmp_path / f"train-{i:03d}.{ending}", photos, "w" if ending == "tar" else "w:gz")
    source = tmp_path / ("train-{000..001}." + ending)
    keys = ["a/0001", "a/0002", "a/0003.left.jpg", "a/0003.right.jpg", "a/0004"]
    images = list(source_images(str(source)))
    assert [image.id for image in images] == [f"train-00{i}.{ending}/{key}" for i in range(2) for key in keys]
    assert ids(tmp_path / f"*.{ending}") == [image.id for image in images]
    read_back = [content for _, content in contents(images)]
    assert read_back == [(photos / name).read_bytes() for name in ALL[:5]] * 2
    assert content_of(images[3]) == read_back[3], "a single one, as it is read alone"
    run_inline(source, tmp_path / "out", chunk=3)
    whole = {image.id.rpartition("/")[2]: image.result() for image in read(tmp_path / "out")}
    run_inline(photos, tmp_path / "files")
    files = [image.result() for image in read(tmp_path / "files")]
    assert whole["0001"] == files[0] and whole["0003.right.jpg"] == files[3]
    assert whole["0002"].prompts.tolist() == [0] and whole["0004"].prompts.tolist() == [0]


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_names_that_are_no_utf_8(photos: Path, tmp_path: Path, ending: str) -> None:
    """They are read all the same; a bad image among them is an error like any other."""
    name = os.fsdecode(b"first/\xff\xfe.jpg")
    shutil.copy(photos / ALL[0], photos / name)
    (photos / os.fsdecode(b"first/bad-\xff.jpg")).write_bytes(b"no image")
    with tarfile.open(tmp_path / f"all.{ending}", "w" if ending == "tar" else "w:gz") as tar:
        tar.add(photos / name, name)
    for source in (photos, tmp_path / f"all.{ending}"):
        out = tmp_path / f"out-{source.name}"
        run_inline(source, out)
        images = {image.id: image for image in read(out)}
        key = "first/\\udcff\\udcfe" + (".jpg" if source == photos else "")
        one = images[key if source == photos else f"all.{ending}/{key}"]
        assert len(one.result())
        if source == photos:
            assert one.result() == images[ALL[0]].result()
            assert images["first/bad-\\udcff.jpg"].error is not None


def test_text_prompts_of_a_run_and_of_images(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="the extra [clip]")
    from fastsam_deploy.runtime import FastSAM, Text

    clip = Path(__file__).resolve().parents[3] / "data/clip-tiny"
    rows: list[dict[str, object]] = [
        {"path": str(photos / ALL[0]), "prompts": json.dumps({"text": ["a cup"]})},
        {"path": str(photos / ALL[1]), "prompts": None},
    ]
    run_inline(
        table(tmp_path, ".csv", rows), tmp_path / "out", clip=str(clip), prompts='[{"text": ["a cat", "a dog"]}]'
    )
    first, second = read(tmp_path / "out")
    with FastSAM(imgsz=64, conf=0.05, threads=1, clip=clip) as model:
        assert first.result() == model.segment(photos / ALL[0], Text(["a cup"]))
        assert second.result() == model.segment(photos / ALL[1], Text(["a cat", "a dog"]))
    assert second.result().prompts.tolist() == [0, 1]


def test_a_shard_that_ends_early_is_said(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.tar"
    shard(path, photos, "w")
    images = list(source_images(str(path)))
    path.write_bytes(path.read_bytes()[: (images[-1].offset or 0) + 100])
    assert isinstance(content_of(images[0]), bytes)
    cut = content_of(images[-1])
    assert isinstance(cut, ImageError) and "ends within a/0004.jpg" in str(cut)
    (tmp_path / "not.tar").write_bytes(b"no tar file at all" * 100)
    with pytest.raises(ImageError, match=r"not\.tar: cannot be read .* expected a tar file"):
        ids(tmp_path / "not.tar")
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress((tmp_path / "train.tar").read_bytes())[:3000])
    with pytest.raises(ImageError, match=r"cut\.tar\.gz: cannot be read"):
        ids(tmp_path / "cut.tar.gz")


def test_dead_letters_are_a_source_again(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.tar"
    shard(path, photos, "w")
    damaged = photos / ALL[2]
    damaged.write_bytes(damaged.read_bytes()[:600])
    run_inline(photos, tmp_path / "out")
    assert [image.id for image in read(tmp_path / "out") if image.error] == [ALL[2]]
    write_photographs(photos, 6)
    run_inline(tmp_path / "out/failed/*.parquet", tmp_path / "again")
    (image,) = read(tmp_path / "again")
    assert image.id == ALL[2] and image.segments is not None


def test_an_object_that_is_missing_is_an_error_of_its_image() -> None:
    pytest.importorskip("fsspec", reason="the extra [batch]")
    missing = content_of(SourceImage("a", "memory://nowhere/a.jpg"))
    assert isinstance(missing, ImageError)
    with pytest.raises(FastSamError, match="memory://nowhere: "):
        ids("memory://nowhere")
