"""Part "gpu_host": what a call of TRTFastSAM costs the host, on the emulated CUDA driver with an idle device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..records import Record, Settings
from ..workers import Contender

OURS = Contender("ours_gpu_host", "ours on a GPU, the host's part", "gpu_host", True)
YARDSTICK = Contender("yardstick", "copies of image and masks, a thousand turns of a loop", "yardstick", True)
RUNS = 400


def measure(settings: Settings) -> Record:
    """Rows: case {image, masks, megapixels, words_mb}, "goal_ms"; ratios of the yardstick over ours."""
    record = Record()
    folder = emulated_driver()
    if folder is None:
        record.skip(OURS.name, "there is no emulated CUDA driver; scripts/dev/emulated_cuda.py makes it")
        return record
    for row in _measured(folder, settings):
        times = row["ms"]
        names = [name for name in times if name != "yardstick"]
        turns = [dict(zip(names, each, strict=True)) for each in zip(*(times[name] for name in names), strict=True)]
        record.row(OURS, row["case"], turns, goal_ms=row["goal_ms"])
        record.row(YARDSTICK, row["case"], [{"total": each} for each in times["yardstick"]])
        ratios = [stick / ours for stick, ours in zip(times["yardstick"], times["total"], strict=True)]
        record.ratio(row["case"], YARDSTICK, OURS, {"total": ratios})
    return record


def emulated_driver() -> Path | None:
    """Its folder: what FASTSAM_EMULATED_CUDA names, or that of this environment."""
    folder = Path(os.environ.get("FASTSAM_EMULATED_CUDA") or Path(sys.prefix) / "emulated-cuda")
    return folder if (folder / "libcuda.so.1").is_file() else None


def _measured(folder: Path, settings: Settings) -> list[dict[str, Any]]:
    """In a process of its own: other libraries would find the driver too."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.gpu_host_cost", "--json", str(path)]
        command += ["--runs", str(settings.runs(RUNS)), *(["--cases", "0", "1"] if settings.quick else [])]
        environment = {**os.environ, "FASTSAM_EMULATED_CUDA": str(folder)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"benchmarks.gpu_host_cost failed:\n{done.stdout}{done.stderr}")
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return rows
