"""Part "stream": a folder of photographs: one after the other in a loop, `segment_stream`, and `segment_batch`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from fastsam_deploy.runtime import FastSAM, Segments

from ..records import Record, Settings, photograph_sizes, segmenters, variants

ROUNDS, FILES, BATCH = 7, 8, 4

Way = Callable[[FastSAM, Sequence[Path]], list[Segments]]


def loop(model: FastSAM, paths: Sequence[Path]) -> list[Segments]:
    """One after the other."""
    return [model.segment(path) for path in paths]


def stream(model: FastSAM, paths: Sequence[Path]) -> list[Segments]:
    """Several under way."""
    return [item.result() for item in model.segment_stream(paths)]


def batches(model: FastSAM, paths: Sequence[Path]) -> list[Segments]:
    """Several in a call."""
    return [each for i in range(0, len(paths), BATCH) for each in model.segment_batch(paths[i : i + BATCH])]


def measure(settings: Settings) -> Record:
    """Rows: case {way, images, megapixels} with "total", milliseconds an image; ratios of the loop over the others."""
    record = Record()
    threads = max(settings.threads)
    field = [one for one in segmenters(settings, threads).values() if one.ours]
    field += [one for name, one in variants(settings, threads).items() if name.endswith("int8")]
    size = settings.megapixels([3.0])[-1]
    ways: dict[str, Way] = {"loop": loop, "stream": stream, f"batches of {BATCH}": batches}
    with tempfile.TemporaryDirectory() as folder:
        paths = _files(Path(folder), settings, size, 2 if settings.quick else FILES)
        for one in record.available(field):
            with FastSAM(one.source, imgsz=settings.imgsz, threads=one.threads, engine=one.engine) as model:
                for way in ways.values():
                    _require_same(loop(model, paths), way(model, paths), one.title)
                times = _rounds(model, ways, paths, settings.runs(ROUNDS))
            case = {"images": len(paths), "megapixels": size}
            for way, ms in times.items():
                record.row(one, {**case, "way": way}, [{"total": each} for each in ms])
            for way in list(ways)[1:]:
                ratios = [a / b for a, b in zip(times["loop"], times[way], strict=True)]
                record.ratio({**case, "way": f"loop over {way}"}, one, one, {"total": ratios})
    return record


def _files(folder: Path, settings: Settings, megapixels: float, count: int) -> list[Path]:
    """Photographs as JPEG files, in turn."""
    images = list(photograph_sizes(settings.photographs, [megapixels]).values())
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), images[i % len(images)][..., ::-1])
    return paths


def _rounds(model: FastSAM, ways: dict[str, Way], paths: Sequence[Path], runs: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs):
        for name in sorted(ways, reverse=bool(run % 2)):
            start = time.perf_counter()
            ways[name](model, paths)
            times[name].append((time.perf_counter() - start) * 1000 / len(paths))
    return times


def _require_same(one: Sequence[Segments], other: Sequence[Segments], who: str) -> None:
    for found, wanted in zip(one, other, strict=True):
        masks = zip(found.masks, wanted.masks, strict=False)
        if len(found) != len(wanted) or not all(np.array_equal(a, b) for a, b in masks):
            sys.exit(f"{who}: masks differ from the loop's: nothing was timed")
