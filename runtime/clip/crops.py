"""Masks of an image → inputs of a CLIP image encoder: the crop of each mask, with the background painted over.

Pillow resizes, because CLIP models were trained with its antialiased filters; OpenCV's bicubic filter has no
antialiasing. "letterbox" first halves large crops, strip by strip, until they are 2 to 4 times the final size, and
leaves the rest to Pillow. This takes a tenth of the time, its memory does not grow with the image, and the result
hardly differs (docs/adr/0008). "reference" passes the whole crop to Pillow, because the order of Pillow's two passes,
and with it the last bits, depends on the size.
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
from ..system.fork import unforked
from .spec import ImageInput

BACKGROUNDS = ("mean", "black", "white", "blur")
"""Backgrounds around a mask: the model's mean colour (0 after normalisation), black, white, or the colours of the crop
blurred to `_BLURRED_SIDE` pixels."""

RESIZES = ("letterbox", "reference")
"""Ways to resize a crop: the whole crop with a border of background, or as the model's own library does."""

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_STRIP_PIXELS = 1 << 16  # fits into the processor's cache
_BLURRED_SIDE = 8
_LONGEST = 256  # a crop of larger aspect ratio is cut before it is resized, as its ends could take 100 MB


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
        masks: n masks of the image, none empty. A crop shows the whole bitmap of its mask, so pass `Masks.trimmed()`.
        settings: the input of the encoder.
        background: one of BACKGROUNDS.
        resize: one of RESIZES.

    Returns:
        (n, 3, H, W) float32, normalised.

    Example:
        >>> half = (0.5, 0.5, 0.5)
        >>> settings = ImageInput("image.onnx", (32, 32), half, half, "bicubic", "squash", False)
        >>> masks = Masks.from_dense(np.ones((2, 40, 60)))
        >>> mask_crops(np.zeros((40, 60, 3), np.uint8), masks, settings).shape
        (2, 3, 32, 32)
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
        region: (ch, cw, 3) uint8 RGB, at least one pixel.
        mask: (ch, cw) bool, the pixels of the region that are shown; None for all.
        settings: the input of the encoder.
        background: one of BACKGROUNDS.
        resize: one of RESIZES.

    Returns:
        (H, W, 3) uint8 RGB.

    Example:
        >>> half = (0.5, 0.5, 0.5)
        >>> settings = ImageInput("image.onnx", (32, 32), half, half, "bicubic", "squash", False)
        >>> crop_pixels(np.zeros((40, 60, 3), np.uint8), None, settings, "white")[:, 0, 0].tolist()[:6]
        [255, 255, 255, 255, 255, 0]
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
    """The whole image as an input of the encoder, letterboxed by `letterbox.fit` with the model's mean colour.

    Args:
        image: (h, w, 3) uint8 RGB.
        settings: the input of the encoder.

    Returns:
        (1, 3, H, W) float32, normalised.

    Example:
        >>> half = (0.5, 0.5, 0.5)
        >>> settings = ImageInput("image.onnx", (32, 32), half, half, "bicubic", "squash", False)
        >>> whole_image(np.zeros((40, 60, 3), np.uint8), settings).shape
        (1, 3, 32, 32)
    """
    blob = np.empty((1, 3, *settings.size_hw), np.float32)
    _normalise(crop_pixels(image, None, settings), settings, blob[0])
    return blob


def patch_shares(masks: Masks, place: Letterbox, grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """The fraction of each mask in each patch of a letterboxed image.

    A pixel of a mask counts with its area in the patch. The padding does not count.

    Args:
        masks: n masks, none empty.
        place: position of the image in the encoder's input.
        grid_hw: (gh, gw), number of patches along each side of the input.

    Returns:
        (n, gh * gw) float32, patches row by row; each row sums to 1.

    Example:
        >>> masks = Masks.from_dense([[[1, 1, 0, 0]] * 4, [[1, 1, 1, 1]] * 4])
        >>> patch_shares(masks, fit((4, 4), (32, 32)), (1, 2)).tolist()
        [[1.0, 0.0], [0.5, 0.5]]
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
            with unforked:
                by_row += rows[:, y + start : y + start + len(strip)] @ strip
        with unforked:
            shares[i] = by_row @ columns[:, x : x + width].T
    flat = shares.reshape(len(masks), grid_hw[0] * grid_hw[1])
    flat /= flat.sum(axis=1, keepdims=True)
    return flat


def near_duplicates(masks: Masks, iou: float) -> NDArray[np.int64]:
    """For each mask, the first mask that is nearly the same, or the mask itself if there is none.

    Two masks are nearly the same if both their boxes and their bitmaps have an IoU of at least `iou`. A mask that has
    been assigned to another represents no further masks, so chains of similar masks do not merge.

    Args:
        masks: n masks, trimmed, none empty.
        iou: lowest IoU of near duplicates, (0, 1].

    Returns:
        (n,) int64 row numbers; row i has a number of at most i.

    Example:
        >>> masks = Masks.from_dense([[[1, 1, 1, 0]], [[0, 0, 1, 1]], [[1, 1, 1, 0]]])
        >>> near_duplicates(masks.trimmed(), 0.9).tolist()
        [0, 1, 0]
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
    """(count, side) float32: length of the overlap of each pixel of an axis with each patch, in pixels of the input."""
    edges = np.arange(side + 1) * (content / side) + before
    patches = np.arange(count + 1) * (total / count)
    ends = np.minimum(edges[1:], patches[1:, None])
    starts = np.maximum(edges[:-1], patches[:-1, None])
    lengths: NDArray[np.float32] = (ends - starts).clip(0).astype(np.float32)
    return lengths


def _reference(crop: Image.Image, settings: ImageInput, filter_: Image.Resampling) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, as from torchvision's Resize and CenterCrop, or from Resize alone."""
    (w, h), (height, width) = crop.size, settings.size_hw
    if settings.resize == "squash":
        return np.asarray(crop.resize((width, height), filter_))
    # One side fits exactly, the other is truncated; then the centre is cropped.
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
    """The painted region, reduced `factor` times, a power of two. Sides are rounded up and filled with background."""
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
    """Fill `out`, whose first pixel is at `start_xy` of the content. A thumbnail is stretched over the content."""
    if fill.shape[:2] == (1, 1):
        out[:] = np.tile(fill[0], (out.shape[1], 1))  # row by row: NumPy is slow to broadcast three values
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
