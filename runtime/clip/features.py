"""CLIP features of the masks of one image: encoded in batches, remembered for the next text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..masks.store import Masks
from ..segments import Segments
from ..stages.image import ImageSource, load_image
from ..stages.letterbox import fit
from .crops import mask_crops, near_duplicates, patch_shares, whole_image
from .encoders import Clip

_Key = tuple[bytes, str, str]
_PATCHES = ("", "patches")


class MaskFeatures:
    """An image, and the features of its masks as far as they were asked for. Usable from many threads at once.

    Features are remembered by the pixels of a mask, so that they serve every selection of the same segments. The image
    is not copied: it must not be changed as long as text prompts are asked of its segments.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        clip: who encodes.
    """

    def __init__(self, image: NDArray[np.uint8], clip: Clip) -> None:
        self.image = image
        self.clip = clip
        self._known: dict[_Key, NDArray[np.float32]] = {}
        self._patches: NDArray[np.float32] | None = None
        self._alike: tuple[tuple[tuple[bytes, ...], float], list[int]] | None = None
        # Held while encoding: a second thread that asks the same waits for the answer instead of computing it again.
        self._lock = Lock()

    def of_crops(
        self, masks: Masks, background: str = "mean", resize: str = "letterbox", duplicate_iou: float | None = None
    ) -> NDArray[np.float32]:
        """Features of each mask's crop, see `crops.mask_crops`.

        Args:
            masks: n masks of the image, none empty.
            duplicate_iou: masks that overlap by this or more get the features of the first of them (see
                `crops.near_duplicates`); None: each has its own.

        Returns:
            (n, embed_dim) float32 of length 1.
        """
        keys = [(digest, background, resize) for digest in masks.digests]
        with self._lock:
            first = self._first_alike(masks, duplicate_iou)
            batches = self._batches(keys, first)
            own = masks.trimmed() if batches else masks
            for rows in batches:
                blob = mask_crops(self.image, own[rows], self.clip.spec.image, background, resize)
                for i, feature in zip(rows, self.clip.images.encode(blob), strict=True):
                    self._known[keys[i]] = feature
            return self._stacked([keys[i] for i in first])

    def of_patches(self, masks: Masks) -> NDArray[np.float32]:
        """Mean of the whole image's patch features under each mask, by area; the encoder runs once for the image.

        Args:
            masks: n masks of the image, none empty.

        Returns:
            (n, embed_dim) float32 of length 1.
        """
        keys = [(digest, *_PATCHES) for digest in masks.digests]
        settings = self.clip.spec.image
        with self._lock:
            if self._patches is None:
                self._patches = self.clip.images.encode_patches(whole_image(self.image, settings))
            rows = [i for i, key in enumerate(keys) if key not in self._known]
            grid_h, grid_w, length = self._patches.shape
            shares = patch_shares(masks[rows].trimmed(), fit(masks.image_hw, settings.size_hw), (grid_h, grid_w))
            pooled = shares @ self._patches.reshape(-1, length)
            for i, feature in zip(rows, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), strict=True):
                self._known[keys[i]] = feature
            return self._stacked(keys)

    def _first_alike(self, masks: Masks, iou: float | None) -> list[int]:
        """`near_duplicates`, the last answer of which is remembered."""
        if iou is None:
            return list(range(len(masks)))
        asked = (masks.digests, iou)
        if self._alike is None or self._alike[0] != asked:
            self._alike = asked, near_duplicates(masks.trimmed(), iou).tolist()
        return self._alike[1]

    def _batches(self, keys: Sequence[_Key], wanted: Sequence[int]) -> list[list[int]]:
        """Row numbers among `wanted` whose features are not known yet, each mask once, in batches."""
        missing = {keys[i]: i for i in wanted if keys[i] not in self._known}
        rows, step = list(missing.values()), self.clip.images.batch
        return [rows[start : start + step] for start in range(0, len(rows), step)]

    def _stacked(self, keys: Sequence[_Key]) -> NDArray[np.float32]:
        length = self.clip.spec.embed_dim
        return np.array([self._known[key] for key in keys], np.float32).reshape(len(keys), length)


def with_image(segments: Segments, image: ImageSource, clip: Clip, *, color: str = "RGB") -> Segments:
    """The same segments with what text prompts need, for segments that were loaded from a file.

    Args:
        image: the one that was segmented. An RGB array is kept, not copied: do not change it afterwards.
        clip: stays the caller's to close, and open as long as text prompts are asked.
        color: "BGR" for arrays from OpenCV.

    Raises:
        ImageError: it is no image, or not of the segments' size.
    """
    pixels = load_image(image, color=color)
    if pixels.shape[:2] != segments.image_hw:
        raise ImageError(
            f"image is {pixels.shape[:2]} (h, w), the segments are of one of {segments.image_hw}; "
            "give the image that was segmented"
        )
    return replace(segments, features=MaskFeatures(pixels, clip))
