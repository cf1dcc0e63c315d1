"""Label photographs with a checkpoint's own answers, as training material for the next: only where answers agree.

    python -m scripts.demo_model.guess demo.pt library/photographs guessed --crops 800

Each crop is segmented as it is, mirrored, and smaller. What two of the three show (mask IoU above 0.7) with a
score above `--confidence` becomes a label; the labels are not complete, and training knows it.
"""

# ruff: noqa: TID251 - training and scoring need torch and ultralytics; the runtime imports neither
from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from ultralytics.models.fastsam import FastSAM

from .scenes.pool import PHOTOGRAPH_SEED, scene_path, scene_size, store

AGREE, SAME = 0.7, 0.6  # mask IoU of two answers that mean one region; of labels of which only one is kept
MOST = 40  # labels of a crop


def answers(model: FastSAM, image: np.ndarray, imgsz: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Segment an image uint8 (H, W, 3) RGB: masks float32 (N, H * W) of 0 and 1, scores float (N,)."""
    done = model(np.ascontiguousarray(image[..., ::-1]), imgsz=imgsz, conf=confidence, iou=0.7, max_det=200,
                 retina_masks=True, device="cpu", verbose=False)[0]  # fmt: skip
    if done.masks is None:
        return np.zeros((0, image.shape[0] * image.shape[1]), np.float32), np.zeros(0)
    masks = done.masks.data.numpy() > 0.5
    return masks.reshape(len(masks), -1).astype(np.float32), done.boxes.conf.numpy()


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mask IoU of each of (N, P) with each of (M, P); (N, M)."""
    shared = first @ second.T
    return shared / np.maximum(first.sum(1)[:, None] + second.sum(1)[None] - shared, 1)


def labels(model: FastSAM, image: np.ndarray, confidence: float) -> np.ndarray:
    """Label an image uint8 (H, W, 3) RGB with what at least two of three answers show; bool (N, H, W)."""
    height, width = image.shape[:2]
    masks, scores = answers(model, image, 640, confidence)
    turned, _ = answers(model, image[:, ::-1], 640, confidence / 2)
    turned = turned.reshape(-1, height, width)[:, :, ::-1].reshape(len(turned), -1)
    small, _ = answers(model, image, 448, confidence / 2)
    kept: list[np.ndarray] = []
    if not len(masks):
        return np.zeros((0, height, width), bool)
    others = [other for other in (turned, small) if len(other)]
    closest = [overlaps(masks, other) for other in others]
    for index in np.argsort(-scores):
        pairs = zip(others, closest, strict=True)
        votes = [other[iou[index].argmax()] for other, iou in pairs if iou[index].max() > AGREE]
        if not votes or len(kept) >= MOST:
            continue
        mask = (np.sum([masks[index], *votes], 0) >= (1 + len(votes)) / 2).astype(np.float32)
        if kept and overlaps(mask[None], np.array(kept)).max() > SAME:
            continue
        kept.append(mask)
    return np.array(kept, bool).reshape(-1, height, width)


def crop(rng: np.random.Generator, picture: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Cut a random part of at least half the side out of a picture uint8 (H, W, 3), scaled to (height, width)."""
    height, width = picture.shape[:2]
    most = min(height / size_hw[0], width / size_hw[1])
    zoom = most * rng.uniform(max(0.5, min(1.0, 1 / most)), 1)
    high, wide = int(size_hw[0] * zoom), int(size_hw[1] * zoom)
    y, x = rng.integers(height - high + 1), rng.integers(width - wide + 1)
    return cv2.resize(picture[y : y + high, x : x + wide], size_hw[::-1], interpolation=cv2.INTER_AREA)


def main() -> None:
    """Label crops of photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("photographs", type=Path, help="folder of JPEGs")
    parser.add_argument("pool", type=Path, help="folder to fill")
    parser.add_argument("--crops", type=int, default=800)
    parser.add_argument("--confidence", type=float, default=0.2)
    args = parser.parse_args()
    model, paths = FastSAM(str(args.checkpoint)), sorted(args.photographs.glob("*.jpg"))
    args.pool.mkdir(parents=True, exist_ok=True)
    count = 0
    for number in range(args.crops):
        seed = PHOTOGRAPH_SEED + number
        rng = np.random.default_rng(seed)
        picture = cv2.cvtColor(cv2.imread(str(paths[number % len(paths)])), cv2.COLOR_BGR2RGB)
        size = scene_size(seed)
        if (picture.shape[0] > picture.shape[1]) != (size[0] > size[1]) and rng.random() < 0.7:
            continue  # a landscape crop of an upright picture shows little of it
        image = crop(rng, picture, size)
        masks = labels(model, image, args.confidence)
        if len(masks) >= 3:
            store(scene_path(args.pool, seed), image, masks)
            count += 1
    print(f"{count} crops labelled")


if __name__ == "__main__":
    main()
