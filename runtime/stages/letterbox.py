"""Image ↔ network input: the only place that knows scale and padding.

The rules are those of ultralytics 8.4, of its LetterBox and of its way back (`scale_boxes`, `process_mask_native`), so
that the same checkpoint gives the same answer:
ratio min(H/h, W/w); sides round(side x ratio), at least 1; gray border, split round(d - 0.1), round(d + 0.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..limits import check_sides
from ..spec import PROTOTYPE_STRIDE, ModelSpec
from .resize import write_input

PADDING_VALUE = 114
"""Gray round the image, of 255, here and on the device."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an image of (h, w) lies in a network input of (H, W), all in pixels.

    Attributes:
        image_hw: the original image.
        input_hw: the network input; multiples of the stride.
        content_hw: the image inside the input, for coordinates.
        pad_xy: left and top border of the input, for coordinates.
        ratio: input pixels for one image pixel, before rounding.
        drawn_hw, drawn_xy: size and left top corner of the resized image that `letterbox` draws. The same as
            content_hw and pad_xy, except for a pixel in some rectangles (see `fit_rectangle`).

    Example:
        >>> place = fit((480, 640), (640, 640))
        >>> place.content_hw, place.pad_xy, place.scale_xy
        ((480, 640), (0, 80), (1.0, 1.0))
        >>> place.to_input(np.array([[10, 20]])).tolist()
        [[10.0, 100.0]]
    """

    image_hw: tuple[int, int]
    input_hw: tuple[int, int]
    content_hw: tuple[int, int]
    pad_xy: tuple[int, int]
    ratio: float
    drawn_hw: tuple[int, int]
    drawn_xy: tuple[int, int]

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Input pixels for one image pixel after rounding, x and y."""
        return self.content_hw[1] / self.image_hw[1], self.content_hw[0] / self.image_hw[0]

    def to_input(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """(…, 2) points of the image as points of the network input."""
        return np.asarray(xy, np.float64) * self.scale_xy + self.pad_xy

    def to_image(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """(…, 2) points of the network input as points of the image; not clipped."""
        return (np.asarray(xy, np.float64) - self.pad_xy) / self.scale_xy

    def boxes_to_image(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 4) float32 boxes of the input as boxes of the image, clipped to it."""
        # float32 throughout, as the reference: the last bit decides which pixel column a box ends in.
        pad = np.array(self.pad_xy * 2, np.float32)
        scale = np.array(self.scale_xy * 2, np.float32)
        height, width = self.image_hw
        boxes: NDArray[np.float32] = (boxes_xyxy - pad) / scale
        return boxes.clip(np.float32(0), np.array((width, height) * 2, np.float32))


TAPS = 3
"""Prototypes along an axis that a pixel of the image depends on."""


@dataclass(frozen=True, slots=True, eq=False)
class Resampling:
    """One axis of the way from the prototypes to the image: two bilinear steps in one, with half-pixel centres.

    The prototypes are first magnified 1, 2 or 4 times (the least at which the letterbox border ends on whole
    pixels), the border is cut off, and what remains is stretched over the image. A pixel of the image is a mean of
    two magnified pixels, each a mean of two prototypes, so of three neighbours at most. Only those three are kept: 16
    bytes for each pixel of the side, however many prototypes there are.

    Attributes:
        first: (side,) int32, the first of the three prototypes of each image pixel; ascending.
        shares: (side, TAPS) float32, the share of each of the three, none negative, sum 1.

    Example:
        >>> vertical, horizontal = mask_resampling(fit((32, 64), (32, 64)), (8, 16))
        >>> horizontal.shares.shape, horizontal.first[:12].tolist()
        ((64, 3), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    """

    first: NDArray[np.int32]
    shares: NDArray[np.float32]


def fit(image_hw: tuple[int, int], input_hw: tuple[int, int]) -> Letterbox:
    """The letterbox of an image of (h, w) pixels in an input of exactly (H, W).

    Raises:
        ImageError: the image has no pixel, or a side above MAX_SIDE.

    Example:
        >>> fit((300, 400), (64, 64)).content_hw
        (48, 64)
    """
    (h, w), (height, width) = image_hw, input_hw
    check_sides(w, h, "image")
    ratio = min(height / h, width / w)
    content_hw = (max(round(h * ratio), 1), max(round(w * ratio), 1))
    pad_xy = _pad_xy(content_hw, input_hw)
    return Letterbox(image_hw, input_hw, content_hw, pad_xy, ratio, content_hw, pad_xy)


def fit_rectangle(image_hw: tuple[int, int], imgsz: int, stride: int = 32) -> Letterbox:
    """The letterbox in the smallest input whose sides are multiples of `stride`, the longest being `imgsz`.

    Where the shorter side happens to round down to a multiple of the stride, the reference's way back takes its ratio
    from that side and is off: by less than a pixel of the input in photographs, by many in narrow strips. Up to a pixel
    this one equals the reference; beyond that it is right (docs/adr/0005).

    Example:
        >>> fit_rectangle((480, 640), 320).input_hw
        (256, 320)
    """
    square = fit(image_hw, (imgsz, imgsz))
    content_h, content_w = square.content_hw
    input_hw = (content_h + (imgsz - content_h) % stride, content_w + (imgsz - content_w) % stride)
    drawn_xy = _pad_xy(square.content_hw, input_hw)
    reference = fit(image_hw, input_hw)
    off = max(abs(side - other) for side, other in zip(reference.content_hw, square.content_hw, strict=True))
    if off <= 1:
        return replace(reference, drawn_hw=square.content_hw, drawn_xy=drawn_xy)
    return replace(square, input_hw=input_hw, pad_xy=drawn_xy, drawn_xy=drawn_xy)


def fit_model(image_hw: tuple[int, int], spec: ModelSpec, imgsz: int, rect: bool = True) -> Letterbox:
    """The letterbox of an image in the input of a model.

    Args:
        imgsz: longest side of the input, pixels; ignored for a model of fixed size.
        rect: the smallest rectangle around the image; False: a square. Ignored for a model of fixed size.

    Example:
        >>> fit_model((480, 640), ModelSpec(), 320, rect=False).input_hw
        (320, 320)
    """
    if spec.fixed_hw is not None:
        return fit(image_hw, spec.fixed_hw)
    return fit_rectangle(image_hw, imgsz, spec.stride) if rect else fit(image_hw, (imgsz, imgsz))


def groups(places: Sequence[Letterbox], largest: Callable[[tuple[int, int]], int | None]) -> Iterator[list[int]]:
    """Numbers of the places that share an input shape: each list is a call of the network.

    Args:
        largest: (H, W) of an input → images that the network takes at once; None: any number.

    Example:
        >>> places = [fit((30, 40), (32, 64)), fit((30, 30), (64, 64)), fit((20, 40), (32, 64))]
        >>> list(groups(places, lambda input_hw: None))
        [[0, 2], [1]]
    """
    by_shape: dict[tuple[int, int], list[int]] = {}
    for i, place in enumerate(places):
        by_shape.setdefault(place.input_hw, []).append(i)
    for input_hw, indices in by_shape.items():
        step = largest(input_hw) or len(indices)
        yield from (indices[start : start + step] for start in range(0, len(indices), step))


def _pad_xy(content_hw: tuple[int, int], input_hw: tuple[int, int]) -> tuple[int, int]:
    """Left and top border of content in the middle of an input; an odd pixel goes to the right and the bottom."""
    return round((input_hw[1] - content_hw[1]) / 2 - 0.1), round((input_hw[0] - content_hw[0]) / 2 - 0.1)


def letterbox(
    image: NDArray[np.uint8], place: Letterbox, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Resize (bilinear) and pad an RGB image into a network input.

    Args:
        image: (h, w, 3) uint8 RGB, of place.image_hw.
        place: from `fit` or `fit_rectangle`.
        out: (3, H, W) float32 to write to; None: a new array.

    Returns:
        (3, H, W) float32 RGB in [0, 1], C-contiguous.

    Example:
        >>> white = np.full((32, 64, 3), 255, np.uint8)
        >>> letterbox(white, fit((32, 64), (64, 64)))[0, ::16, 0]
        array([0.44705883, 1.        , 1.        , 0.44705883], dtype=float32)
    """
    content_h, content_w = place.drawn_hw
    left, top = place.drawn_xy
    if out is None:
        out = np.empty((3, *place.input_hw), np.float32)
    border = border_value()
    out[:, :top] = out[:, top + content_h :] = border
    out[:, :, :left] = out[:, :, left + content_w :] = border
    write_input(image, out[:, top : top + content_h, left : left + content_w])
    return out


def border_value() -> np.float32:
    """PADDING_VALUE as a value of the network's input.

    Example:
        >>> round(float(border_value()) * 255)
        114
    """
    value: np.float32 = np.float32(PADDING_VALUE / 255)
    return value


def mask_resampling(place: Letterbox, prototypes_hw: tuple[int, int]) -> tuple[Resampling, Resampling]:
    """Vertical and horizontal way from prototypes of (H/4, W/4) to the image (process_mask_native of ultralytics).

    Example:
        >>> vertical, horizontal = mask_resampling(fit((300, 400), (64, 64)), (16, 16))
        >>> vertical.shares.shape, horizontal.shares.shape
        ((300, 3), (400, 3))
    """
    border = (place.input_hw[0] - place.content_hw[0]) | (place.input_hw[1] - place.content_hw[1])
    zoom = PROTOTYPE_STRIDE // math.gcd(PROTOTYPE_STRIDE, border | border // 2)
    ratio = place.ratio * zoom / PROTOTYPE_STRIDE
    axes = []
    for source_size, side in zip(prototypes_hw, place.image_hw, strict=True):
        content = max(round(side * ratio), 1)
        start = round((source_size * zoom - content) / 2 - 0.1)
        axes.append(_two_steps(source_size, zoom, slice(start, start + content), side))
    return axes[0], axes[1]


def _two_steps(source_size: int, zoom: int, content: slice, side: int) -> Resampling:
    """Magnify `source_size` values `zoom` times, keep `content` of them, stretch that to `side`."""
    prototype, share = bilinear(source_size, source_size * zoom)
    prototype, share = prototype[content], share[content]
    near, after = bilinear(len(prototype), side)
    far = np.minimum(near + 1, len(prototype) - 1)
    first = np.minimum(prototype[near], source_size - TAPS)
    shares = np.zeros((side, TAPS), np.float32)
    pixels = np.arange(side)
    for magnified, part in ((near, 1 - after), (far, after)):
        shares[pixels, prototype[magnified] - first] += part * (1 - share[magnified])
        # The last prototype has none after it: bilinear gives that the share 0, wherever it goes.
        following = np.minimum(prototype[magnified] + 1, source_size - 1)
        shares[pixels, following - first] += part * share[magnified]
    return Resampling(first.astype(np.int32), shares)


def bilinear(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Half-pixel bilinear resampling of `source` pixels to `target`.

    Points before the first centre take the first pixel (share 0); the pixel after the last is the last.

    Returns:
        (target,) int64 index of the pixel before each point, and (target,) float32 share of the pixel after it.

    Example:
        >>> bilinear(2, 4)
        (array([0, 0, 0, 1]), array([0.  , 0.25, 0.75, 0.25], dtype=float32))
    """
    step = np.float32(source) / np.float32(target)
    at = np.maximum((np.arange(target, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5), 0)
    index = np.minimum(at.astype(np.int64), source - 1)
    return index, (at - index.astype(np.float32)).astype(np.float32)
