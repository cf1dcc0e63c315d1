"""A folder of painted scenes, and training batches cut from it.

Painting a scene costs about as much as half a training step on it, so scenes are painted once, stored, and shown a
few times under other crops, mirrors and colours.
"""

# ruff: noqa: TID251 - training and scoring need torch and ultralytics; the runtime imports neither
from __future__ import annotations

import hashlib
import json
import multiprocessing
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from fastsam_deploy.runtime.system.atomic import stream_to, write_atomically

from .scene import MIN_AREA, scene
from .textures import shared_bank

Size = tuple[int, int]
PHOTOGRAPH_SEED = 800_000_000  # pool files from here on are photographs, see scripts.demo_model.guess
LANDSCAPE: Size = (320, 480)
JPEG_QUALITY = 92
PORTRAIT_SHARE = 4  # one scene in four stands upright
GREY = 114  # what networks' inputs are padded with
PADDED_SHARE, WIDEST_PADDING = 0.6, 16  # of the views; pixels on each side
OVERLAYS = ("pink", "fur", "ripple", "warped", "foliage", "strokes", "cloud")
PROBE_SEEDS = (0, 1, 2)
PROBE_SIZE: Size = (160, 240)


def generator_digest() -> str:
    """Hash what the generator paints for three seeds: scenes of another generator must not mix in unnoticed."""
    pictures = [scene(seed, PROBE_SIZE).image.tobytes() for seed in PROBE_SEEDS]
    return hashlib.sha256(b"".join(pictures)).hexdigest()


def scene_size(seed: int) -> Size:
    """Return the (height, width) that the scene of `seed` is painted at."""
    return LANDSCAPE if seed % PORTRAIT_SHARE else LANDSCAPE[::-1]


def scene_path(folder: Path, seed: int) -> Path:
    """Return the file of a scene."""
    return folder / f"{seed:09d}.npz"


def _store(task: tuple[str, int]) -> int:
    """Paint one scene and store it as JPEG bytes and packed mask bits; returns its number of labels."""
    folder, seed = Path(task[0]), task[1]
    path = scene_path(folder, seed)
    if path.exists():
        return 0
    cv2.setNumThreads(1)
    painted = scene(seed, scene_size(seed))
    store(path, painted.image, painted.masks)
    return len(painted.masks)


