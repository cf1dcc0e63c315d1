"""`fastsam batch` from and to a real S3 server of the tests' own."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastsam_deploy.runtime.batch import read
from fastsam_deploy.runtime.batch.parts.export import export_dataset
from fastsam_deploy.runtime.batch.parts.sources import content
from fastsam_deploy.runtime.batch.parts.status import status_of
from fastsam_deploy.runtime.errors import FastSamError, ParameterError
from tests.batch_runs import run_inline, write_photographs
from tests.object_store import ObjectStore, object_store_on_this_machine

pytest.importorskip("pyarrow", reason="the extra [batch]")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "photos"
    write_photographs(folder, 6)
    return folder


@pytest.fixture
def store(photos: Path) -> Iterator[ObjectStore]:
    """A bucket with the photographs, and a shard of them."""
    with object_store_on_this_machine() as opened:
        import s3fs

        files = s3fs.S3FileSystem()
        files.put(str(photos), f"{opened.url}/photos", recursive=True)
        with tarfile.open(photos.parent / "train-000.tar", "w") as tar:
            for path in sorted(photos.rglob("*.jpg")):
                tar.add(path, path.name)
        files.put(str(photos.parent / "train-000.tar"), f"{opened.url}/train-000.tar")
        opened.requests.clear()
        yield opened


def test_a_bucket_gives_what_a_folder_does(store: ObjectStore, photos: Path, tmp_path: Path) -> None:
    run_inline(photos, tmp_path / "local", chunk=2)
    expected = {image.id: image.result() for image in read(tmp_path / "local")}
    output = f"{store.url}/out"
    progress = run_inline(f"{store.url}/photos", output, chunk=2)
    assert (progress.left, progress.state.images) == (0, 6)
    results = {image.id: image for image in read(output)}
    assert {name: image.result() for name, image in results.items()} == expected
    assert results["first/00000.jpg"].path == "s3://bucket/photos/first/00000.jpg"
    assert store.count("PUT", "/out/parts/") == 3, "one for each part"
    status = status_of(output)
    assert (status.state, status.done, status.parts) == ("complete", 6, 3)
    assert run_inline(f"{store.url}/photos", output, chunk=2).state.images == 0
    assert store.count("PUT", "/out/parts/") == 3
    run_inline(f"{store.url}/train-000.tar", f"{store.url}/shards")
    shards = [image.result() for image in read(f"{store.url}/shards")]
    assert shards == list(expected.values())
    export_dataset(output, "yolo", tmp_path / "set")
    copies = sorted((tmp_path / "set/images").rglob("*.jpg"))
    assert [path.read_bytes() for path in copies] == [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]


@pytest.mark.slow  # it waits through all tries of the client
def test_a_store_that_does_not_answer_ends_the_run_and_the_same_command_goes_on(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one dead letter: it is not the fault of the images."""
    monkeypatch.setattr(content, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(content, "_TRIES", 2)
    fetched = content._fetched

    def break_then_fetch(image: object) -> bytes:
        store.broken = True
        return fetched(image)  # type: ignore[arg-type]

    out = tmp_path / "out"
    with monkeypatch.context() as broken:
        broken.setattr(content, "_fetched", break_then_fetch)
        with pytest.raises(FastSamError, match="cannot be read after 2 tries"):
            run_inline(f"{store.url}/photos", out, chunk=2)
    assert not list((out / "failed").glob("*")) and not list((out / "parts").glob("*"))
    store.broken = False
    assert run_inline(f"{store.url}/photos", out, chunk=2).state.failed == 0
    assert len(read(out)) == 6


def test_objects_that_are_gone_or_changed(store: ObjectStore, tmp_path: Path) -> None:
    import s3fs

    files = s3fs.S3FileSystem()
    table = tmp_path / "images.csv"
    table.write_text(f"path\n{store.url}/photos/first/00000.jpg\n{store.url}/photos/none.jpg\n")
    run_inline(table, tmp_path / "table")
    assert [image.error is None for image in read(tmp_path / "table")] == [True, False]
    run_inline(f"{store.url}/photos", tmp_path / "out")
    files.copy(f"{store.url}/photos/first/00001.jpg", f"{store.url}/photos/first/00000.jpg")
    with pytest.raises(ParameterError, match=r"1 images have another content .*first/00000\.jpg"):
        run_inline(f"{store.url}/photos", tmp_path / "out")
