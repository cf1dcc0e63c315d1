"""What a call of TRTFastSAM costs the host, on the emulated driver with an idle device: nothing computes or is copied.

    FASTSAM_EMULATED_CUDA=.venv-test/full/emulated-cuda python -m benchmarks.gpu_host_cost

The pipeline, its graphs, PyCUDA and cuda-bindings are the real ones. The driver takes the calls and does no work; the
answer that lies in page-locked memory is made here: so many detections, with crops of the sizes that photographs have.
What a real driver's calls cost more is not in it, a few microseconds each.

Each case stands beside a yardstick of the same machine: copies of the image and of the words between memory that is in
use already, and a thousand turns of an empty loop, for what Python itself costs.

Calls of one kind follow each other, as in a stream, and the first few of them are not timed. What a call costs after
something else has had the caches is `cold`: the yardstick, with memory of its own, runs before each of these calls.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastsam_deploy.runtime import Boxes, Points, Thresholds
from fastsam_deploy.runtime.cuda.download import TOTAL
from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.cuda.records import DETECTION_DTYPE, SUMMARY_DTYPE
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.trt import TRTFastSAM
from tests.emulator.driver.emulated import Emulated, driver
from tests.emulator.networks import RecordedNetwork

from .photographs import processor

IMGSZ = 1024

IN_A_ROW, SETTLED = 20, 5
"""Calls of one kind that are timed, and those before them that are not. The kinds take turns."""


@dataclass(frozen=True)
class Case:
    """One image and what is found in it.

    Attributes:
        share: area of a crop as a part of the image.
        goal_ms: of the whole call; None: there is none.
    """

    name: str
    image_hw: tuple[int, int]
    masks: int
    share: float
    goal_ms: float | None

    def detections(self) -> np.ndarray:
        """(masks,) DETECTION_DTYPE: boxes of one size all over the image."""
        side_hw = [max(1, round(side * self.share**0.5)) for side in self.image_hw]
        rng = np.random.default_rng(0)
        rows = np.zeros(self.masks, DETECTION_DTYPE)
        rows["top"], rows["left"] = (
            rng.integers(0, side - part + 1, self.masks) for side, part in zip(self.image_hw, side_hw, strict=True)
        )
        rows["height"], rows["width"] = side_hw
        rows["x1"], rows["y1"] = rows["left"], rows["top"]
        rows["x2"], rows["y2"] = rows["left"] + rows["width"], rows["top"] + rows["height"]
        rows["score"] = np.linspace(0.9, 0.5, self.masks)
        rows["area"] = rows["width"] * rows["height"] // 2
        rows["pitch"] = -(-rows["width"] // 32)
        words = rows["pitch"].astype(np.int64) * rows["height"]
        rows["first_word"] = np.cumsum(words) - words
        return rows


CASES = (
    Case("tiny", (60, 80), 9, 0.2, 0.12),
    Case("0.65 MP, 41 masks", (700, 933), 41, 0.18, None),
    Case("3 MP, 40 masks", (1500, 2000), 40, 0.18, 0.45),
    Case("3 MP, 300 masks", (1500, 2000), 300, 0.14, None),
    Case("24 MP, 40 masks", (4243, 5657), 40, 0.18, None),
    Case("24 MP, 300 masks", (4243, 5657), 300, 0.14, 12.0),
)


class Silent(RecordedNetwork):
    """A network of one input shape for each image, whose outputs are never looked at."""

    def output_shapes(self, inputs: Any) -> dict[str, tuple[int, ...]]:
        ((batch, _, height, width),) = inputs.values()
        anchors = sum(height * width // stride**2 for stride in (8, 16, 32))
        return {self.outputs[0].name: (batch, 37, anchors), self.outputs[1].name: (batch, 32, height // 4, width // 4)}

    def enqueue(self, pointers: Any, inputs: Any, stream: int) -> None:
        self.enqueued += 1


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What a call of TRTFastSAM costs the host.")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))), help="numbers of cases")
    parser.add_argument("--json", type=Path, help="file for the rows; default: a table on standard output")
    arguments = parser.parse_args(argv)
    rows = measure(arguments.runs, [CASES[number] for number in arguments.cases])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows), encoding="utf-8")
    print(markdown(rows))


def measure(runs: int, cases: Sequence[Case] = CASES) -> list[dict[str, Any]]:
    """For each case {"case", "goal_ms", "ms" {what: [milliseconds of each run]}}."""
    emulated = driver()
    if not isinstance(emulated, Emulated):
        sys.exit("FASTSAM_EMULATED_CUDA names no emulated driver; scripts/dev/emulated_cuda.py makes it")
    add_kernels(emulated)
    emulated.set("memory", 64 << 30)
    emulated.set("idle", 1)
    spec = ModelSpec(imgsz=IMGSZ)
    tensors = {spec.detections: np.zeros((1, 37, 8), np.float32), spec.prototypes: np.zeros((1, 32, 8, 8), np.float32)}
    network = Silent(Device.open(0), spec, (None, None), tensors)  # type: ignore[arg-type]
    try:
        return [_measured(case, network, runs) for case in cases]
    finally:
        network.close()
        emulated.set("idle", 0)


def add_kernels(emulated: Emulated) -> None:
    """The kernels' host build: the driver looks for their parameters there."""
    import tempfile

    from tests.emulator.build import build_cpu_kernels

    emulated.add_kernels(build_cpu_kernels(Path(tempfile.mkdtemp(prefix="kernels-"))))


