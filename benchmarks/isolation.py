"""What it costs to read files in a process of its own: python -m benchmarks.isolation

Both ways take turns in one process, each on the same file, so that a busy machine slows both. A row has the
median of the time on the clock, and the mean of the processors' time of both processes, which other work hardly
changes. The child runs already, as it does from the second image on.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from fastsam_deploy.runtime import EngineSettings, IsolatedLoader, load_image
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.engines.trial import try_file
from fastsam_deploy.runtime.sources.isolated import IsolatedVideo
from fastsam_deploy.runtime.sources.video import Video
from fastsam_deploy.runtime.system.atomic import write_atomically

from .photographs import ROOT, photographs
from .suite.machine import environment

FRAMES = 60
SIZES = {"0.3": 0.3, "3": 3.0, "12": 12.0}


Measured = tuple[float, float]
"""Seconds on the clock, and of the processors."""


def in_turns(what: str, plain: Callable[[], Measured], isolated: Callable[[], Measured], rounds: int) -> dict[str, Any]:
    """A row: medians on the clock and means of processors' time in ms, and ratios of isolated over plain."""
    times = np.array([(plain(), isolated()) for _ in range(rounds)])
    clock, processors = times[..., 0], times[..., 1].mean(axis=0)
    plain_ms, isolated_ms = np.median(clock, axis=0) * 1000
    row: dict[str, Any] = {
        "what": what,
        "ms": {"plain": plain_ms, "isolated": isolated_ms, "ratio": np.median(clock[:, 1] / clock[:, 0])},
    }
    if np.isfinite(processors).all():
        plain_ms, isolated_ms = processors * 1000
        row["processor_ms"] = {"plain": plain_ms, "isolated": isolated_ms, "ratio": isolated_ms / plain_ms}
    print(what, *({key: round(float(value), 2) for key, value in row[name].items()} for name in list(row)[1:]))
    return row


def measured(work: Callable[[], object], child: int | None = None) -> Measured:
    """What work takes in this process, and in a child that runs already."""
    start, processors = perf_counter(), processors_s(os.getpid()) + processors_s(child)
    work()
    return perf_counter() - start, processors_s(os.getpid()) + processors_s(child) - processors


def processors_s(process: int | None) -> float:
    """The processors' time of all threads of a process that are there."""
    tasks = [] if process is None else Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def image_rows(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """JPEG files of several sizes."""
    rows = []
    with IsolatedLoader() as loader:
        for label, megapixels in SIZES.items():
            image = next(iter(photographs(ROOT / "examples/images", [megapixels]).values()))
            path = folder / f"{label}.jpg"
            cv2.imwrite(str(path), image[..., ::-1])
            loader.load_image(path)
            rows.append(
                in_turns(
                    f"JPEG of {label} megapixels",
                    lambda path=path: measured(lambda: load_image(path)),  # type: ignore[misc]
                    lambda path=path: measured(lambda: loader.load_image(path), child_of(loader)),  # type: ignore[misc]
                    rounds,
                )
            )
    return rows


def video_rows(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """A frame of MPEG-4 videos, from the second one on."""
    rows = []
    image = next(iter(photographs(ROOT / "examples/images", [4.0]).values()))[..., ::-1]
    for width, height in ((640, 480), (1920, 1080)):
        path = folder / f"{width}.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
        for i in range(FRAMES):
            writer.write(image[i : i + height, i : i + width])
        writer.release()
        rows.append(
            in_turns(
                f"frame of an MPEG-4 video of {width}x{height}",
                lambda path=path: frame_s(Video, path),  # type: ignore[misc]
                lambda path=path: frame_s(IsolatedVideo, path),  # type: ignore[misc]
                max(3, rounds // 8),
            )
        )
    return rows


def frame_s(kind: type[Video] | type[IsolatedVideo], path: Path) -> Measured:
    """For each frame but the first one."""
    with kind(path) as video:
        frames = video.frames()
        next(frames)
        seconds = measured(lambda: sum(1 for _ in frames), child_of(video))
    return seconds[0] / (FRAMES - 1), seconds[1] / (FRAMES - 1)


def child_of(reader: object) -> int | None:
    """The process that reads, if there is one."""
    child = getattr(reader, "_child", None)
    return None if child is None else int(child.pid)


def model_rows(rounds: int) -> list[dict[str, Any]]:
    """Opening the demo model, with and without a trial before."""
    rows = []
    for engine in ("onnxruntime", "openvino"):
        settings, path = EngineSettings(engine=engine), ROOT / "models/fastsam-demo.onnx"

        def opened(settings: EngineSettings = settings, path: Path = path) -> None:
            open_engine(path, settings).close()

        def tried(settings: EngineSettings = settings, path: Path = path) -> None:
            from fastsam_deploy.runtime.engines import trial

            trial._PASSED.clear()
            try_file(path, settings)
            open_engine(path, settings).close()

        opened()
        rows.append(
            in_turns(
                f"opening the demo model, {engine}",
                lambda opened=opened: (measured(opened)[0], nan),  # type: ignore[misc]
                lambda tried=tried: (measured(tried)[0], nan),  # type: ignore[misc]
                max(3, rounds // 8),
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/isolation.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [*image_rows(Path(folder), arguments.rounds), *video_rows(Path(folder), arguments.rounds)]
    rows += model_rows(arguments.rounds)
    machine = environment([1], quick=True)
    report = json.dumps({"environment": machine, "rounds": arguments.rounds, "rows": rows}, indent=1) + "\n"
    write_atomically(arguments.output, report.encode())


if __name__ == "__main__":
    main()
