"""Writes the two drawings of the documentation: docs/images/speed.svg and docs/images/pipeline.svg.

    python scripts/dev/make_figures.py

The chart has the figures of benchmarks/results/avx512-bf16/suite_end_to_end.json. Run it again when that file changes;
tests/test_readme.py compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results/avx512-bf16/suite_end_to_end.json"
OURS, PEER = "ours_onnxruntime", "ultralytics"
BARS = ((OURS, "this library, ONNX Runtime", "#2a7f62"), (PEER, "ultralytics, PyTorch, full-size masks", "#b0b7bf"))
IMAGES = ("cat 931×698", "cat 2000×1500")
STAGES = (
    ("image", "uint8, h × w × 3"),
    ("letterbox", "scaled, padded"),
    ("network", "ONNX, OpenVINO, TensorRT, Triton"),
    ("decode, NMS", "boxes, scores"),
    ("masks", "1 bit a pixel, cropped"),
    ("prompts", "points, boxes, text"),
    ("results", "pictures, COCO, YOLO …"),
)


def text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", weight: str = "normal") -> str:
    """One line of text at a baseline."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    """A rectangle with round corners."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{fill}"/>'


def drawing(width: int, height: int, title: str, parts: list[str]) -> str:
    """The SVG file: parts on white, so that it can be read on a dark page too."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif" fill="#1f2328">'
    )
    return "\n".join([head, f"<title>{escape(title)}</title>", box(0, 0, width, height, "#ffffff"), *parts, "</svg>\n"])


def total_ms(report: dict[str, Any], image: str, contender: str) -> float:
    """Median time of one image, on as many threads as were measured."""
    rows = [
        row
        for row in report["rows"]
        if row["contender"] == contender and row["case"]["image"] == image and row["case"]["batch"] == 1
    ]
    return float(max(rows, key=lambda row: row["threads"])["ms"]["total"]["median"])


def speed(report: dict[str, Any]) -> str:
    """The chart: milliseconds for one image, ours beside the peer's."""
    slowest = max(total_ms(report, image, contender) for image in IMAGES for contender, _, _ in BARS)
    parts, y = [text(16, 28, "Milliseconds for one image (shorter is better)", size=15, weight="bold")], 46.0
    for image in IMAGES:
        size = next(row["case"]["megapixels"] for row in report["rows"] if row["case"]["image"] == image)
        parts.append(text(16, y + 16, f"{size:g} megapixels", weight="bold"))
        y += 24
        for contender, title, color in BARS:
            ms = total_ms(report, image, contender)
            length = max(2.0, round(340 * ms / slowest, 1))
            parts += [text(16, y + 16, title), box(270, y + 2, length, 20, color)]
            parts.append(text(278 + length, y + 17, f"{ms:.0f}"))
            y += 26
        y += 10
    return drawing(680, int(y + 6), "Milliseconds for one image", parts)


def pipeline() -> str:
    """The stages of an image, from left to right."""
    step = 134
    parts: list[str] = []
    for i, (name, note) in enumerate(STAGES):
        x = 12 + i * step
        parts += [box(x, 20, 112, 44, "#2a7f62" if name == "network" else "#e3efe9")]
        color = ' fill="#ffffff"' if name == "network" else ""
        parts.append(f"<g{color}>{text(x + 56, 47, name, size=14, anchor='middle', weight='bold')}</g>")
        for line, words in enumerate(note.split(", ")):
            parts.append(text(x + 56, 84 + 16 * line, words, size=12, anchor="middle"))
        if i + 1 < len(STAGES):
            parts.append(
                f'<path d="M{x + 114} 42 h14 m-5 -5 l5 5 l-5 5" stroke="#57606a" fill="none" stroke-width="2"/>'
            )
    return drawing(12 + step * len(STAGES), 144, "What happens to an image", parts)


def figures() -> dict[str, str]:
    """Name of each file in docs/images → its content."""
    report = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {"speed.svg": speed(report), "pipeline.svg": pipeline()}


if __name__ == "__main__":
    for name, content in figures().items():
        (ROOT / "docs/images" / name).write_text(content, encoding="utf-8")
        print(f"docs/images/{name}")