def _measured(case: Case, network: Silent, runs: int) -> dict[str, Any]:
    image = np.random.default_rng(0).integers(0, 256, (*case.image_hw, 3), dtype=np.uint8)
    rows = case.detections()
    words = int((rows["pitch"].astype(np.int64) * rows["height"]).sum())
    with TRTFastSAM(network) as model:
        stages = model._segmenter._running_stages()
        job = model._segmenter._job([0], [image], [model._segmenter._tables(case.image_hw)], [Thresholds()], True)
        for run in [stages.begin(job) for _ in range(2)]:  # one in each slot
            _write_answer(run.slot, rows, words)
            stages.release(run)
        model.warmup([(1, *case.image_hw)])
        centre = [case.image_hw[1] // 2, case.image_hw[0] // 2]
        box = [centre[0] // 2, centre[1] // 2, *centre]
        ways: dict[str, Callable[[], Any]] = {
            "total": lambda: model.segment(image),
            "point": lambda: model.segment(image, Points([centre])),
            "box": lambda: model.segment(image, Boxes([box])),
            "yardstick": _yardstick(image, words),
        }
        for way in ways.values():
            for _ in range(5):
                way()
        found = len(model.segment(image))
        assert found == case.masks, (found, case.masks)
        times: dict[str, list[float]] = {name: [] for name in (*ways, "cold")}
        for _ in range(max(1, runs // IN_A_ROW)):
            for name, way in ways.items():
                for _ in range(SETTLED):
                    way()
                times[name] += [_milliseconds(way) for _ in range(IN_A_ROW)]
            for _ in range(IN_A_ROW):
                ways["yardstick"]()
                times["cold"].append(_milliseconds(ways["total"]))
    size = {"masks": case.masks, "megapixels": round(image.size / 3e6, 2), "words_mb": round(words * 4e-6, 1)}
    return {"case": {"image": case.name, **size}, "goal_ms": case.goal_ms, "ms": times}


def _milliseconds(way: Callable[[], Any]) -> float:
    start = time.perf_counter()
    way()
    return (time.perf_counter() - start) * 1000


def _write_answer(slot: Any, rows: np.ndarray, words: int) -> None:
    """What would have been downloaded."""
    records = TOTAL + SUMMARY_DTYPE.itemsize
    host = slot.space.host("answer", records + 300 * DETECTION_DTYPE.itemsize)
    host[:8].view(np.int64)[0] = words
    summary = host[TOTAL:records].view(SUMMARY_DTYPE)
    summary["kept"], summary["candidates"], summary["flags"] = len(rows), len(rows), 0
    host[records : records + rows.nbytes] = rows.view(np.uint8)


def _yardstick(image: np.ndarray, words: int) -> Callable[[], None]:
    pairs = [(np.ones_like(image), image), (np.ones(words, np.uint32), np.ones(words, np.uint32))]

    def run() -> None:
        for _ in range(1000):
            pass
        for target, source in pairs:
            np.copyto(target, source)

    return run


def markdown(rows: list[dict[str, Any]]) -> str:
    """Medians in milliseconds."""
    names = list(rows[0]["ms"])
    lines = [f"| image | MB of masks | {' | '.join(names)} | goal |", "|---" * (len(names) + 3) + "|"]
    for row in rows:
        medians = " | ".join(f"{np.median(row['ms'][name]):.3f} ({min(row['ms'][name]):.3f})" for name in names)
        goal = "" if row["goal_ms"] is None else f"{row['goal_ms']} {reached(row)}"
        lines.append(f"| {row['case']['image']} | {row['case']['words_mb']} | {medians} | {goal} |")
    return "\n".join(
        [*lines, "", f"Milliseconds, medians (and least) of {len(rows[0]['ms'][names[0]])} runs; {processor()}."]
    )


def reached(row: dict[str, Any]) -> str:
    """Whether the whole call takes no longer than its goal."""
    return "reached" if np.median(row["ms"]["total"]) <= row["goal_ms"] else "not reached"


if __name__ == "__main__":
    main()
