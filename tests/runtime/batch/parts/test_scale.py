"""Ten thousand images: all of them once, in flat memory. And how long a million take to be listed."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from fastsam_deploy.runtime.batch import read
from fastsam_deploy.runtime.batch.parts.job import Description
from fastsam_deploy.runtime.batch.parts.output.store import Store
from fastsam_deploy.runtime.batch.parts.planning import planned
from fastsam_deploy.runtime.batch.parts.sources.image import SourceImage
from tests.batch_runs import children_of, started_batch, write_photographs

pytest.importorskip("pyarrow", reason="the extra [batch]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in use from Linux's /proc")
def test_ten_thousand_images_are_done_once_in_flat_memory(tmp_path: Path) -> None:
    """Two workers; the resident memory of each after a fifth of the images and at the end."""
    source, output = tmp_path / "photos", tmp_path / "out"
    write_photographs(source, 200, side=64)
    originals = sorted(source.rglob("*.jpg"))
    for i in range(10_000 - 200):
        copy = source / f"{i % 50:02d}/{i:05d}.jpg"
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(originals[i % 200], copy)
    resident: dict[int, list[tuple[int, float]]] = {}
    with started_batch(source, output, "--chunk", "50", "--workers", "2") as process:
        while process.poll() is None:
            parts = len(list((output / "parts").glob("*.parquet")))
            for worker in children_of(process.pid):
                resident.setdefault(worker, []).append((parts, resident_mb(worker)))
            time.sleep(0.5)
        assert process.stderr is not None
        err = process.stderr.read()
    assert process.returncode == 0, err
    assert "10,000 done, 0 failed" in err
    ids = read(output).to_arrow(["id"]).column("id").to_pylist()
    assert len(ids) == len(set(ids)) == 10_000
    for values in resident.values():
        early = [mb for parts, mb in values if 40 <= parts < 60]
        late = [mb for parts, mb in values if parts >= 170 and mb]
        assert early and late
        print(f"resident: {max(early):.0f} MB after a fifth, {max(late):.0f} MB at the end")
        assert max(late) - max(early) < 20


def resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6
    except (OSError, IndexError):
        return 0.0


def test_a_million_images_are_listed_in_seconds_and_known_again(tmp_path: Path) -> None:
    """The driver's own work, without any file: peak memory of this process is not measured here."""
    store, description = Store(str(tmp_path)), Description("", {}, ("object",))
    images = [
        SourceImage(f"folder{i % 1000:03d}/{i:07d}.jpg", f"/data/{i:07d}.jpg", f"{i}-1") for i in range(1_000_000)
    ]
    start = time.perf_counter()
    plan = planned(store, "data", iter(images), description)
    first_s = time.perf_counter() - start
    start = time.perf_counter()
    assert planned(store, "data", iter(images), description) == plan
    print(f"listed in {first_s:.1f} s, known again in {time.perf_counter() - start:.1f} s")
    assert plan.images == 1_000_000 and plan.chunks == 3907
    assert sum(path.stat().st_size for path in (tmp_path / "listing").iterdir()) < 50e6
