"""What a run over many images asks of an object store, and what that and the work cost: measured figures and prices.

    python -m benchmarks.batch_costs measure    # requests, bytes and memory; writes results/batch_costs.json
    python -m benchmarks.batch_costs            # the table for 10⁶ and 10⁹ images: results/batch_costs.md
    python -m benchmarks.batch_costs --hour 0.12 --get 0.4 --put 5 --gigabyte 0.023

Prices are yours to give. The defaults are assumptions, near what large clouds ask, and no quotation: dollars
for an hour of a processor, for a million reads, for a million writes and lists, for a gigabyte stored for a month.
The seconds of an image are measured on this machine, with the demo model and one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tracemalloc
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastsam_deploy.runtime import FastSAM, load_image
from fastsam_deploy.runtime.batch.parts.execution.local import LocalExecutor
from fastsam_deploy.runtime.batch.parts.job import Job
from fastsam_deploy.runtime.batch.parts.output.store import Store
from fastsam_deploy.runtime.batch.parts.planning import Cut, planned
from fastsam_deploy.runtime.batch.parts.run import run_chunks
from fastsam_deploy.runtime.batch.parts.sources.image import SourceImage
from fastsam_deploy.runtime.batch.parts.sources.search import source_images

from .photographs import RESULTS, ROOT, as_json, processor
from .photographs import write_report as _write_report

FILE = RESULTS / "batch_costs.json"
SIZES = (10**6, 10**9)
CHUNKS = (256, 512)
READS, WRITES = ("GET", "HEAD"), ("PUT", "POST")
_LIST_KEYS = 1000
"""Names in one answer of a list request, of S3."""


def main() -> None:
    """Measure, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["measure"])
    parser.add_argument("--hour", type=float, default=0.05, help="dollars for an hour of one processor")
    parser.add_argument("--get", type=float, default=0.4, help="dollars for a million reads")
    parser.add_argument("--put", type=float, default=5.0, help="dollars for a million writes or lists")
    parser.add_argument("--gigabyte", type=float, default=0.023, help="dollars for a gigabyte for a month")
    arguments = parser.parse_args()
    if arguments.part == "measure":
        FILE.write_bytes(as_json(measured()))
    report = json.loads(FILE.read_text(encoding="utf-8"))
    driver = json.loads((RESULTS / "batch_ray.json").read_text(encoding="utf-8"))["driver"]["most_chunks_per_s"]
    prices = {name: getattr(arguments, name) for name in ("hour", "get", "put", "gigabyte")}
    _write_report(RESULTS, "batch_costs", report, markdown(report, driver, prices))


def measured() -> dict[str, Any]:
    """Requests of runs from and to an S3 server of our own, bytes of a row, seconds of an image, memory of an id."""
    few, many = _requests(16, 8), _requests(64, 8)
    wide = _requests(64, 32)
    per_image = {kind: (many[kind] - few[kind]) / 48 for kind in few}
    per_chunk = {kind: (many[kind] - wide[kind]) / 6 for kind in few}
    seconds, row_bytes = _image()
    return {
        "environment": {"date": time.strftime("%Y-%m-%d"), "cpu": processor(), "processors": os.cpu_count()},
        "requests": {"16 images, 8 a chunk": few, "64 images, 8 a chunk": many, "64 images, 32 a chunk": wide},
        "per_chunk": {kind: round(count, 2) for kind, count in per_chunk.items()},
        "per_image": {kind: round(per_image[kind] - per_chunk[kind] / 8, 3) for kind in few},
        "image_s": round(seconds, 3),
        "part_bytes_an_image": round(row_bytes),
        "driver_bytes_an_id": round(_memory_of_ids()),
    }


def _requests(images: int, chunk: int) -> dict[str, int]:
    """Reads, writes and lists of a whole run with one worker; its state, written every ten seconds, is left out."""
    import fsspec

    from tests.object_store import object_store_on_this_machine

    with object_store_on_this_machine() as store, closing(LocalExecutor(1, 1)) as executor:
        content = (ROOT / "examples/images/cat.jpg").read_bytes()
        for i in range(images):
            with fsspec.open(f"{store.url}/images/{i:05d}.jpg", "wb") as file:
                file.write(content + bytes([i]))
        store.requests.clear()
        job = Job(f"{store.url}/out")
        source = f"{store.url}/images"
        plan = planned(Store(job.output), source, source_images(source), executor.describe(job), Cut(chunk))
        assert run_chunks(job, plan, executor).left == 0
        asked = [(method, path) for method, path in store.requests if "/state.json" not in path]
        lists = sum("list-type" in path for _, path in asked)
        reads = sum(method in READS for method, _ in asked) - lists
        return {"reads": reads, "writes": sum(method in WRITES for method, _ in asked), "lists": lists}


