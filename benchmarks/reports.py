"""What the benchmarks share: photographs of wanted sizes, the machine in words, a report as JSON and Markdown."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def photographs(folder: Path, megapixels: list[float]) -> dict[str, np.ndarray]:
    """Label → (h, w, 3) uint8 RGB, each photograph of the folder at each size."""
    images = {}
    for path in sorted([*folder.glob("*.jpg"), *folder.glob("*.png")]):
        image = cv2.imread(str(path))[..., ::-1]
        for size in megapixels:
            scale = (size * 1e6 / (image.shape[0] * image.shape[1])) ** 0.5
            side_wh = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            images[f"{path.stem} {side_wh[0]}×{side_wh[1]}"] = cv2.resize(image, side_wh, interpolation=cv2.INTER_CUBIC)
    if not images:
        sys.exit(f"{folder}: no .jpg or .png in it; name a folder of photographs with --images")
    return images


def processor() -> str:
    """Name of the CPU."""
    names = [line.split(":", 1)[1].strip() for line in lines_of("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.processor()


def lines_of(path: str) -> list[str]:
    """Lines of a file of the system, none where it is not there."""
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else []


def write_report(folder: Path, name: str, report: dict[str, Any], table: str) -> None:
    """NAME.json and NAME.md in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(table, encoding="utf-8")
