"""CLIP features of the masks of one image, encoded in batches and cached for the next text prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..masks.store import Masks
from ..segments import Segments
from ..stages.image import ImageSource, load_image
from ..stages.letterbox import fit
from ..system.fork import ForkLock, unforked
from .crops import mask_crops, near_duplicates, patch_shares, whole_image
from .encoders import Clip

_Key = tuple[bytes, str, str]
_PATCHES = ("", "patches")


class MaskFeatures:
    """An image and a cache of the features of its masks. Many threads can use it at once.

    The cache is keyed by the pixels of a mask, so that it serves every selection of the same segments. The image is
    copied, as a camera may use its memory for the next one before a text prompt looks at it.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        clip: the encoders.

    Example:
        >>> with FastSAM(clip="clip") as model:                             # doctest: +SKIP
        ...     segments = model.segment("photo.jpg")
        ...     segments.features.of_crops(segments.masks).shape == (len(segments), 512)
        True
    """

    def __init__(self, image: NDArray[np.uint8], clip: Clip) -> None:
        self.image = image.copy()
        self.clip = clip
        self._cache: dict[_Key, NDArray[np.float32]] = {}
        self._patches: NDArray[np.float32] | None = None
        self._duplicates: tuple[tuple[tuple[bytes, ...], float], list[int]] | None = None
        # Held while encoding: a second thread with the same masks waits for the features instead of encoding again.
        self._lock = ForkLock()

    def of_crops(
        self, masks: Masks, background: str = "mean", resize: str = "letterbox", duplicate_iou: float | None = None
    ) -> NDArray[np.float32]:
        """Features of the crop of each mask, see `crops.mask_crops`.

        Args:
            masks: n masks of the image, none empty.
            background: one of `crops.BACKGROUNDS`.
            resize: one of `crops.RESIZES`.
            duplicate_iou: of masks whose IoU is at least this, all get the features of the first (see
                `crops.near_duplicates`); None: each mask is encoded.

        Returns:
            (n, embed_dim) float32, rows of length 1.
        """
        keys = [(digest, background, resize) for digest in masks.digests]
        with self._lock:
            representatives = self._representatives(masks, duplicate_iou)
            batches = self._batches(keys, representatives)
            trimmed = masks.trimmed() if batches else masks
            for rows in batches:
                blob = mask_crops(self.image, trimmed[rows], self.clip.spec.image, background, resize)
                for i, feature in zip(rows, self.clip.images.encode(blob), strict=True):
                    self._cache[keys[i]] = feature
            return self._stacked([keys[i] for i in representatives])

    def of_patches(self, masks: Masks) -> NDArray[np.float32]:
        """Mean of the image's patch features under each mask, weighted by area. The encoder runs once for the image.

        Args:
            masks: n masks of the image, none empty.

        Returns:
            (n, embed_dim) float32, rows of length 1.
        """
        keys = [(digest, *_PATCHES) for digest in masks.digests]
        settings = self.clip.spec.image
        with self._lock:
            if self._patches is None:
                self._patches = self.clip.images.encode_patches(whole_image(self.image, settings))
            rows = [i for i, key in enumerate(keys) if key not in self._cache]
            grid_h, grid_w, length = self._patches.shape
            shares = patch_shares(masks[rows].trimmed(), fit(masks.image_hw, settings.size_hw), (grid_h, grid_w))
            with unforked:
                pooled = shares @ self._patches.reshape(-1, length)
            for i, feature in zip(rows, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), strict=True):
                self._cache[keys[i]] = feature
            return self._stacked(keys)

    def _representatives(self, masks: Masks, iou: float | None) -> list[int]:
        """For each mask, the row that is encoded for it: `near_duplicates`, whose last result is cached."""
        if iou is None:
            return list(range(len(masks)))
        key = (masks.digests, iou)
        if self._duplicates is None or self._duplicates[0] != key:
            self._duplicates = key, near_duplicates(masks.trimmed(), iou).tolist()
        return self._duplicates[1]

    def _batches(self, keys: Sequence[_Key], candidates: Sequence[int]) -> list[list[int]]:
        """Row numbers among `candidates` whose features are not cached yet, each mask once, in batches."""
        missing = {keys[i]: i for i in candidates if keys[i] not in self._cache}
        rows, step = list(missing.values()), self.clip.images.batch
        return [rows[start : start + step] for start in range(0, len(rows), step)]

    def _stacked(self, keys: Sequence[_Key]) -> NDArray[np.float32]:
        length = self.clip.spec.embed_dim
        return np.array([self._cache[key] for key in keys], np.float32).reshape(len(keys), length)


def with_image(segments: Segments, image: ImageSource, clip: Clip, *, color: str = "RGB") -> Segments:
    """Attach the image and a CLIP model to segments, for text prompts on segments that were loaded from a file.

    Args:
        segments: the segments of the image.
        image: the image that was segmented.
        clip: the encoders. The caller closes them, once no more text prompts are used with the segments.
        color: "BGR" for arrays from OpenCV.

    Returns:
        The same segments, with `features`.

    Raises:
        ImageError: it is not an image, or is not of the segments' size.

    Example:
        >>> segments = with_image(Segments.load("photo.npz"), "photo.jpg", Clip.open("clip"))   # doctest: +SKIP
        >>> dog = segments.select(Text("a yellow dog"))                                         # doctest: +SKIP
    """
    pixels = load_image(image, color=color)
    if pixels.shape[:2] != segments.image_hw:
        raise ImageError(
            f"image is {pixels.shape[:2]} (h, w), the segments are of an image of {segments.image_hw}; "
            "give the image that was segmented"
        )
    return replace(segments, features=MaskFeatures(pixels, clip))
