"""Text prompts on the CPU: a loop over full-size masked images against crops in batches, on the same encoder.

    python -m benchmarks.text_prompts --clip clip       # measures, writes results/text_prompts.{json,md}
    python -m benchmarks.text_prompts                   # with a ViT-B/32 of random weights, exported first (a minute)
    python -m benchmarks.text_prompts --runs 1          # does it still work?

Weights do not change the time. All contenders use one ONNX Runtime session for the images and one for the texts, in one
process, in turn:

    loop       what text prompts of FastSAM ports do: for each mask a full-size masked image, its crop, Pillow's resize
               and a run of the encoder. Full-size masks are given, their making is not counted.
    loop batch the same crops in one run of the encoder
    batched    ours with the same meaning: black background, the model's own preparation, every mask encoded
    default    ours as it is by default: letterboxed on the mean colour, near-duplicates (IoU 0.95) encoded once
    likes      the default with duplicate_iou=0.8
    largest    the default with max_masks=20
    dense      mode="dense": one run of the encoder
    again      another text for the segments of `default`
    alone 1, alone 32   the encoder without anything around it, one by one and in batches of 32: the floor

`batched` gives the similarities of `loop`, which is checked before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fastsam_deploy.runtime import Clip, FastSAM, Segments, Text, with_image
from fastsam_deploy.runtime.clip.encoders import ImageEncoder, TextEncoder
from fastsam_deploy.runtime.clip.spec import TOKENIZER_FILE, ClipSpec, read_clip_spec
from fastsam_deploy.runtime.engines import open_network
from fastsam_deploy.runtime.settings import EngineSettings

from .photographs import add_options, photographs, processor, write_report

Contender = Callable[[str], np.ndarray]
TITLES = {
    "loop": "one by one, full-size images",
    "loop_batch": "full-size images, one batch",
    "batched": "**ours**, the same meaning",
    "default": "**ours**, default",
    "likes": "… `duplicate_iou=0.8`",
    "largest": "… `max_masks=20`",
    "dense": '… `mode="dense"`',
    "again": "… another text",
    "alone_1": "encoder alone, one by one",
    "alone_32": "encoder alone, batches of 32",
}


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.clip or _export(Path(folder) / "clip")
        images = photographs(arguments.images, arguments.megapixels)
        with _Encoders(place, arguments.threads) as encoders, FastSAM(conf=0.02, threads=arguments.threads) as model:
            rows = [_measure(encoders, model, *item, arguments) for item in images.items()]
            report = {"environment": _environment(encoders.clip.spec, arguments), "images": rows}
    table = markdown(report)
    write_report(arguments.output, "text_prompts", report, table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Text prompts on the CPU.")
    parser.add_argument("--clip", type=Path, help="folder made by fastsam-export clip; default: random ViT-B/32")
    add_options(parser)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--masks", type=int, default=100, help="of each photograph, the best")
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


class _Encoders:
    """A CLIP folder whose runs are counted, and texts that were not asked before.

    Attributes:
        clip: its encoders.
        encoded: images that went through the image encoder.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        spec, settings = read_clip_spec(folder), EngineSettings(threads=threads)
        self._images = open_network(folder / spec.image.file, settings)
        self._texts = open_network(folder / spec.text.file, settings)
        self.clip = Clip(ImageEncoder(self, spec), TextEncoder(self._texts, spec, folder / TOKENIZER_FILE))
        self.encoded = 0
        self._asked = count()

    def new_text(self) -> str:
        return f"a photo of a cat, {next(self._asked)}"

    def run(self, feed: dict[str, Any], outputs: list[str]) -> Any:
        self.encoded += len(feed["images"])
        return self._images.run(feed, outputs)

    def __getattr__(self, name: str) -> Any:  # all else is the network's own
        return getattr(self._images, name)

    def __enter__(self) -> _Encoders:
        return self

    def __exit__(self, *_: object) -> None:
        self._images.close()
        self._texts.close()


def _export(folder: Path) -> Path:
    """A ViT-B/32 as OpenAI's, with random weights."""
    import open_clip
    import torch

    from fastsam_deploy.export.clip.models import source_from_open_clip
    from fastsam_deploy.export.clip.to_clip import write_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None)
    tokenizer = open_clip.get_tokenizer("ViT-B-32-quickgelu")
    write_clip(source_from_open_clip(model, tokenizer, "ViT-B-32-quickgelu, random weights"), folder)
    return folder


