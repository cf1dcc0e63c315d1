"""What the benchmarks share: photographs of wanted sizes, the machine in words, a report as JSON and Markdown."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastsam_deploy.runtime.system.atomic import write_atomically


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


def processor() -> str:
    """Name of the CPU."""
    names = [line.split(":", 1)[1].strip() for line in lines_of("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.processor()


def lines_of(path: str) -> list[str]:
    """Lines of a file of the system, none where it is not there."""
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else []


def as_json(report: dict[str, Any]) -> bytes:
    """As results are kept."""
    return (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode()


def write_report(folder: Path, name: str, report: dict[str, Any], table: str) -> None:
    """NAME.json and NAME.md in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.json", as_json(report))
    write_atomically(folder / f"{name}.md", table.encode())
