"""Does segmenting in tiles find in a large image what the photographs in it give alone?

    python -m benchmarks.tiles --images BSDS500/images/val     # writes results/tiles.json and tiles.md
    python -m benchmarks.tiles --megapixels 3                  # the shipped photographs, in a minute

Photographs of one size lie side by side, without gaps, until the mosaic has 24 megapixels; when all have been used they
come again, mirrored. Each is segmented alone, at the thresholds of the first line. A segment counts as found if the
answer for the mosaic has a mask with an IoU of 0.5 (or 0.75) with it.

The IoU is counted inside the frame of the photograph. Two thirds of the segments reach the edge of their photograph,
and in the mosaic such a thing may go on in the next one, which nobody could see in the photograph alone. The table also
has the share that is found if masks are compared as a whole, and the share of the segments that reach no edge.

What the photographs do not have is counted too: segments of the mosaic that are like none of a photograph's, at the
same threshold and at half of it. (At half of it, because a new segment is often a known one with a higher score.)

A network does not give the same answer for the same photograph twice if it is cut elsewhere: some scores fall below the
threshold, some rise above it. The line "cut 10 px elsewhere" shows how much of the answer this alone takes: each
photograph with a strip of 10 px of its neighbours around it, segmented alone.

Tiles must not lie where photographs lie, or they are the photographs. A step of a third of a photograph would do that:
an overlap of 0.66 finds 93 % at 24 megapixels, as every third tile has the edges of a photograph, and so does 0.65 at 3
megapixels. With the steps that are measured at 24 megapixels, tiles begin anywhere within a photograph.
"""

from __future__ import annotations

import argparse
import resource
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_deploy.runtime import FastSAM, Segments, Thresholds, Tiles
from fastsam_deploy.runtime.native import library as native
from fastsam_deploy.runtime.segments import join
from fastsam_deploy.runtime.system.cpu import usable_cpus
from fastsam_deploy.runtime.tiling.compare import alike
from fastsam_deploy.runtime.tiling.grid import tile_boxes
from fastsam_deploy.runtime.tiling.merge import placed

from .photographs import RESULTS, ROOT, photographs, processor, write_report
from .suite.machine import demo_model

AT_IOU = (0.5, 0.75)
SURE = 0.5
"""Score of segments that are counted apart: they do not depend on a threshold of 0.4."""

NEAR_PX = 2
"""A segment that comes this near to the edge of its photograph reaches it."""

Image = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Boxes = NDArray[np.int64]