def _measure(
    encoders: _Encoders, model: FastSAM, label: str, image: np.ndarray, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Correct first; then rounds in which every contender runs once, in an order that changes."""
    everything = model.segment(image)
    segments = everything[np.flatnonzero(everything.areas > 100)[: arguments.masks]]
    contenders = _contenders(encoders, segments, image)
    loop, batched = contenders["loop"]("a photo of a cat"), contenders["batched"]("a photo of a cat")
    worst = float(np.abs(loop - batched).max())
    if not worst <= 1e-4 or loop.argmax() != batched.argmax():
        sys.exit(f"{label}: similarities differ from the loop's by {worst:.2g}: nothing was timed")
    times: dict[str, list[float]] = {name: [] for name in TITLES}
    encoded: dict[str, int] = {}
    for run in range(arguments.runs):
        for name in [*TITLES][run % len(TITLES) :] + [*TITLES][: run % len(TITLES)]:
            text, before = encoders.new_text(), encoders.encoded
            start = perf_counter()
            contenders[name](text)
            times[name].append((perf_counter() - start) * 1000)
            encoded[name] = encoders.encoded - before
    row: dict[str, Any] = {
        "image": label,
        "megapixels": round(image.shape[0] * image.shape[1] / 1e6, 2),
        "masks": len(segments),
        "boxes_megapixels": round(sum(crop.size for crop in segments.masks.crops) / 1e6, 1),
        "worst_difference": float(f"{worst:.2g}"),
        "runs": arguments.runs,
    }
    for name, ms in times.items():
        # Round by round, so that a slow moment of the machine is in both numbers.
        ratios = [theirs / ours for theirs, ours in zip(times["loop"], ms, strict=True)]
        of_times = {"median": round(median(ms), 1), "min": round(min(ms), 1), "max": round(max(ms), 1)}
        row[name] = {**of_times, "encoded": encoded[name], "speed_up": round(median(ratios), 2)}
    return row


def _contenders(encoders: _Encoders, segments: Segments, image: np.ndarray) -> dict[str, Contender]:
    """Each answers one text with (n,) similarities; those of the encoder alone answer nothing."""
    clip = encoders.clip
    dense, boxes = segments.masks.dense(), segments.masks.boxes_xyxy().astype(int).tolist()
    blob = np.zeros((len(segments), 3, *clip.spec.image.size_hw), np.float32)
    known = with_image(segments, image, clip)
    Text("what was asked first").similarities(known)

    def ours(**settings: Any) -> Contender:
        return lambda text: Text(text, **settings).similarities(with_image(_unseen(segments), image, clip))[0]

    def loop(batch: int) -> Contender:
        return lambda text: _loop(clip, image, dense, boxes, text, batch)

    def alone(batch: int) -> Contender:
        parts = np.split(blob, range(batch, len(blob), batch))
        return lambda _: np.concatenate([clip.images.encode(part) for part in parts])

    return {
        "loop": loop(1),
        "loop_batch": loop(len(segments)),
        "batched": ours(background="black", resize="reference", duplicate_iou=None),
        "default": ours(),
        "likes": ours(duplicate_iou=0.8),
        "largest": ours(max_masks=20),
        "dense": ours(mode="dense"),
        "again": lambda text: Text(text).similarities(known)[0],
        "alone_1": alone(1),
        "alone_32": alone(32),
    }


def _unseen(segments: Segments) -> Segments:
    """The same segments, nothing of their masks counted yet."""
    return replace(segments, masks=segments.masks[:])


def _loop(
    clip: Clip, image: np.ndarray, dense: np.ndarray, boxes: list[list[int]], text: str, batch: int
) -> np.ndarray:
    """(n,) similarities of full-size masked images, prepared by Pillow, `batch` in a run of the encoder."""
    spec = clip.spec.image
    features, waiting = [], []
    for mask, box in zip(dense, boxes, strict=True):
        masked = image * mask[..., None]
        waiting.append(_prepared(Image.fromarray(masked).crop(box), spec))
        if len(waiting) == batch:
            features.append(clip.images.encode(np.stack(waiting)))
            waiting = []
    answer: np.ndarray = np.concatenate(features) @ clip.texts.encode([text])[0]
    return answer


def _prepared(crop: Image.Image, spec: Any) -> np.ndarray:
    """(3, H, W) float32: shorter side to the model's, the middle, normalised."""
    side = spec.size_hw[0]
    w, h = crop.size
    wide, tall = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
    left, top = round((wide - side) / 2), round((tall - side) / 2)
    square = crop.resize((wide, tall), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    values = (np.asarray(square, np.float32) / 255 - np.float32(spec.mean)) / np.float32(spec.std)
    return values.transpose(2, 0, 1)


def _environment(spec: ClipSpec, arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "cpu": processor(),
        "threads": arguments.threads,
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **{package: version(package) for package in ("fastsam-deploy", "onnxruntime", "numpy", "pillow")},
        "clip": spec.name,
        "precision": spec.precision,
    }


def markdown(report: dict[str, Any]) -> str:
    """The table that the README shows: medians in milliseconds."""
    environment = report["environment"]
    lines = ["| image | masks | | crops encoded | ms | speed-up |", "|---|---|---|---|---|---|"]
    for row in report["images"]:
        for name, title in TITLES.items():
            first = [row["image"], str(row["masks"])] if name == "loop" else ["", ""]
            found = row[name]
            cells = [str(found["encoded"]), f"{found['median']:.0f}", f"{found['speed_up']:.1f}×"]
            lines.append(f"| {' | '.join([*first, title, *cells])} |")
    lines += [
        "",
        f"Milliseconds for one text, medians of {report['images'][0]['runs']} runs taken in turn; "
        f"{environment['cpu']}, {environment['threads']} threads; {environment['clip']}, {environment['precision']}; "
        f"ONNX Runtime {environment['onnxruntime']}, Pillow {environment['pillow']}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
