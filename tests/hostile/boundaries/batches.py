"""What `fastsam batch` reads: tables and shards that name images, and the files that an earlier run has left."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from fastsam_deploy.runtime.batch.parts.job import Description
from fastsam_deploy.runtime.batch.parts.output.plan import Generation, Plan, read_plan, write_plan
from fastsam_deploy.runtime.batch.parts.output.schema import part_bytes, row_of_error, row_of_segments
from fastsam_deploy.runtime.batch.parts.output.state import RunState, read_state, write_state
from fastsam_deploy.runtime.batch.parts.output.store import Store
from fastsam_deploy.runtime.batch.parts.reader import BatchResults
from fastsam_deploy.runtime.batch.parts.sources.content import contents
from fastsam_deploy.runtime.batch.parts.sources.image import SourceImage
from fastsam_deploy.runtime.batch.parts.sources.search import source_images
from fastsam_deploy.runtime.system.scratch import scratch_folder
from tests.hostile.boundaries.segments import sample
from tests.hostile.boundary import MB, Boundary

_DESCRIPTION = Description("0" * 64, {"conf": 0.4}, ("object", "cat"))
_PLAN = Plan("photos", _DESCRIPTION, (Generation(0, 2, 2), Generation(1, 3, 2)))


def _plan_seeds() -> list[bytes]:
    with scratch_folder() as folder:
        write_plan(Store(str(folder)), _PLAN)
        write_state(Store(str(folder)), RunState().begun(2))
        return [(folder / name).read_bytes() for name in ("plan.json", "state.json")]


def _read_plan(content: bytes) -> None:
    with scratch_folder() as folder:
        for name in ("state.json", "plan.json"):
            (folder / name).write_bytes(content)
        read_state(Store(str(folder)))
        plan = read_plan(Store(str(folder)))
        if plan is not None and plan.chunks:
            plan.size_of(plan.chunks - 1)
            plan.check_same(plan.description, "out")


def _part_seeds() -> list[bytes]:
    image = SourceImage("cats/1.jpg", "/photos/cats/1.jpg")
    rows = [row_of_segments(image, "0" * 64, sample(), None), row_of_error(image, None, "ImageError", "no file", None)]
    return [part_bytes(rows, _DESCRIPTION)]


def _read_part(content: bytes) -> None:
    with scratch_folder() as folder:
        write_plan(Store(str(folder)), _PLAN)
        (folder / "parts").mkdir()
        (folder / "parts/000000000.parquet").write_bytes(content)
        for image in BatchResults(str(folder)):
            assert image.error is not None or image.segments is not None


def _csv_seeds() -> list[bytes]:
    return [b'id,path,prompts\n1,cat.jpg,"[{""points"": [[3, 4]]}]"\n2,coffee.jpg,\n', b"path\ncat.jpg\n"]


def _shard_seeds() -> list[bytes]:
    members = [("a/1.jpg", b"\xff\xd8\xff" * 100), ("a/1.json", json.dumps({"prompts": []}).encode()), ("2.png", b"x")]
    seeds = []
    for mode in ("w", "w:gz"):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        seeds.append(stream.getvalue())
    return seeds


def _listed_as(name: str) -> Callable[[bytes], None]:
    def read(content: bytes) -> None:
        with scratch_folder() as folder:
            path = Path(folder, name)
            path.write_bytes(content)
            listed = list(source_images(str(path)))
            if name.endswith((".tar", ".tar.gz")):
                for image, _ in contents(listed):
                    image.id.encode()

    return read


BOUNDARIES = (
    Boundary("batch-plan", _plan_seeds, _read_plan, text=True),
    Boundary("batch-csv", _csv_seeds, _listed_as("images.csv"), share=0.5),
    Boundary("batch-shard", _shard_seeds, _listed_as("train.tar")),
    Boundary("batch-shard-gz", _shard_seeds, _listed_as("train.tar.gz"), share=0.5),
    *(
        [
            Boundary("batch-part", _part_seeds, _read_part, memory_bytes=800 * MB),
            Boundary("batch-table", _part_seeds, _listed_as("images.parquet"), share=0.5, memory_bytes=800 * MB),
        ]
        if find_spec("pyarrow")
        else []
    ),
)