def main() -> None:
    """Build the mosaic, segment it in several ways, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=ROOT / "examples/images", help="folder of photographs")
    parser.add_argument("--megapixels", type=float, default=24.0, help="size of the mosaic")
    parser.add_argument("--model", type=Path, default=None, help="an .onnx file; default: the demo model")
    parser.add_argument("--conf", type=float, default=0.4, help="threshold of the photographs")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--at-rest", action="store_true", help="nothing else runs on the machine: the times count")
    arguments = parser.parse_args()
    mosaic, cells = build(list(photographs(arguments.images).values()), arguments.megapixels)
    with FastSAM(arguments.model, conf=arguments.conf) as model:
        report = {"environment": _environment(arguments, model, mosaic, cells), "runs": _runs(model, mosaic, cells)}
    write_report(arguments.output, "tiles", report, markdown(report))


def build(images: list[Image], megapixels: float) -> tuple[Image, Boxes]:
    """The mosaic, (h, w, 3), and the (n, 4) boxes x1, y1, x2, y2 of its photographs."""
    sizes = Counter(image.shape[:2] for image in images)
    height, width = min(sizes, key=lambda size: (-sizes[size], size))
    if sizes[height, width] == 1:  # of different sizes: the largest part that all have
        height, width = (min(size[side] for size in sizes) for side in (0, 1))
    photos = [image[:height, :width] for image in images if image.shape[0] >= height and image.shape[1] >= width]
    columns = max(1, round((megapixels * 1e6 * 1.5) ** 0.5 / width))
    rows = max(1, round(megapixels * 1e6 / (columns * width * height)))
    mosaic = np.zeros((rows * height, columns * width, 3), np.uint8)
    cells = np.array(
        [
            (x, y, x + width, y + height)
            for y in range(0, rows * height, height)
            for x in range(0, columns * width, width)
        ]
    )
    for i, (left, top, right, bottom) in enumerate(cells.tolist()):
        mosaic[top:bottom, left:right] = photos[i % len(photos)][:, :: -1 if i // len(photos) % 2 else 1]
    return mosaic, cells


def _runs(model: FastSAM, mosaic: Image, cells: Boxes) -> list[dict[str, Any]]:
    side = int(cells[0, 2] - cells[0, 0])
    conf = model.thresholds.conf
    judge = Judge(_cut_out(model, mosaic, cells, Thresholds(conf / 2, max_det=1000)), conf, cells)
    limits = np.array([0, 0, *mosaic.shape[1::-1]])
    moved = np.concatenate([np.maximum(cells[:, :2] - 10, 0), np.minimum(cells[:, 2:] + 10, limits[2:])], 1)
    ways: list[tuple[str, Tiles | None, Callable[[], Segments]]] = [
        ("photographs alone", None, lambda: judge.alone),
        ("photographs alone, cut 10 px elsewhere", None, lambda: _cut_out(model, mosaic, moved, Thresholds(conf))),
        ("whole image at once", None, lambda: model.segment(mosaic)),
    ]
    for tiles in (Tiles(side, 0.5, confirmed=1), Tiles(side)):
        ways.append(("tiles", tiles, _in_tiles(model, mosaic, tiles)))
    return [_measured(name, tiles, run, judge) for name, tiles, run in ways]


def _in_tiles(model: FastSAM, mosaic: Image, tiles: Tiles) -> Callable[[], Segments]:
    return lambda: model.segment(mosaic, tiles=tiles)


def _cut_out(model: FastSAM, mosaic: Image, boxes: Iterable[NDArray[np.int64]], thresholds: Thresholds) -> Segments:
    """Each part of the mosaic segmented alone, in the coordinates of the mosaic."""
    hw = mosaic.shape[:2]
    parts = ((box, np.ascontiguousarray(mosaic[box[1] : box[3], box[0] : box[2]])) for box in boxes)
    return join([placed(model.segment(part, thresholds=thresholds), box, hw) for box, part in parts])


def _measured(name: str, tiles: Tiles | None, run: Callable[[], Segments], judge: Judge) -> dict[str, Any]:
    start = perf_counter()
    answer = run()
    seconds = perf_counter() - start
    row = {
        "way": name,
        "tiles": None if tiles is None else asdict(tiles),
        "networks_run": None
        if tiles is None or tiles.size_px is None
        else len(tile_boxes(answer.image_hw, tiles.size_px, tiles.overlap)) + 1,
        "segments": len(answer),
        **judge.of(answer),
        "seconds": round(seconds, 1),
        "merge_seconds": round(answer.timing_ms.get("merge", 0.0) / 1000, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(row, flush=True)
    return row


class Judge:
    """Compares an answer for the mosaic with what the photographs give alone.

    Attributes:
        alone: what they give with a score above the threshold.
    """

    def __init__(self, candidates: Segments, conf: float, cells: Boxes) -> None:
        """
        Args:
            candidates: what they give at a lower threshold.
            conf: the threshold.
            cells: (n, 4) x1, y1, x2, y2, where the photographs are.
        """
        self._candidates, self._cells = candidates, cells
        self._above = candidates.scores > conf
        self.alone = candidates[np.flatnonzero(self._above)]

    def of(self, answer: Segments) -> dict[str, Any]:
        """Shares of the photographs' segments that the answer has, and of the answer's that they do not have."""
        best, whole, known, known_low = self._compared(answer)
        sure = self.alone.scores >= SURE
        inner = ~reach_an_edge(self.alone, self._cells)
        return {
            "found": {str(iou): _share(best >= iou) for iou in AT_IOU},
            f"found_of_scores_from_{SURE}": _share(best[sure] >= AT_IOU[0]),
            "found_of_those_at_no_edge": _share(best[inner] >= AT_IOU[0]),
            "found_comparing_whole_masks": _share(whole >= AT_IOU[0]),
            "not_in_photographs": _share(~known),
            "not_in_photographs_at_half_conf": _share(~known_low),
        }

    def _compared(self, answer: Segments) -> tuple[NDArray[np.float64], NDArray[np.float64], Flags, Flags]:
        """The best IoU of each segment alone, in its frame and of whole masks; which of the answer's are known."""
        best, whole = np.zeros((2, len(self._candidates)))
        known, known_low = np.zeros((2, len(answer)), np.bool_)
        mine, theirs = self._candidates.masks.boxes_xyxy(), answer.masks.boxes_xyxy()
        for cell in self._cells:
            rows = np.flatnonzero((mine[:, :2] >= cell[:2]).all(1) & (mine[:, 2:] <= cell[2:]).all(1))
            near = np.flatnonzero((theirs[:, :2] < cell[2:]).all(1) & (theirs[:, 2:] > cell[:2]).all(1))
            others = answer.masks[near]
            inside = others.box_overlap(cell[None])[:, 0]
            pairs, counts = alike(self._candidates.masks[rows], others, cell, min(AT_IOU))
            for (i, j), shared in zip(pairs.tolist(), counts.tolist(), strict=True):
                row, other = rows[i], near[j]
                union = int(self._candidates.areas[row]) - shared
                best[row] = max(best[row], shared / (union + int(inside[j])))
                whole[row] = max(whole[row], shared / (union + int(answer.areas[other])))
                known_low[other] = True
                known[other] |= self._above[row]
        return best[self._above], whole[self._above], known, known_low


