"""Fill a library of cut-outs, textures and photographs from unpacked packages of free pictures.

    python -m scripts.demo_model.collect library --cutouts tuxpaint-stamps:600 openclipart:1400 emoji:900 \
        --textures ufoai/textures --photographs wallpapers gcompris

Folders are searched through and through; `FOLDER:N` takes at most N cut-outs of it. Which packages the demo model was
trained with, and their licences, is on its card (models/README.md). Needs the extras [cpu,export] and scikit-image.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

LONGEST_CUTOUT, SHORTEST_CUTOUT = 320, 64  # pixels
LONGEST_PHOTOGRAPH = 960
TEXTURE_SIDE = 512
SMALLEST_PART = 0.07  # of the object
SKIPPED = (
    "alien", "arrows", "buttons", "callouts", "diagrams", "doors", "duplicates", "flags", "folders", "icons", "led",
    "light", "pics", "roadsigns", "screenshot", "shapes", "smilies", "special", "stickmen", "symbols",
)  # fmt: skip


def files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """List the pictures below `folder`, in name order, without symbols, signs and the like."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings and path.is_file())
    return [path for path in paths if not any(word in part for part in path.parts for word in SKIPPED)]


def parts_of(pixels: np.ndarray) -> np.ndarray:
    """Number the parts of an object uint8 (H, W, 4): areas of their own colour; uint8 (H, W), 0 for none."""
    from skimage.segmentation import felzenszwalb  # needed for collecting only

    inside = pixels[..., 3] > 127
    ground = np.where(inside[..., None], pixels[..., :3], 255 - pixels[..., :3][inside].mean(0).astype(np.uint8))
    labels = felzenszwalb(ground, scale=400, sigma=0.8, min_size=int(SMALLEST_PART * 0.5 * inside.sum()) + 1)
    parts = np.zeros(inside.shape, np.uint8)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    for number in np.unique(labels[inside]):
        part = (labels == number) & inside
        share = part.sum() / inside.sum()
        solid = cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_OPEN, ellipse)
        if SMALLEST_PART < share < 0.8 and solid.sum() > 0.75 * part.sum() and parts.max() < 8:
            parts[part] = parts.max() + 1
    return parts


def cutout_of(path: Path) -> np.ndarray | None:
    """Read a cut-out as uint8 (H, W, 4) BGRA, cropped to its object; None when it is no single object with a mask."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        return None
    inside = (pixels[..., 3] > 127).astype(np.uint8)
    count, _, statistics, _ = cv2.connectedComponentsWithStats(inside)
    if count < 2:
        return None
    x, y, width, height, area = (int(v) for v in statistics[1:][statistics[1:, cv2.CC_STAT_AREA].argmax()])
    fills = area / (width * height)
    if area < 0.85 * inside.sum() or not 0.15 < fills < 0.97 or min(width, height) < SHORTEST_CUTOUT // 2:
        return None
    if max(width, height) < SHORTEST_CUTOUT:
        return None
    pixels = pixels[y : y + height, x : x + width]
    shrink = min(1.0, LONGEST_CUTOUT / max(width, height))
    return cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)


def bled(pixels: np.ndarray) -> np.ndarray:
    """Give transparent pixels of a cut-out uint8 (H, W, 4) the object's nearest colour: no fringe when resampled."""
    outside = (pixels[..., 3] < 200).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    colours[nearest[outside == 0]] = pixels[outside == 0, :3]
    return np.dstack([colours[nearest], pixels[..., 3]])


def collect_cutouts(target: Path, folder: Path, most: int) -> int:
    """Write at most `most` cut-outs of `folder`, evenly chosen; returns their number."""
    paths = files(folder, (".png", ".webp"))
    order = np.random.default_rng(0).permutation(len(paths))
    done = 0
    for index in order:
        if done >= most:
            break
        pixels = cutout_of(paths[index])
        if pixels is None:
            continue
        pixels = bled(pixels)
        name = target / f"{folder.name}-{index:05d}"
        cv2.imwrite(f"{name}.png", pixels)
        np.savez_compressed(f"{name}.npz", parts=parts_of(pixels))
        done += 1
    return done


def uniform(picture: np.ndarray) -> bool:
    """Tell whether a picture uint8 (H, W, 3) shows one material: its quarters look alike."""
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    cells = small.reshape(4, 16, 4, 16, 3).mean((1, 3)).reshape(16, 3)
    return bool(cells.std(0).max() < max(8.0, 0.35 * small.std()) and small.std() > 2)


def collect_textures(target: Path, folder: Path) -> int:
    """Write the textures of `folder` that show one material; returns their number."""
    done = 0
    for index, path in enumerate(files(folder, (".png", ".jpg", ".tga"))):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if "_nm" in path.stem or "_norm" in path.stem or picture is None or min(picture.shape[:2]) < 200:
            continue
        side = min(picture.shape[:2])
        picture = cv2.resize(picture[:side, :side], (TEXTURE_SIDE,) * 2, interpolation=cv2.INTER_AREA)
        if uniform(picture):
            done += cv2.imwrite(str(target / f"{folder.name}-{index:05d}.jpg"), picture)
    return done


def embedded(path: Path) -> Iterator[np.ndarray]:
    """Yield the pictures uint8 (H, W, 3) BGR of a file: one, or the JPEGs inside an archive of resources (.rcc)."""
    if path.suffix != ".rcc":
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is not None:
            yield picture
        return
    data = path.read_bytes()
    place = data.find(b"\xff\xd8\xff")
    while place >= 0:
        following = data.find(b"\xff\xd8\xff", place + 3)
        stop = following if following >= 0 else len(data)
        picture = cv2.imdecode(np.frombuffer(data[place:stop], np.uint8), cv2.IMREAD_COLOR)
        if picture is not None:
            yield picture
        place = following


def collect_photographs(target: Path, folder: Path) -> int:
    """Write the photographs of `folder` that are large enough; returns their number."""
    done = 0
    paths = files(folder, (".jpg", ".jpeg", ".rcc"))
    for path in paths:
        for picture in embedded(path):
            height, width = picture.shape[:2]
            if min(height, width) < 240 or max(height, width) < 400:
                continue
            shrink = min(1.0, LONGEST_PHOTOGRAPH / max(height, width))
            smaller = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            done += cv2.imwrite(str(target / f"{folder.name}-{path.stem[:24]}-{done:05d}.jpg"), smaller)
    return done


def main() -> None:
    """Fill the library."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path, help="folder to fill")
    parser.add_argument("--cutouts", nargs="*", default=[], metavar="FOLDER:N", help="pictures with alpha")
    parser.add_argument("--textures", nargs="*", type=Path, default=[], metavar="FOLDER")
    parser.add_argument("--photographs", nargs="*", type=Path, default=[], metavar="FOLDER")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    targets = {name: args.library / name for name in ("cutouts", "textures", "photographs")}
    for target in targets.values():
        target.mkdir(parents=True, exist_ok=True)
    for item in args.cutouts:
        folder, _, most = item.rpartition(":")
        print(f"{folder}: {collect_cutouts(targets['cutouts'], Path(folder), int(most))} cut-outs", flush=True)
    for folder in args.textures:
        print(f"{folder}: {collect_textures(targets['textures'], folder)} textures", flush=True)
    for folder in args.photographs:
        print(f"{folder}: {collect_photographs(targets['photographs'], folder)} photographs", flush=True)


if __name__ == "__main__":
    main()
