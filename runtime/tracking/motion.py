"""Where an object was seen last, and where it is expected next."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..masks.store import Masks, PackedMasks, concatenate

_LEAST_GAIN = 0.2
"""Share of a new velocity in the estimate; of the first ones, which are few, it is more."""

_PATIENCE = 60
"""After so many frames in which a part was hidden, what is seen is taken for all there is."""


@dataclass(eq=False)
class Track:
    """An object.

    Attributes:
        number: its id.
        mask: one mask: the object where it was last seen, together with what was hidden of it.
        visible: one mask: what was seen of it then.
        center_xy: (2,) float64, middle of the extent of that mask, pixels.
        at: number of the last frame in which it was seen.
        velocity_xy: (2,) float64, pixels a frame.

    Example:
        >>> track = Track.started(1, Masks.from_dense([[[1, 1, 0, 0, 0]]]), at=0)
        >>> track.see(Masks.from_dense([[[0, 1, 1, 0, 0]]]), at=1)
        >>> track.expected(2).dense().astype(int).tolist()
        [[[0, 0, 1, 1, 0]]]
    """

    number: int
    mask: PackedMasks
    visible: PackedMasks
    center_xy: NDArray[np.float64]
    at: float
    velocity_xy: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    _steps: int = 0
    _whole_at: float = 0.0

    @classmethod
    def started(cls, number: int, mask: Masks, at: float) -> Track:
        """A new object.

        Args:
            number: its id.
            mask: one mask with at least one pixel.
            at: number of the frame.
        """
        whole = mask.trimmed()
        return cls(number, whole, whole, centers_of(whole)[0], at, _whole_at=at)

    def see(self, mask: PackedMasks, at: float, hidden: PackedMasks | None = None) -> None:
        """Note where the object is.

        Args:
            mask: one mask: what is seen.
            at: number of the frame.
            hidden: one mask: what is expected and hidden by other objects. It belongs to the object, for a while.
        """
        self.visible = mask.trimmed()
        self._whole_at = at if hidden is None else self._whole_at
        seen_share = 1.0
        if hidden is not None and at - self._whole_at < _PATIENCE:
            seen_share = int(mask.areas[0]) / max(int(mask.areas[0] + hidden.areas[0]), 1)
            mask = concatenate([mask, hidden], mask.image_hw).in_host_memory().union()
        whole = mask.trimmed()
        center = centers_of(whole)[0]
        velocity = (center - self.center_xy) / max(at - self.at, 1e-9)
        self._steps += 1
        gain = max(_LEAST_GAIN, 1 / self._steps) * seen_share**2
        self.velocity_xy = (1 - gain) * self.velocity_xy + gain * velocity
        self.mask, self.center_xy, self.at = whole, center, at

    def expected(self, at: float) -> PackedMasks:
        """The mask, moved to where it is expected in a frame; cut at the border of the image."""
        return moved(self.mask, (at - self.at) * self.velocity_xy)


def centers_of(masks: Masks) -> NDArray[np.float64]:
    """(n, 2) float64 x, y of the middle of the extent of each mask, pixels.

    Example:
        >>> centers_of(Masks.from_dense([[[0, 1, 1, 0]]])).tolist()
        [[2.0, 0.5]]
    """
    boxes = masks.boxes_xyxy().astype(np.float64)
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def moved(mask: PackedMasks, by_xy: NDArray[np.float64]) -> PackedMasks:
    """Masks at another place, in whole pixels; what leaves the image is cut off.

    Args:
        mask: n masks.
        by_xy: (2,) for all, or (n, 2), pixels.

    Example:
        >>> moved(Masks.from_dense([[[1, 1, 0]]]), np.array([2.2, 0.0])).dense().astype(int).tolist()
        [[[0, 0, 1]]]
    """
    height, width = mask.image_hw
    starts = mask.corners_xy + np.rint(np.broadcast_to(by_xy, (len(mask), 2))).astype(np.int64)
    first = starts.clip(0, (width, height))
    last = (starts + mask.sizes_wh).clip(first, (width, height))
    if (first == starts).all() and (last - first == mask.sizes_wh).all():
        return PackedMasks(mask.image_hw, mask.crops, starts)
    parts = zip(mask.crops, (first - starts).tolist(), (last - starts).tolist(), strict=True)
    return Masks.from_crops(mask.image_hw, (crop[y:v, x:u] for crop, (x, y), (u, v) in parts), first)
