"""What is left to do when the same command runs again: new images, changed ones, other settings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fastsam_deploy.runtime.batch import read
from fastsam_deploy.runtime.batch.parts.output.plan import Generation, Plan, read_plan
from fastsam_deploy.runtime.batch.parts.output.store import Store
from fastsam_deploy.runtime.batch.parts.planning import Cut, forget_failed
from fastsam_deploy.runtime.batch.parts.sources.image import SourceImage
from fastsam_deploy.runtime.errors import FastSamError, ParameterError
from tests.batch_runs import files_of, rows_of, run_inline, write_photographs

pytest.importorskip("pyarrow", reason="the extra [batch]")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write_photographs(folder, 6)
    return folder


def test_nothing_is_done_twice(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_inline(photos, out).state.images == 6
    before = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    progress = run_inline(photos, out)
    assert (progress.before, progress.state.images, progress.left) == (6, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == before


def test_a_part_that_is_removed_is_done_again_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_inline(photos, out, chunk=2)
    whole = files_of(out)
    (out / "parts/000000001.parquet").unlink()
    assert run_inline(photos, out, chunk=2).state.images == 2
    assert files_of(out) == whole


def test_new_images_become_new_chunks(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_inline(photos, out)
    whole = files_of(out)
    shutil.copy(photos / "first/00000.jpg", photos / "first/new.jpg")
    shutil.copy(photos / "first/00001.jpg", photos / "second/new.jpg")
    progress = run_inline(photos, out, chunk=1)
    assert (progress.total, progress.before, progress.state.images) == (8, 6, 2)
    assert whole.items() < files_of(out).items()
    rows = rows_of(out)
    assert [row["id"] for row in rows[6:]] == ["first/new.jpg", "second/new.jpg"]
    assert rows[6]["rle"] == rows[0]["rle"] and rows[6]["sha256"] == rows[0]["sha256"]
    plan = read_plan(Store(str(out)))
    assert plan is not None and plan.generations == (Generation(0, 6, 4), Generation(2, 2, 1))


def test_a_changed_time_alone_is_no_change_and_changed_content_is_refused(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_inline(photos, out)
    whole = files_of(out)
    os.utime(photos / "first/00001.jpg", ns=(0, 0))
    assert run_inline(photos, out).state.images == 0
    shutil.copy(photos / "first/00000.jpg", photos / "first/00001.jpg")
    with pytest.raises(ParameterError, match=r"1 images have another content .* \(first/00001\.jpg\)"):
        run_inline(photos, out)
    assert files_of(out) == whole


def test_an_image_that_is_gone_keeps_its_row(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_inline(photos, out)
    (photos / "first/00001.jpg").unlink()
    assert run_inline(photos, out).left == 0
    assert len(rows_of(out)) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"conf": 0.2}}, "conf was 0.05, now 0.2"),
        ({"settings": {"imgsz": 96}}, "imgsz was 64, now 96"),
        ({"prompts": '[{"points": [[3, 4]]}]'}, "prompts was [], now [{"),
    ],
)
def test_other_settings_are_refused(photos: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    out = tmp_path / "out"
    run_inline(photos, out)
    whole = files_of(out)
    with pytest.raises(ParameterError) as refused:
        run_inline(photos, out, **changes)
    assert message in str(refused.value) and "choose another --output" in str(refused.value)
    assert files_of(out) == whole


def test_another_model_is_refused(photos: Path, tmp_path: Path, demo_onnx: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="changes the model")
    out = tmp_path / "out"
    run_inline(photos, out)
    model = onnx.load(demo_onnx)
    for entry in model.metadata_props:
        if "sha256" in entry.key:
            entry.value = "0" * 64
        elif "sha256" in entry.value:
            entry.value = entry.value.replace(entry.value.split('sha256": "')[1][:64], "0" * 64)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ParameterError, match="checkpoint_sha256 was"):
        run_inline(photos, out, model=str(tmp_path / "other.onnx"))


def test_failed_images_are_tried_again_when_that_is_asked_for(photos: Path, tmp_path: Path) -> None:
    out, damaged = tmp_path / "out", photos / "first/00001.jpg"
    good = damaged.read_bytes()
    damaged.write_bytes(good[:500])
    assert run_inline(photos, out, chunk=2).state.failed == 1
    assert [row["error_kind"] for row in rows_of(out) if row["error"]] == ["ImageError"]
    damaged.write_bytes(good)
    assert run_inline(photos, out, chunk=2).state.images == 0, "only when it is asked for"
    assert forget_failed(Store(str(out))) == 1
    progress = run_inline(photos, out, chunk=2)
    assert (progress.state.images, progress.state.failed) == (2, 0)
    assert not [row for row in rows_of(out) if row["error"]]
    assert not list((out / "failed").iterdir())


def test_what_is_no_output_or_is_damaged_is_said(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(FastSamError, match=r"has no plan\.json"):
        read(tmp_path)
    (tmp_path / "plan.json").write_text('{"format": "9"}')
    with pytest.raises(FastSamError, match="format is 9, expected 1"):
        read(tmp_path)
    out = tmp_path / "out"
    run_inline(photos, out)
    (part,) = list((out / "parts").glob("*0.parquet"))
    part.write_bytes(part.read_bytes()[:300])
    with pytest.raises(FastSamError, match="cannot be read"):
        list(read(out))


@pytest.mark.parametrize(
    ("count", "workers", "expected"), [(1, 2, 1), (100, 2, 13), (5000, 4, 256), (5000, 1, 256), (2000, 8, 63)]
)
def test_few_images_make_small_chunks(count: int, workers: int, expected: int) -> None:
    images, rest = Cut(None, workers).images_of(SourceImage(str(i), "") for i in range(count))
    assert images == expected
    assert [image.id for image in rest] == [str(i) for i in range(count)]


def test_chunks_of_generations() -> None:
    plan = Plan("", None, (Generation(0, 10, 4), Generation(3, 1, 4), Generation(4, 8, 8)))  # type: ignore[arg-type]
    assert [plan.size_of(number) for number in plan.numbers()] == [4, 4, 2, 1, 8]
    with pytest.raises(ParameterError, match="chunk is 0"):
        Cut(0)