def reach_an_edge(segments: Segments, cells: Boxes) -> Flags:
    """Which segments come within two pixels of the edge of their photograph. (n,) bool."""
    boxes = segments.masks.boxes_xyxy()
    centers = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    inside = (centers >= cells[:, :2]).all(2) & (centers < cells[:, 2:]).all(2)
    return np.asarray((np.abs(boxes - cells[inside.argmax(1)]) <= NEAR_PX).any(1))


def _share(flags: Flags) -> float:
    return round(float(flags.mean()), 4) if len(flags) else 0.0


def _environment(arguments: argparse.Namespace, model: FastSAM, mosaic: Image, cells: Boxes) -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "cpu": processor(),
        "processors": usable_cpus(),
        "onnxruntime": version("onnxruntime"),
        "demo_model": demo_model(),
        "model": model.description.get("file"),
        "imgsz": model.imgsz,
        "conf": arguments.conf,
        "masks": native.state(),
        "at_rest": arguments.at_rest,
        "photographs": arguments.images.name,
        "mosaic_hw": list(mosaic.shape[:2]),
        "cells": len(cells),
        "cell_hw": [int(cells[0, 3] - cells[0, 1]), int(cells[0, 2] - cells[0, 0])],
    }


def markdown(report: dict[str, Any]) -> str:
    """The table of the report."""
    environment = report["environment"]
    names = ["", "overlap", "confirmed", "runs", "segments", "found", "IoU 0.75", "scores ≥ 0.5", "at no edge"]
    names += ["whole masks", "new", "new at conf / 2", "seconds", "merging"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for run in report["runs"]:
        tiles = run["tiles"] or {"overlap": "", "confirmed": ""}
        shares = [run["found"]["0.5"], run["found"]["0.75"], run[f"found_of_scores_from_{SURE}"]]
        shares += [run["found_of_those_at_no_edge"], run["found_comparing_whole_masks"]]
        shares += [run["not_in_photographs"], run["not_in_photographs_at_half_conf"]]
        cells = [run["way"], tiles["overlap"], tiles["confirmed"], run["networks_run"] or "", run["segments"]]
        cells += [f"{100 * share:.1f} %" for share in shares] + [run["seconds"], run["merge_seconds"] or ""]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    height, width = environment["mosaic_hw"]
    cell_h, cell_w = environment["cell_hw"]
    load = "which did nothing else" if environment["at_rest"] else "not idle: the times are not exact"
    lines += [
        "",
        f"Mosaic of {width} × {height} pixels: {environment['cells']} photographs of {cell_w} × {cell_h}; tiles of "
        f"{cell_w}. {environment['model']} at {environment['imgsz']}, conf {environment['conf']}. "
        f"{environment['cpu']}, {environment['processors']} processors, {load}. Masks: {environment['masks']}. "
        f"ONNX Runtime {environment['onnxruntime']}, {environment['date']}. "
        f"Peak memory of the process: {report['runs'][-1]['peak_memory_mb']} MB.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
