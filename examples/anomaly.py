"""Anomalies: the defects of a part that points, boxes or a text pick out, with their sizes; and how much of it is bad.

    python examples/anomaly.py part.png --points 201,88 --points 420,231 --output defects.png
    python examples/anomaly.py part.png --text "a scratch" --clip clip

As in the FastSAM paper: everything is segmented once, and prompts say which segments are the defects. A point or box
comes from an inspector, from a template that the part is compared with, or from a detector that knows places only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fastsam_deploy import Boxes, FastSAM, Points, Segments, Text


@dataclass(frozen=True)
class Inspection:
    """What was found in one image.

    Attributes:
        defects: one segment for each prompt that has an answer.
        share: of the image's pixels that are in any of them.
    """

    defects: Segments
    share: float


def inspect(
    model: FastSAM,
    image: str | Path,
    *,
    points: Sequence[Sequence[float]] = (),
    boxes: Sequence[Sequence[float]] = (),
    texts: Sequence[str] = (),
    largest_share: float = 0.2,
) -> Inspection:
    """Find the defects of a part.

    Args:
        model: open; for texts, with a CLIP.
        image: path.
        points: x, y in pixels, each on one defect.
        boxes: x1, y1, x2, y2 in pixels, each around one defect.
        texts: what a defect looks like.
        largest_share: a segment that covers more of the image is the part itself, and no defect.
    """
    everything = model.segment(image, keep_image=True)
    height, width = everything.image_hw
    small = everything[everything.areas <= largest_share * height * width]
    prompts = [
        *([Points(points, mode="each")] if len(points) else []),
        *([Boxes(boxes)] if len(boxes) else []),
        *(Text(text) for text in texts),
    ]
    defects = small.select(prompts)
    bad = np.any(defects.masks.dense(), axis=0) if len(defects) else np.zeros((height, width), bool)
    return Inspection(defects, float(bad.mean()))


def _numbers(texts: list[str]) -> list[list[float]]:
    return [[float(part) for part in text.split(",")] for text in texts]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Show the defects of a part.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--points", action="append", default=[], metavar="X,Y")
    parser.add_argument("--boxes", action="append", default=[], metavar="X,Y,X,Y")
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--clip", help="folder made by fastsam-export clip, for --text")
    parser.add_argument("--model", help="default: the demo model")
    parser.add_argument("--output", type=Path, default=Path("defects.png"))
    given = parser.parse_args()
    points, boxes = map(_numbers, (given.points, given.boxes))
    with FastSAM(given.model, clip=given.clip) as model:
        found = inspect(model, given.image, points=points, boxes=boxes, texts=given.text)
    for area, box in zip(found.defects.areas.tolist(), found.defects.masks.boxes_xyxy().tolist(), strict=True):
        print(f"defect of {area} pixels at {', '.join(f'{side:.0f}' for side in box)}")
    print(f"{100 * found.share:.2f} % of the image is bad")
    Image.fromarray(found.defects.plot(boxes=True)).save(given.output)


if __name__ == "__main__":
    main()
