"""What the benchmarks share: photographs in chosen sizes, their options, and reports as JSON and Markdown."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastsam_deploy.runtime.system.atomic import write_atomically
from fastsam_deploy.runtime.system.cpu import name_and_flags

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"


def photographs(folder: Path, megapixels: list[float] | None = None) -> dict[Any, np.ndarray]:
    """(h, w, 3) uint8 RGB of every .jpg and .png in a folder, by path; with sizes by label, each at each size."""
    paths = sorted([*folder.glob("*.jpg"), *folder.glob("*.png")])
    if not paths:
        sys.exit(f"{folder}: no .jpg or .png in it; name a folder of photographs with --images")
    found = {path: np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in paths}
    if megapixels is None:
        return found
    images = {}
    for path, image in found.items():
        for size in megapixels:
            scale = (size * 1e6 / (image.shape[0] * image.shape[1])) ** 0.5
            side_wh = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            images[f"{path.stem} {side_wh[0]}×{side_wh[1]}"] = cv2.resize(image, side_wh, interpolation=cv2.INTER_CUBIC)
    return images


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a benchmark on photographs: which ones, at which sizes, and where the results go."""
    parser.add_argument("--images", type=Path, default=ROOT / "examples/images", help="folder of photographs")
    parser.add_argument(
        "--megapixels", type=float, nargs="+", default=[0.65, 3.0], help="each photograph is resized to"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")


def processor() -> str:
    """Name of the CPU."""
    return name_and_flags()[0]


def as_json(report: dict[str, Any]) -> bytes:
    """As results are kept."""
    return (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode()


def write_report(folder: Path, name: str, report: dict[str, Any], table: str) -> None:
    """Print the table; write NAME.json and NAME.md to the folder."""
    print(table)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.json", as_json(report))
    write_atomically(folder / f"{name}.md", table.encode())
