"""Segmented images that are kept for further prompts, within limits of number and memory."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import replace

from ..clip.features import MaskFeatures
from ..segments import Segments
from ..system.fork import ForkLock
from .refusals import UnknownImageError

_ID_BYTES = 16
_OVERHEAD_BYTES = 4096
"""Of Python's objects around the arrays of one image."""


class SegmentsCache:
    """Segments by an id that cannot be guessed; the ones that were not used for longest go first.

    Example:
        >>> cache = SegmentsCache(most_images=1, most_bytes=1 << 20)
        >>> first, second = (cache.add(Segments.empty((4, side))) for side in (5, 6))
        >>> cache.get(second).image_hw, len(cache)
        ((4, 6), 1)
    """

    def __init__(self, most_images: int, most_bytes: int, prefix: str = "") -> None:
        """
        Args:
            most_images: 0: nothing is kept.
            most_bytes: of all images together. An image that is larger alone is not kept.
            prefix: with which ids begin.
        """
        self._prefix = prefix
        self._most_images, self._most_bytes = most_images, most_bytes
        self._kept: OrderedDict[str, tuple[Segments, int]] = OrderedDict()
        self._bytes = 0
        self._lock = ForkLock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Memory of what is kept."""
        return self._bytes

    def add(self, segments: Segments) -> str | None:
        """Keep segments, in host memory; returns their id, or None if they are too large to be kept."""
        masks = segments.masks.in_host_memory()
        segments = replace(segments, masks=masks, image=None)
        size = masks.nbytes + _columns_bytes(segments) + _features_bytes(segments) + _OVERHEAD_BYTES
        if size > self._most_bytes or not self._most_images:
            return None
        name = self._prefix + secrets.token_urlsafe(_ID_BYTES)
        with self._lock:
            self._kept[name] = segments, size
            self._bytes += size
            while len(self._kept) > self._most_images or self._bytes > self._most_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self._bytes -= freed
        return name

    def get(self, name: str) -> Segments:
        """The segments of an id.

        Raises:
            UnknownImageError: there are none.
        """
        with self._lock:
            if name not in self._kept:
                raise UnknownImageError(
                    f"no image with the id {name!r:.80} is kept; ids are of this server and are forgotten after "
                    f"{self._most_images} others, when memory is short, and when it ends; send the image again"
                )
            self._kept.move_to_end(name)
            return self._kept[name][0]


def _columns_bytes(segments: Segments) -> int:
    columns = segments.boxes_xyxy, segments.scores, segments.classes
    prompted = segments.prompts, segments.fits, segments.probabilities
    return sum(column.nbytes for column in (*columns, *prompted))


def _features_bytes(segments: Segments) -> int:
    """Of the image, which text prompts look at, and of the features that they will leave."""
    features = segments.features
    if not isinstance(features, MaskFeatures):
        return 0
    return int(features.image.nbytes) + 4 * features.clip.spec.embed_dim * len(segments)
