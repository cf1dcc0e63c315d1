"""Masks of an image → inputs of a CLIP image encoder: the crop of each mask, its surroundings painted over.

Pillow resizes, because its antialiased filters are what CLIP models were trained with; OpenCV's bicubic has no
antialiasing. "letterbox" first halves large crops, strip by strip, until they are 2 to 4 times as large as wanted, and
leaves the rest to Pillow: a tenth of the time, memory that does not grow with the image, and hardly a difference
(docs/adr/0008). "reference" gives Pillow the whole crop, as the order of its two passes, and with it the last bits,
depends on the size.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..masks.overlap import mask_iou
from ..masks.store import Masks
from ..stages.letterbox import Letterbox, fit
from .spec import ImageInput

BACKGROUNDS = ("mean", "black", "white", "blur")
"""What surrounds a mask: the model's mean colour (0 after normalisation), black, white, or the crop's own colours
blurred to `_BLURRED_SIDE` pixels."""

RESIZES = ("letterbox", "reference")
"""How a crop becomes the model's size: all of it with background around, or as the model's own library does."""

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_STRIP_PIXELS = 1 << 16  # stays in the processor's cache
_BLURRED_SIDE = 8
_LONGEST = 256  # a crop of larger aspect is cut before it is resized: nobody needs 100 MB for its ends


def mask_crops(
    image: NDArray[np.uint8],
    masks: Masks,
    settings: ImageInput,
    background: str = "mean",
    resize: str = "letterbox",
) -> NDArray[np.float32]:
    """The crop of each mask, ready for the image encoder.

    Args:
        image: (h, w, 3) uint8 RGB.
        masks: n masks of it, each with a pixel; a crop shows what its bitmap covers, so give `Masks.trimmed()`.
        settings: of the encoder.
        background: one of BACKGROUNDS.
        resize: one of RESIZES.

    Returns:
        (n, 3, H, W) float32, normalised.
    """
    blob = np.empty((len(masks), 3, *settings.size_hw), np.float32)
    for row, mask, (x, y) in zip(blob, masks.crops, masks.corners_xy.tolist(), strict=True):
        region = image[y : y + mask.shape[0], x : x + mask.shape[1]]
        _normalise(crop_pixels(region, mask, settings, background, resize), settings, row)
    return blob


def crop_pixels(
    region: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
    settings: ImageInput,
    background: str = "mean",
    resize: str = "letterbox",
) -> NDArray[np.uint8]:
    """One crop at the encoder's size, before normalisation.

    Args:
        region: (ch, cw, 3) uint8 RGB, at least a pixel.
        mask: (ch, cw) bool, what of the region is shown; None for all.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    h, w = hw = (region.shape[0], region.shape[1])
    fill = _fill(region, settings, background)
    filter_ = _FILTERS[settings.interpolation]
    if resize == "reference":
        return _reference(Image.fromarray(_painted(region, mask, fill, 0, h, w)), settings, filter_)
    place = fit(hw, settings.size_hw)
    (height, width), (left, top) = place.content_hw, place.pad_xy
    factor = 1 << max(0, math.floor(math.log2(max(hw) / max(place.content_hw))) - 1)
    small = _painted(region, mask, fill, 0, h, w) if factor == 1 else _halved(region, mask, fill, factor)
    content = Image.fromarray(small).resize((width, height), filter_, (0, 0, w / factor, h / factor))
    canvas = np.empty((*settings.size_hw, 3), np.uint8)
    _paint(canvas, fill, (-left, -top), (width, height))
    canvas[top : top + height, left : left + width] = np.asarray(content)
    return canvas


def whole_image(image: NDArray[np.uint8], settings: ImageInput) -> NDArray[np.float32]:
    """The image as one input of the encoder, placed by `letterbox.fit` in the model's mean colour.

    (h, w, 3) uint8 RGB → (1, 3, H, W) float32, normalised.
    """
    blob = np.empty((1, 3, *settings.size_hw), np.float32)
    _normalise(crop_pixels(image, None, settings), settings, blob[0])
    return blob


