"""Score a checkpoint: mask average precision on held-out synthetic scenes, and agreement with people on BSDS500.

    python -m scripts.demo_model.evaluate demo.pt --synthetic 300
    python -m scripts.demo_model.evaluate demo.pt --bsds BSDS500/data --first 30 --count 70

The BSDS500 figure is the mean, over all human segments of at least 0.5 % of the image, of the best IoU that any mask
of the model reaches (imgsz 640, confidence 0.1 unless told, NMS IoU 0.7, at most 200 masks). BSDS500 only measures:
no picture of it is ever trained on. The folder holds images/val/*.jpg and groundTruth/val/*.mat.
"""

# ruff: noqa: TID251 - training and scoring need torch and ultralytics; the runtime imports neither
from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics.models.fastsam import FastSAM

from .scenes.pool import scene_size
from .scenes.scene import scene
from .train import HELD_OUT_SEED

MAX_MASKS = 200
SMALLEST_SEGMENT = 0.005


def predict(model: FastSAM, image: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Segment an image uint8 (H, W, 3) BGR; masks bool (N, H, W) and scores float (N,)."""
    found = model(image, imgsz=640, conf=confidence, iou=0.7, max_det=MAX_MASKS, retina_masks=True, device="cpu",
                  verbose=False)[0]  # fmt: skip
    if found.masks is None:
        return np.zeros((0, *image.shape[:2]), bool), np.zeros(0)
    return found.masks.data.numpy() > 0.5, found.boxes.conf.numpy()


def encode(mask: np.ndarray) -> dict[str, object]:
    """Run-length encode a mask bool (H, W) as pycocotools reads it."""
    return rle.encode(np.asfortranarray(mask.astype(np.uint8)))


def average_precision(model: FastSAM, count: int) -> dict[str, float]:
    """Mask mAP50 and mAP50-95 on `count` held-out scenes (COCO's method, up to MAX_MASKS masks each)."""
    truth: list[dict[str, object]] = []
    guesses: list[dict[str, object]] = []
    images = []
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        painted = scene(seed, scene_size(seed))
        height, width = painted.image.shape[:2]
        images.append({"id": seed, "height": height, "width": width})
        for mask in painted.masks:
            code = encode(mask)
            shape = {"area": int(mask.sum()), "bbox": rle.toBbox(code).tolist(), "segmentation": code}
            truth.append({"id": len(truth) + 1, "image_id": seed, "category_id": 1, "iscrowd": 0, **shape})
        masks, scores = predict(model, np.ascontiguousarray(painted.image[..., ::-1]), 0.001)
        for mask, score in zip(masks, scores, strict=True):
            guesses.append({"image_id": seed, "category_id": 1, "score": float(score), "segmentation": encode(mask)})
    if not guesses:
        return {"scenes": count, "mask_map50": 0.0, "mask_map50_95": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress by print
        coco = COCO()
        coco.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "object"}]}
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(guesses), "segm")
        judge.params.maxDets = [1, 10, MAX_MASKS]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, 0, 0, -1]  # (IoU thresholds, recalls)
    return {"scenes": count, "mask_map50": float(precision[0].mean()), "mask_map50_95": float(precision.mean())}


def best_overlaps(masks: np.ndarray, segments: np.ndarray) -> list[float]:
    """Best IoU that masks bool (N, H, W) reach for each large enough segment of a label map int (H, W)."""
    flat = masks.reshape(len(masks), segments.size).astype(np.float32)
    areas, labels = flat.sum(1), segments.ravel()
    best = []
    for number in np.unique(labels):
        inside = labels == number
        size = int(inside.sum())
        if size < SMALLEST_SEGMENT * labels.size:
            continue
        shared = flat[:, inside].sum(1)
        best.append(float((shared / (areas + size - shared)).max()) if len(flat) else 0.0)
    return best


def human_agreement(model: FastSAM, folder: Path, first: int, count: int, confidence: float) -> dict[str, float]:
    """Mean best IoU over the human segments of validation images first .. first + count - 1 in name order."""
    from scipy.io import loadmat  # needed for BSDS500's files only

    files = sorted((folder / "images" / "val").glob("*.jpg"))[first : first + count]
    if not files:
        raise SystemExit(f"--bsds: found no images/val/*.jpg from number {first} on in {folder}; expected the folder "
                         "that holds images/ and groundTruth/")  # fmt: skip
    best: list[float] = []
    found = 0
    for file in files:
        masks, _ = predict(model, cv2.imread(str(file)), confidence)
        found += len(masks)
        annotations = loadmat(folder / "groundTruth" / "val" / f"{file.stem}.mat")["groundTruth"][0]
        for person in annotations:
            best += best_overlaps(masks, person["Segmentation"][0, 0])
    scores = np.array(best)
    return {"images": len(files), "first": first, "masks_per_image": found / len(files), "segments": len(best),
            "mean_best_iou": float(scores.mean()), "recall_at_0.5": float((scores > 0.5).mean())}  # fmt: skip


def main() -> None:
    """Print the scores asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--synthetic", type=int, default=0, metavar="N", help="score N held-out scenes")
    parser.add_argument("--bsds", type=Path, help="BSDS500 folder")
    parser.add_argument("--first", type=int, default=0, help="number of the first BSDS500 validation image")
    parser.add_argument("--count", type=int, default=100, help="number of BSDS500 images")
    parser.add_argument("--confidence", type=float, default=0.1, help="least score of a mask on BSDS500")
    args = parser.parse_args()
    if not args.checkpoint.is_file():
        raise SystemExit(
            f"found no checkpoint {args.checkpoint}; expected a .pt file, as scripts.demo_model.train writes"
        )
    model = FastSAM(str(args.checkpoint))
    if args.synthetic:
        print(average_precision(model, args.synthetic))
    if args.bsds:
        print(human_agreement(model, args.bsds, args.first, args.count, args.confidence))


if __name__ == "__main__":
    main()
