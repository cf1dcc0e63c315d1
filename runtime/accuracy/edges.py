"""Edge maps from masks: probability of each mask → Sobel → maximum → edge NMS, as in the FastSAM paper."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..settings import Thresholds
from ..spec import ModelSpec
from ..stages.assemble import mask_logits
from ..stages.decode import decode
from ..stages.letterbox import TAPS, Letterbox, Resampling, mask_resampling

_BORDER_PX = 5
_PLATEAU = 1.01
_SMOOTHING_PX = 4
_MARGIN_PX = 4


def edge_map(
    detections: NDArray[np.floating],
    prototypes: NDArray[np.floating],
    place: Letterbox,
    spec: ModelSpec,
    thresholds: Thresholds,
) -> NDArray[np.float32]:
    """The edges of everything in one image.

    The gradient of each mask's probability counts where it lies within two pixels of the outline of the mask, as in
    SAM: elsewhere it is texture inside an object, or a box that cuts the mask off.

    Args:
        detections: one image of the network's first output, see `decode`.
        prototypes: (mask_dim, H/4, W/4), of its second.
        place: the letterbox of the image.
        spec: of the model.
        thresholds: which detections take part. The paper does not say; `docs/accuracy.md` has what we chose.

    Returns:
        (h, w) float32 in [0, 1], thin lines; the strongest edge is 1, and an image without a mask is 0.

    Example:
        >>> from fastsam_deploy.runtime.stages.letterbox import fit
        >>> spec = ModelSpec(layout="nms", mask_dim=1)
        >>> box = np.array([[16, 0, 64, 64, 0.9, 0, 8.0]], np.float32)
        >>> prototypes = np.linspace(-1, 1, 16, dtype=np.float32) * np.ones((1, 16, 1), np.float32)
        >>> edges = edge_map(box, prototypes, fit((64, 64), (64, 64)), spec, Thresholds())
        >>> int(edges[32].argmax())
        32
    """
    decoded = decode(detections, spec, thresholds, place.input_hw)
    boxes = place.boxes_to_image(decoded.boxes_xyxy)
    strongest = np.zeros(place.image_hw, np.float32)
    axes = mask_resampling(place, (prototypes.shape[1], prototypes.shape[2]))
    corners = np.ceil(boxes).astype(int).tolist()
    for logits, box in zip(mask_logits(decoded.coefficients, prototypes), corners, strict=True):
        area = _with_margin(box, place.image_hw)
        probability = _sigmoid(_stretched(_stretched(logits, axes[1], area[1]).T, axes[0], area[0]).T)
        x1, y1, x2, y2 = box
        inside = np.zeros(probability.shape, np.uint8)
        part = slice(y1 - area[0].start, y2 - area[0].start), slice(x1 - area[1].start, x2 - area[1].start)
        inside[part] = probability[part] > 0.5
        np.maximum(strongest[area], _outline_strength(probability, inside), out=strongest[area])
    peak = strongest.max(initial=0)
    return thin_edges(strongest / peak) if peak > 0 else strongest


def thin_edges(edges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep the pixels that are largest across their edge: the edge NMS of Dollár and Zitnick's structured forests.

    The direction of an edge comes from second derivatives of the smoothed map. A pixel is kept if its value, raised by
    one percent, is at least that of both neighbours across the edge. Values within five pixels of the border fade out.

    Args:
        edges: (h, w) float32 in [0, 1].

    Returns:
        (h, w) float32; 0 where a neighbour is larger.

    Example:
        >>> ridge = np.zeros((40, 40), np.float32)
        >>> ridge[:, 19], ridge[:, 20], ridge[:, 21] = 0.5, 1, 0.5
        >>> np.flatnonzero(thin_edges(ridge)[20]).tolist()
        [20]
    """
    smooth = _triangle(edges, _SMOOTHING_PX)
    dy, dx = np.gradient(smooth)
    dxx = np.gradient(dx, axis=1)
    dyy, dxy = np.gradient(dy)
    angle = np.mod(np.arctan(dyy * np.sign(-dxy) / (dxx + 1e-5)), np.pi).astype(np.float32)
    y, x = np.indices(edges.shape, np.float32)
    kept = edges.copy()
    for side in (-1, 1):
        map_x, map_y = x + side * np.cos(angle), y + side * np.sin(angle)
        across = cv2.remap(edges, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        kept[edges * np.float32(_PLATEAU) < across] = 0
    for axis, side in enumerate(edges.shape):
        distance = np.minimum(np.arange(side), np.arange(side)[::-1])
        fade = np.minimum(distance / _BORDER_PX, 1).astype(np.float32)
        kept *= fade[:, None] if axis == 0 else fade
    return np.asarray(kept)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    values = np.exp(-np.ascontiguousarray(logits))
    values += 1
    return np.asarray(np.reciprocal(values, out=values))


def _with_margin(box_xyxy: list[int], image_hw: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a box and of what lies around it as far as the outline of its mask is looked for."""
    x1, y1, x2, y2 = box_xyxy
    return slice(max(y1 - _MARGIN_PX, 0), min(y2 + _MARGIN_PX, image_hw[0])), slice(
        max(x1 - _MARGIN_PX, 0), min(x2 + _MARGIN_PX, image_hw[1])
    )


def _stretched(values: NDArray[np.float32], axis: Resampling, part: slice) -> NDArray[np.float32]:
    """(n, prototypes) → (n, pixels) of a part of the last axis."""
    first, shares = axis.first[part], axis.shares[part]
    stretched = values[:, first] * shares[:, 0]
    for tap in range(1, TAPS):
        stretched += values[:, first + tap] * shares[:, tap]
    return np.asarray(stretched)


def _outline_strength(probability: NDArray[np.float32], inside: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Gradient of the probability within two pixels of the outline of the mask; 0 elsewhere. A box that cuts the mask
    off makes no edge, since the probability goes on there.
    """
    around = np.ones((5, 5), np.uint8)
    near = cv2.dilate(inside, around) - cv2.erode(inside, around)
    strength = cv2.magnitude(cv2.Sobel(probability, cv2.CV_32F, 1, 0), cv2.Sobel(probability, cv2.CV_32F, 0, 1))
    return np.asarray(cv2.multiply(strength, near, dtype=cv2.CV_32F))


def _triangle(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Smooth with a triangle of 2 radius + 1 pixels: two box filters, one after the other."""
    side = (radius + 1, radius + 1)
    once = cv2.blur(values, side, anchor=(0, 0), borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.blur(once, side, anchor=(radius, radius), borderType=cv2.BORDER_REFLECT), np.float32)
