"""Does segmenting in tiles find in a large image what the photographs in it give alone?

    python -m benchmarks.tiles --images BSDS500/images/val     # writes results/tiles.json and tiles.md
    python -m benchmarks.tiles --megapixels 3                  # the shipped photographs, in a minute

Photographs of one size lie side by side, without gaps, until the mosaic has 24 megapixels; when all have been used they
come again, mirrored. Each is segmented alone, at the thresholds of the first line. A segment counts as found if the
answer for the mosaic has a mask with an IoU of 0.5 (or 0.75) with it.

A network does not give the same answer for the same photograph twice if it is cut elsewhere: some scores fall below the
threshold, some rise above it. The line "cut 10 px elsewhere" shows how much of the answer this alone takes: each
photograph with a strip of 10 px of its neighbours around it, segmented alone.
"""

from __future__ import annotations

import argparse
import resource
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_deploy.runtime import FastSAM, Segments, Thresholds, Tiles
from fastsam_deploy.runtime.masks.overlap import mask_ious
from fastsam_deploy.runtime.segments import join
from fastsam_deploy.runtime.system.cpu import usable_cpus
from fastsam_deploy.runtime.tiling.grid import tile_boxes
from fastsam_deploy.runtime.tiling.merge import placed

from .photographs import RESULTS, ROOT, photographs, processor, write_report

AT_IOU = (0.5, 0.75)
SURE = 0.5
"""Score of segments that are counted apart: they do not depend on a threshold of 0.4."""

Image = NDArray[np.uint8]
Boxes = NDArray[np.int64]


def main() -> None:
    """Build the mosaic, segment it in several ways, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=ROOT / "examples/images", help="folder of photographs")
    parser.add_argument("--megapixels", type=float, default=24.0, help="size of the mosaic")
    parser.add_argument("--model", type=Path, default=None, help="an .onnx file; default: the demo model")
    parser.add_argument("--conf", type=float, default=0.4, help="threshold of the photographs")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
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
    alone = _cut_out(model, mosaic, cells)
    limits = np.array([0, 0, *mosaic.shape[1::-1]])
    moved = np.concatenate([np.maximum(cells[:, :2] - 10, 0), np.minimum(cells[:, 2:] + 10, limits[2:])], 1)
    ways: list[tuple[str, float, Tiles | None, Callable[[], Segments]]] = [
        ("photographs alone", conf, None, lambda: alone),
        ("photographs alone, cut 10 px elsewhere", conf, None, lambda: _cut_out(model, mosaic, moved)),
        ("whole image at once", conf, None, lambda: model.segment(mosaic)),
    ]
    settings = [(conf, Tiles(side, 0.25)), (conf, Tiles(side)), (round(conf - 0.1, 3), Tiles(side, merge_iou=0.9))]
    for threshold, tiles in settings:
        ways.append(("tiles", threshold, tiles, _in_tiles(model, mosaic, threshold, tiles)))
    return [_measured(name, threshold, tiles, run, alone, cells) for name, threshold, tiles, run in ways]


def _in_tiles(model: FastSAM, mosaic: Image, conf: float, tiles: Tiles) -> Callable[[], Segments]:
    return lambda: model.segment(mosaic, thresholds=Thresholds(conf), tiles=tiles)


def _cut_out(model: FastSAM, mosaic: Image, boxes: Iterable[NDArray[np.int64]]) -> Segments:
    """Each part of the mosaic segmented alone, in the coordinates of the mosaic."""
    hw = mosaic.shape[:2]
    parts = ((box, np.ascontiguousarray(mosaic[box[1] : box[3], box[0] : box[2]])) for box in boxes)
    return join([placed(model.segment(part), box, hw) for box, part in parts])


def _measured(
    name: str, conf: float, tiles: Tiles | None, run: Callable[[], Segments], alone: Segments, cells: Boxes
) -> dict[str, Any]:
    start = perf_counter()
    answer = run()
    seconds = perf_counter() - start
    best = best_ious(alone, answer, cells)
    sure = alone.scores >= SURE
    row = {
        "way": name,
        "conf": conf,
        "tiles": None
        if tiles is None
        else {"size_px": tiles.size_px, "overlap": tiles.overlap, "merge_iou": tiles.merge_iou},
        "networks_run": None
        if tiles is None or tiles.size_px is None
        else len(tile_boxes(alone.image_hw, tiles.size_px, tiles.overlap)) + 1,
        "segments": len(answer),
        "found": {str(iou): round(float((best >= iou).mean()), 4) for iou in AT_IOU},
        f"found_of_scores_from_{SURE}": round(float((best[sure] >= AT_IOU[0]).mean()), 4),
        "seconds": round(seconds, 1),
        "merge_seconds": round(answer.timing_ms.get("merge", 0.0) / 1000, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(row, flush=True)
    return row


def best_ious(alone: Segments, answer: Segments, cells: Boxes) -> NDArray[np.float64]:
    """(n,) the highest IoU of each segment of the photographs with a segment of the answer."""
    best = np.zeros(len(alone))
    mine, theirs = alone.masks.boxes_xyxy(), answer.masks.boxes_xyxy()
    for cell in cells:
        rows = np.flatnonzero((mine[:, :2] >= cell[:2]).all(1) & (mine[:, 2:] <= cell[2:]).all(1))
        near = np.flatnonzero((theirs[:, :2] < cell[2:]).all(1) & (theirs[:, 2:] > cell[:2]).all(1))
        if len(rows) and len(near):
            best[rows] = mask_ious(alone.masks[rows], answer.masks[near], min(AT_IOU)).max(1)
    return best


def _environment(arguments: argparse.Namespace, model: FastSAM, mosaic: Image, cells: Boxes) -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "cpu": processor(),
        "processors": usable_cpus(),
        "onnxruntime": version("onnxruntime"),
        "model": model.description.get("file"),
        "imgsz": model.imgsz,
        "photographs": arguments.images.name,
        "mosaic_hw": list(mosaic.shape[:2]),
        "cells": len(cells),
        "cell_hw": [int(cells[0, 3] - cells[0, 1]), int(cells[0, 2] - cells[0, 0])],
    }


def markdown(report: dict[str, Any]) -> str:
    """The table of the report."""
    environment = report["environment"]
    lines = [
        "| | conf | overlap | merge_iou | runs | segments | found | IoU 0.75 | of scores ≥ 0.5 | seconds | merging |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in report["runs"]:
        tiles = run["tiles"] or {"overlap": "", "merge_iou": ""}
        shares = [run["found"]["0.5"], run["found"]["0.75"], run[f"found_of_scores_from_{SURE}"]]
        cells = [
            run["way"],
            run["conf"],
            tiles["overlap"],
            tiles["merge_iou"],
            run["networks_run"] or "",
            run["segments"],
        ]
        cells += [f"{100 * share:.1f} %" for share in shares] + [run["seconds"], run["merge_seconds"] or ""]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    height, width = environment["mosaic_hw"]
    cell_h, cell_w = environment["cell_hw"]
    lines += [
        "",
        f"Mosaic of {width} × {height} pixels: {environment['cells']} photographs of {cell_w} × {cell_h}; tiles of "
        f"{cell_w}. {environment['model']} at {environment['imgsz']}, {environment['cpu']}, "
        f"{environment['processors']} processors, not idle: the times are not exact. Peak memory of the process: "
        f"{report['runs'][-1]['peak_memory_mb']} MB.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