def patch_shares(masks: Masks, place: Letterbox, grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """How much of each mask lies in each patch of a letterboxed image.

    Every pixel of a mask counts by the area that it has in the patch; the padding has no pixels, so it counts nothing.

    Args:
        masks: n masks, each with a pixel.
        place: where the image lies in the encoder's input.
        grid_hw: (gh, gw) patches of the input.

    Returns:
        (n, gh * gw) float32, patches row by row; each row has the sum 1.
    """
    rows, columns = (
        _overlaps(place.image_hw[axis], place.pad_xy[1 - axis], place.content_hw[axis], place.input_hw[axis], count)
        for axis, count in enumerate(grid_hw)
    )
    shares = np.empty((len(masks), *grid_hw), np.float32)
    for i, (mask, (x, y)) in enumerate(zip(masks.crops, masks.corners_xy.tolist(), strict=True)):
        height, width = mask.shape
        by_row = np.zeros((grid_hw[0], width), np.float32)
        step = max(1, _STRIP_PIXELS // width)
        for start in range(0, height, step):
            strip = mask[start : start + step].astype(np.float32)
            by_row += rows[:, y + start : y + start + len(strip)] @ strip
        shares[i] = by_row @ columns[:, x : x + width].T
    flat = shares.reshape(len(masks), grid_hw[0] * grid_hw[1])
    flat /= flat.sum(axis=1, keepdims=True)
    return flat


def near_duplicates(masks: Masks, iou: float) -> NDArray[np.int64]:
    """For each mask the first that is nearly the same, itself where there is none.

    Nearly the same: both the boxes and the masks overlap with an IoU of at least `iou`. Only a mask that stands for
    itself stands for others, so that likeness is not passed on from one to the next.

    Args:
        masks: n masks, trimmed, none empty.
        iou: (0, 1].

    Returns:
        (n,) int64 row numbers, none above its own place.
    """
    n = len(masks)
    first = np.arange(n)
    sizes = masks.sizes_wh
    start, end = masks.corners_xy, masks.corners_xy + sizes
    shared = (np.minimum(end[:, None], end) - np.maximum(start[:, None], start)).clip(0).prod(2)
    box_areas = sizes.prod(1)
    alike = shared >= iou * (box_areas[:, None] + box_areas - shared)
    # The IoU of two masks is at most the smaller area by the larger.
    alike &= np.minimum(masks.areas[:, None], masks.areas) >= iou * np.maximum(masks.areas[:, None], masks.areas)
    for later, earlier in np.argwhere(np.tril(alike, -1)).tolist():
        if first[later] == later and first[earlier] == earlier and mask_iou(masks, earlier, masks, later) >= iou:
            first[later] = earlier
    return first


def _overlaps(side: int, before: int, content: int, total: int, count: int) -> NDArray[np.float32]:
    """(count, side) float32: the length that each pixel of an axis has in each patch, in pixels of the input."""
    edges = np.arange(side + 1) * (content / side) + before
    patches = np.arange(count + 1) * (total / count)
    ends = np.minimum(edges[1:], patches[1:, None])
    starts = np.maximum(edges[:-1], patches[:-1, None])
    lengths: NDArray[np.float32] = (ends - starts).clip(0).astype(np.float32)
    return lengths


def _reference(crop: Image.Image, settings: ImageInput, filter_: Image.Resampling) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, as torchvision's Resize and CenterCrop, or Resize alone, make it."""
    (w, h), (height, width) = crop.size, settings.size_hw
    if settings.resize == "squash":
        return np.asarray(crop.resize((width, height), filter_))
    # The side that fits exactly, the other truncated; then the middle.
    by_height = height * w >= width * h
    tall, wide = (height, int(w * height / h)) if by_height else (int(h * width / w), width)
    left, top = round((wide - width) / 2), round((tall - height) / 2)
    if tall * wide <= _LONGEST * height * width:
        whole = crop.resize((wide, tall), filter_)
        return np.asarray(whole.crop((left, top, left + width, top + height)))
    across, down = w / wide, h / tall
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    return np.asarray(crop.resize((width, height), filter_, box))


def _halved(
    region: NDArray[np.uint8], mask: NDArray[np.bool_] | None, fill: NDArray[np.uint8], factor: int
) -> NDArray[np.uint8]:
    """The painted region at a `factor`-th of its size, rounded up; what is missing at its end is background.

    Args:
        factor: a power of two.
    """
    h, w = region.shape[:2]
    small = np.empty((-(-h // factor), -(-w // factor), 3), np.uint8)
    step = max(1, _STRIP_PIXELS // w // factor)
    for start in range(0, len(small), step):
        stop = min(start + step, len(small))
        strip = _painted(region, mask, fill, start * factor, stop * factor, small.shape[1] * factor)
        while strip.shape[1] > small.shape[1]:
            half = (strip.shape[1] // 2, strip.shape[0] // 2)
            strip = cv2.resize(strip, half, interpolation=cv2.INTER_AREA)
        small[start:stop] = strip
    return small


def _painted(
    region: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
    fill: NDArray[np.uint8],
    start: int,
    stop: int,
    width: int,
) -> NDArray[np.uint8]:
    """Rows `start` to `stop` and `width` columns of the region, `fill` outside the mask and beyond the region."""
    shown = region[start:stop]
    strip = np.empty((stop - start, width, 3), np.uint8)
    if mask is not None or strip.shape != shown.shape:
        _paint(strip, fill, (0, start), (region.shape[1], region.shape[0]))
    inside = strip[: shown.shape[0], : shown.shape[1]]
    if mask is None:
        inside[:] = shown
    else:
        cv2.copyTo(shown, mask[start:stop].view(np.uint8), inside)
    return strip


def _fill(region: NDArray[np.uint8], settings: ImageInput, background: str) -> NDArray[np.uint8]:
    """(1, 1, 3) uint8 of one colour, or (th, tw, 3) uint8, a thumbnail of the region."""
    if background == "blur":
        scale = _BLURRED_SIDE / max(region.shape[:2])
        size = (max(1, round(region.shape[1] * scale)), max(1, round(region.shape[0] * scale)))
        thumbnail: NDArray[np.uint8] = cv2.resize(region, size, interpolation=cv2.INTER_AREA)
        return thumbnail
    colors = {"mean": np.rint(np.array(settings.mean) * 255), "black": np.zeros(3), "white": np.full(3, 255.0)}
    color: NDArray[np.uint8] = colors[background].astype(np.uint8)
    return color.reshape(1, 1, 3)


def _paint(
    out: NDArray[np.uint8], fill: NDArray[np.uint8], start_xy: tuple[int, int], content_wh: tuple[int, int]
) -> None:
    """Fill `out`, whose first pixel is at `start_xy` of a content of that size; a thumbnail is stretched over that."""
    if fill.shape[:2] == (1, 1):
        out[:] = np.tile(fill[0], (out.shape[1], 1))  # row by row: NumPy is slow with rows of three
        return
    scale = np.array(fill.shape[1::-1]) / content_wh
    shift = (np.array(start_xy) + 0.5) * scale - 0.5
    to_thumbnail = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (out.shape[1], out.shape[0])
    out[:] = cv2.warpAffine(fill, to_thumbnail, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _normalise(pixels: NDArray[np.uint8], settings: ImageInput, out: NDArray[np.float32]) -> None:
    """(H, W, 3) uint8 → (3, H, W) float32, (v / 255 - mean) / std."""
    for channel, (mean, std) in enumerate(zip(settings.mean, settings.std, strict=True)):
        np.multiply(pixels[..., channel], np.float32(1 / (255 * std)), out=out[channel])
        out[channel] -= np.float32(mean / std)