def _image() -> tuple[float, float]:
    """Seconds of an image on one thread, and bytes of its row: means of the shipped photographs."""
    paths = sorted((ROOT / "examples/images").glob("*.jpg"))
    with FastSAM(threads=1) as model:
        images = [load_image(path) for path in paths]
        model.segment(images[0])
        start = time.perf_counter()
        for image in images:
            model.segment(image)
        seconds = (time.perf_counter() - start) / len(images)
    with TemporaryDirectory() as folder, closing(LocalExecutor(1, 1)) as executor:
        source = Path(folder) / "images"
        source.mkdir()
        for i in range(32):  # cut differently, so that no row is like another one
            _write_cut(paths[i % len(paths)], source / f"{i}.png", i)
        job = Job(f"{folder}/out")
        plan = planned(Store(job.output), str(source), source_images(str(source)), executor.describe(job), Cut(32))
        progress = run_chunks(job, plan, executor)
    return seconds, progress.state.size / 32


def _write_cut(photograph: Path, path: Path, number: int) -> None:
    import cv2

    image = cv2.imread(str(photograph))
    cv2.imwrite(str(path), image[number : image.shape[0] - 32 + number, number : image.shape[1] - 32 + number])


def _memory_of_ids(count: int = 100_000) -> float:
    """Bytes that the driver needs for each image while it lists them."""
    with TemporaryDirectory() as folder:
        store = Store(folder)
        with closing(LocalExecutor(1, 1)) as executor:
            description = executor.describe(Job(folder))
        tracemalloc.start()
        listed = (SourceImage(f"{i:09d}.jpg", f"s3://bucket/images/{i:09d}.jpg", f"{i}") for i in range(count))
        planned(store, "s3://bucket/images", listed, description, Cut(256))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / count


def markdown(report: dict[str, Any], chunks_per_s: float, prices: dict[str, float]) -> str:
    """The table."""
    lines = [
        "# What many images cost, on paper",
        "",
        "Calculated by `benchmarks/batch_costs.py` from figures that were measured on a small scale "
        f"({report['environment']['cpu']}, {report['environment']['date']}); no run of this size was made.",
        "",
        f"Measured: {report['image_s']} s an image (demo model, one thread), "
        f"{report['part_bytes_an_image']:,} bytes of a part an image, "
        f"{report['driver_bytes_an_id']} bytes of the driver an image while it lists, "
        f"{chunks_per_s:g} chunks a second through the driver at most (`batch_ray.json`).",
        f"Requests: an image {_listed(report['per_image'])}; a chunk {_listed(report['per_chunk'])}; and the state of "
        "the run, every ten seconds.",
        "",
        f"Assumed, not quoted: ${prices['hour']:g} an hour of one processor, ${prices['get']:g} a million reads, "
        f"${prices['put']:g} a million writes or lists, ${prices['gigabyte']:g} a gigabyte and month.",
        "",
        "| images | images of a part | parts | a part | reads | writes, lists | stored | processor hours "
        "| driver, at least | its memory | work | requests | a month of storage |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(report, chunks_per_s, prices, images, chunk) for images in SIZES for chunk in CHUNKS]
    return "\n".join(lines) + "\n"


def _listed(counts: dict[str, float]) -> str:
    return ", ".join(f"{max(0.0, count):g} {kind}" for kind, count in counts.items())


def _row(report: dict[str, Any], chunks_per_s: float, prices: dict[str, float], images: int, chunk: int) -> str:
    parts = -(-images // chunk)
    total = {
        kind: max(0.0, report["per_image"][kind]) * images + max(0.0, report["per_chunk"][kind]) * parts
        for kind in ("reads", "writes", "lists")
    }
    total["lists"] += parts / _LIST_KEYS + images / _LIST_KEYS
    written = total["writes"] + total["lists"]
    gigabytes = report["part_bytes_an_image"] * images / 1e9
    hours = report["image_s"] * images / 3600
    requests = (prices["get"] * total["reads"] + prices["put"] * written) / 1e6
    memory = report["driver_bytes_an_id"] * images / 1e9
    cells = [
        *(f"{images:,}", f"{chunk:,}", f"{parts:,}", f"{report['part_bytes_an_image'] * chunk / 1e6:.1f} MB"),
        *(f"{total['reads']:,.0f}", f"{written:,.0f}", f"{gigabytes:,.0f} GB", f"{hours:,.0f}"),
        *(_duration(parts / chunks_per_s), f"{memory:,.1f} GB", f"${prices['hour'] * hours:,.0f}"),
        *(f"${requests:,.2f}", f"${prices['gigabyte'] * gigabytes:,.2f}"),
    ]
    return f"| {' | '.join(cells)} |"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


if __name__ == "__main__":
    main()
