"""The salient object: the segment that differs most from what is around it, cut out on a transparent background.

    python examples/salient_object.py photo.jpg --output object.png

FastSAM's paper takes the text "the most salient object"; with a CLIP, so does this: --clip FOLDER. Without one,
segments are compared by their colour against that of their surroundings, their place and their size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy import FastSAM, Segments, Text


def salient_object(model: FastSAM, image: str | Path) -> Segments:
    """One segment with its image, or none.

    Args:
        model: open; with a CLIP, the text decides.
        image: path.
    """
    everything = model.segment(image, keep_image=True)
    if model.clip is not None:
        return everything.select(Text("the most salient object"))
    scores = saliency(everything)
    return everything[[int(scores.argmax())]] if len(scores) and scores.max() > 0 else everything[[]]


def saliency(segments: Segments) -> NDArray[np.float64]:
    """(n,) how salient each segment is: contrast x place x size.

    Contrast is the distance of the mean colours (CIE Lab) inside and in a band around the segment, in which the
    background is seen. Segments at the border of the image, and those of more than half of it, are background.

    Args:
        segments: n segments that keep their image.
    """
    image = segments.image
    if image is None:
        raise ValueError("the segments have no image; expected model.segment(…, keep_image=True)")
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    height, width = segments.image_hw
    band_px = max(3, round(0.04 * max(height, width)))
    scores = np.zeros(len(segments))
    for i, mask in enumerate(segments.masks):
        area = float(mask.mean())
        around = cv2.dilate(mask.view(np.uint8), np.ones((2 * band_px + 1,) * 2, np.uint8)).view(bool) & ~mask
        edges = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        if not around.any() or not 0.005 <= area <= 0.5 or edges.mean() > 0.1:
            continue
        contrast = float(np.linalg.norm(lab[mask].mean(0) - lab[around].mean(0)))
        rows, columns = np.nonzero(mask)
        off_center = np.hypot(rows.mean() / height - 0.5, columns.mean() / width - 0.5)
        scores[i] = contrast * np.exp(-2 * off_center) * area**0.25
    return scores


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Cut out the salient object.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", help="default: the demo model")
    parser.add_argument("--clip", help="folder made by fastsam-export clip")
    parser.add_argument("--output", type=Path, default=Path("object.png"))
    given = parser.parse_args()
    with FastSAM(given.model, clip=given.clip) as model:
        segments = salient_object(model, given.image)
    if not len(segments) or segments.image is None:
        raise SystemExit(f"{given.image}: nothing stands out")
    left, top, right, bottom = segments.masks.boxes_xyxy()[0].astype(int).tolist()
    alpha = 255 * segments.masks.full(0).astype(np.uint8)
    rgba = np.dstack([segments.image, alpha])[top:bottom, left:right]
    Image.fromarray(rgba).save(given.output)
    print(f"{given.image}: {int(segments.areas[0])} pixels → {given.output}")


if __name__ == "__main__":
    main()