def store(path: Path, image: np.ndarray, masks: np.ndarray) -> None:
    """Write an image uint8 (H, W, 3) RGB as JPEG bytes, and masks bool (N, H, W) as packed bits."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    jpeg = cv2.imencode(".jpg", image[..., ::-1], quality)[1].ravel()
    with stream_to(path) as file:
        np.savez(file, jpeg=jpeg, bits=np.packbits(masks, axis=-1), shape=np.array(masks.shape))


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a stored scene: image uint8 (H, W, 3) RGB and masks uint8 (N, H, W) of 0 and 1."""
    with np.load(path) as stored:
        image = cv2.cvtColor(cv2.imdecode(stored["jpeg"], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        shape = tuple(int(v) for v in stored["shape"])
        masks = np.unpackbits(stored["bits"], axis=-1, count=shape[-1])
    return image, masks.reshape(shape)


def fill_pool(folder: Path, first_seed: int, count: int, workers: int) -> list[Path]:
    """Paint the scenes that the pool lacks and return the files of seeds first_seed .. first_seed + count - 1.

    Raises:
        ValueError: the folder holds scenes of another version of the generator.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "generator.json"
    digest = generator_digest()
    if mark.exists() and (found := json.loads(mark.read_text())["sha256"]) != digest:
        raise ValueError(
            f"{folder}: found scenes of generator {found[:12]}, expected {digest[:12]} (this version's); "
            "pass another --pool folder or empty this one"
        )
    write_atomically(mark, json.dumps({"sha256": digest}).encode())
    seeds = range(first_seed, first_seed + count)
    tasks = [(str(folder), seed) for seed in seeds if not scene_path(folder, seed).exists()]
    if tasks:
        with multiprocessing.get_context("spawn").Pool(min(workers, len(tasks))) as pool:
            for done, _ in enumerate(pool.imap_unordered(_store, tasks, chunksize=16), 1):
                if done % 1000 == 0 or done == len(tasks):
                    print(f"pool: painted {done} of {len(tasks)} scenes", flush=True)
    return [scene_path(folder, seed) for seed in seeds]


def random_view(rng: np.random.Generator, source: Size, target: Size) -> np.ndarray:
    """Draw a crop, mirror and zoom that covers `target` (h, w) with `source` (h, w); affine float (2, 3)."""
    cover = max(target[0] / source[0], target[1] / source[1])
    zoom = cover * (1.0 if rng.random() < 0.3 else np.exp(rng.uniform(0, np.log(1.7))))
    spare_x, spare_y = source[1] * zoom - target[1], source[0] * zoom - target[0]
    left, top = rng.uniform(0, 1) * spare_x, rng.uniform(0, 1) * spare_y
    if rng.random() < 0.5:
        return np.array([[-zoom, 0, source[1] * zoom - left], [0, zoom, -top]])
    return np.array([[zoom, 0, -left], [0, zoom, -top]])


def jitter(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Vary exposure, contrast, colour and sharpness, and lay a weak texture over all; uint8 (H, W, 3) in and out."""
    values = np.arange(256, dtype=np.float32)
    gains = np.exp(rng.normal() * 0.12 + rng.normal(size=3) * 0.06)
    curve = [np.clip((values - 128) * np.exp(rng.normal() * 0.12) + 128, 0, 255) * gain for gain in gains]
    image = cv2.LUT(image, np.clip(np.stack(curve, -1), 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.2:
        amount = rng.uniform(0.3, 1.5)
        image = cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2)), -amount, 0)
    if rng.random() < 0.25:  # relief, dirt or light that spares no region
        height, width = image.shape[:2]
        grey = cv2.resize(shared_bank().pick(rng, str(rng.choice(OVERLAYS))), (max(height, width),) * 2)
        gain = 1 + (grey[:height, :width].astype(np.float32) - 128) * np.float32(rng.uniform(0.0008, 0.003))
        image = cv2.multiply(image, cv2.merge([gain] * 3), dtype=cv2.CV_8U)
    return image


def padding(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a view's padding: pixels (even) at the top, bottom, left and right; that of letterboxing is on two sides."""
    if rng.random() > PADDED_SHARE:
        return 0, 0, 0, 0
    width = 2 * int(rng.integers(1, WIDEST_PADDING // 2 + 1))
    return (width, width, 0, 0) if rng.random() < 0.7 else (0, 0, width, width)


def cut_view(
    rng: np.random.Generator, image: np.ndarray, masks: np.ndarray, target: Size, min_area: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a training view.

    Returns:
        image uint8 (H, W, 3); masks uint8 (N, H / 4, W / 4) of 0 and 1; boxes float32 (N, 4), centre x, centre y,
        width, height as shares of the view. Regions that the crop shrank below `min_area` are left out.
    """
    height, width = target
    view = random_view(rng, image.shape[:2], target)
    shown = jitter(rng, cv2.warpAffine(image, view, (width, height), borderMode=cv2.BORDER_REFLECT))
    top, bottom, left, right = padding(rng)
    seen = np.zeros((height // 2, width // 2), np.uint8)  # no label reaches into it, or bands would be learnt
    seen[top // 2 : (height - bottom) // 2, left // 2 : (width - right) // 2] = 255
    shown[cv2.resize(seen, (width, height), interpolation=cv2.INTER_NEAREST) == 0] = GREY
    half = view.copy()  # masks are warped at half size: pixel centres move by a quarter
    half *= 0.5
    half[:, 2] += 0.5 * (view[:, 0] + view[:, 1]) * 0.5 - 0.25
    kept, boxes = [], []
    for mask in masks:
        fine = cv2.bitwise_and(cv2.warpAffine(mask * np.uint8(255), half, (width // 2, height // 2)), seen) > 127
        if np.count_nonzero(fine) < min_area * fine.size:
            continue
        columns, rows = np.flatnonzero(fine.any(0)), np.flatnonzero(fine.any(1))
        x0, x1, y0, y1 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
        boxes.append([(x0 + x1) / width, (y0 + y1) / height, (x1 - x0) * 2 / width, (y1 - y0) * 2 / height])
        small = cv2.resize(fine.astype(np.uint8) * 255, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        kept.append((small > 127).astype(np.uint8))
    shape = (-1, height // 4, width // 4)
    return shown, np.array(kept, np.uint8).reshape(shape), np.array(boxes, np.float32).reshape(-1, 4)


def collate(views: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Stack views into the batch that ultralytics' segmentation loss reads (overlap_mask=False)."""
    images, masks, boxes = zip(*views, strict=True)
    counts = torch.tensor([len(one) for one in boxes])
    total = int(counts.sum())
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return {
        "img": pixels.contiguous(memory_format=torch.channels_last),
        "batch_idx": torch.arange(len(views)).repeat_interleave(counts).float(),
        "cls": torch.zeros(total, 1),
        "bboxes": torch.from_numpy(np.concatenate(boxes)),
        "masks": torch.from_numpy(np.concatenate(masks)),
    }


@dataclass
class BatchMaker:
    """Cuts batches in background threads.

    Attributes:
        paths: the pool's files.
        batch: views per batch.
        seed: draws the order and the views.
        target: (height, width) of the next views, multiples of 32; portrait batches swap the two.
        depth: batches held ready.
        threads: threads that cut.
        min_area: smallest region that keeps its label, as a share of the view.
    """

    paths: list[Path]
    batch: int
    seed: int
    target: Size
    depth: int = 3
    threads: int = 1
    min_area: float = MIN_AREA

    def _tall(self, path: Path) -> bool:
        height, width = scene_size(int(path.stem))
        return height > width

    def _draw(self, rng: np.random.Generator, orders: dict[bool, list[Path]]) -> dict[str, torch.Tensor]:
        tall = bool(rng.random() < 1 / PORTRAIT_SHARE)
        wanted = [path for path in self.paths if self._tall(path) == tall] or self.paths
        order = orders.setdefault(tall, [])
        while len(order) < self.batch:  # a new shuffle of the whole pool whenever the last one runs out
            order += [wanted[i] for i in rng.permutation(len(wanted))]
        chosen = [order.pop(0) for _ in range(self.batch)]
        target = self.target[::-1] if tall else self.target
        batch = collate([cut_view(rng, *load(path), target, self.min_area) for path in chosen])
        batch["complete"] = torch.tensor([float(int(path.stem) < PHOTOGRAPH_SEED) for path in chosen])
        return batch

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield batches without end; an error in a thread is raised here."""
        ready: queue.Queue[dict[str, torch.Tensor] | BaseException] = queue.Queue(self.depth)

        def work(number: int) -> None:
            cv2.setNumThreads(1)
            rng, orders = np.random.default_rng([self.seed, number]), {}
            try:
                while True:
                    ready.put(self._draw(rng, orders))
            except BaseException as error:  # noqa: BLE001 - handed to the reader, who raises it
                ready.put(error)

        for number in range(self.threads):
            threading.Thread(target=work, args=(number,), daemon=True).start()
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
