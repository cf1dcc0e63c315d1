"""Text prompts: for each text, the segment whose CLIP features match it best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip.crops import BACKGROUNDS, RESIZES
from ..clip.encoders import Clip
from ..clip.features import MaskFeatures
from ..errors import ParameterError, PromptError
from ..segments import Segments
from ..system.fork import unforked
from .base import PromptKind
from .fields import check_types, known_keys, without_nulls

TEXT_MODES = ("crops", "dense")


@dataclass(frozen=True, kw_only=True)
class Text(PromptKind):
    """For each text, the segment that matches it best, in the order of the texts; `fits` is the cosine of the features.

    Of equal cosines the higher score wins, then the larger area, then the earlier segment. One segment can answer
    several texts. Masks that are too small or too many (see `min_area_px`, `max_masks`) are not compared and answer no
    text; if no mask is compared, there is no answer. `probabilities` of an answer is the softmax of the text over the
    compared masks, or the probability of this mask alone (models with a sigmoid).

    Modes:
        crops: each mask is cropped and encoded.
        dense: experimental. The image is encoded once, and the features of its patches are averaged under each mask.
            The cost does not grow with the number of masks, but small masks share a patch with their neighbours.

    Attributes:
        texts: one description or several, stored as a tuple.
        mode: "crops" or "dense".
        background: around the mask in its crop: "mean" (the model's mean colour), "black", "white" or "blur" (the
            crop's colours, blurred).
        resize: "letterbox" shows the whole crop; "reference" prepares it like a photograph in the model's own library,
            which for most models cuts off the ends of long objects.
        max_masks: compare at most this many masks, the largest; None for all.
        min_area_px: masks of fewer pixels are not compared; FastSAM skips those of 100 pixels or fewer.
        duplicate_iou: of masks whose IoU is at least this, only the first is encoded and the others share its
            features; None encodes all.
        truncate: whether to cut texts that are too long for the model; otherwise they are an error.

    Raises:
        PromptError: there is no text, or a text is empty.
        ParameterError: a setting is not one of those above.

    Example:
        >>> prompt = Text(["a yellow dog", "a black dog"], max_masks=20)
        >>> prompt.texts, prompt.prompt_count
        (('a yellow dog', 'a black dog'), 2)
        >>> dogs = everything.select(prompt)                                # doctest: +SKIP
    """

    key = "text"
    example = '{"text": ["a dog", …]}'
    looks_at_image = True

    texts: Sequence[str] = field(kw_only=False)
    mode: str = field(default="crops", kw_only=False)
    background: str = "mean"
    resize: str = "letterbox"
    max_masks: int | None = None
    min_area_px: int = 101
    duplicate_iou: float | None = 0.95
    truncate: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", _checked((self.texts,) if isinstance(self.texts, str) else tuple(self.texts)))
        for name, known in (("mode", TEXT_MODES), ("background", BACKGROUNDS), ("resize", RESIZES)):
            value = getattr(self, name)
            if value not in known:
                raise ParameterError(f"text prompt: {name} is {value!r:.80}, expected one of {', '.join(known)}")
        check_types(self, self._settings(), "text prompt")
        if self.max_masks is not None and self.max_masks < 1:
            raise ParameterError(f"text prompt: max_masks is {self.max_masks}, expected 1 or more, or None for all")
        if self.duplicate_iou is not None and not 0 < self.duplicate_iou <= 1:
            raise ParameterError(f"text prompt: duplicate_iou is {self.duplicate_iou}, expected 0 < value ≤ 1, or None")

    @property
    def prompt_count(self) -> int:
        return len(self.texts)

    def select_from(self, segments: Segments) -> Segments:
        """See the class.

        Raises:
            PromptError: the segments have no CLIP encoder, or a text is too long.
            ModelError: an encoder is closed, failed to run, or has no patch features.
        """
        cosines = self.similarities(segments)
        rows = self._compared(segments)
        if not len(rows):
            return segments[[]]
        best = rows[best_columns(cosines[:, rows], segments.scores[rows], segments.areas[rows])]
        texts = np.arange(len(self.texts))
        shares = _probabilities(cosines, rows, _features_of(segments).clip)
        return segments[best].answering(texts, cosines[texts, best], shares[texts, best])

    def to_json(self) -> dict[str, Any]:
        return {self.key: list(self.texts), **{name: getattr(self, name) for name in self._settings()}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Text:
        settings = known_keys(document, (cls.key, *cls._settings()), cls.key)
        texts = settings.pop(cls.key)
        if not isinstance(texts, (str, list)) or not all(isinstance(text, str) for text in texts):
            raise PromptError(f'text is {texts!r:.80}, expected a text or a list of texts, such as ["a dog", "a cat"]')
        return cls(texts, **without_nulls(cls, settings))

    @classmethod
    def _settings(cls) -> tuple[str, ...]:
        """Names of all fields but the texts, which are also their keys in JSON."""
        return tuple(setting.name for setting in fields(cls) if setting.name != "texts")

    def similarities(self, segments: Segments) -> NDArray[np.float32]:
        """(texts, segments) float32, cosines of the features; NaN for masks that are not compared.

        Raises:
            PromptError, ModelError: as `select_from`.

        Example:
            >>> cosines = Text(["a dog", "a cat"]).similarities(everything)     # doctest: +SKIP
            >>> cosines.shape == (2, len(everything))                           # doctest: +SKIP
            True
        """
        features = _features_of(segments)
        text_features = features.clip.encode_texts(self.texts, self.truncate)
        rows = self._compared(segments)
        cosines = np.full((len(self.texts), len(segments)), np.nan, np.float32)
        masks = segments.masks if len(rows) == len(segments) else segments.masks[rows]
        if not len(rows):
            return cosines
        if self.mode == "dense":
            mask_features = features.of_patches(masks)
        else:
            mask_features = features.of_crops(masks, self.background, self.resize, self.duplicate_iou)
        with unforked:
            cosines[:, rows] = text_features @ mask_features.T
        return cosines

    def probabilities(self, segments: Segments) -> NDArray[np.float32]:
        """(texts, segments) float32, NaN for masks that are not compared.

        For a model trained with softmax, each row sums to 1: the softmax of scale x cosine over all compared masks, as
        in CASIA's FastSAM. For a model trained with a sigmoid, each value is independent of the others.

        Raises:
            PromptError, ModelError: as `select_from`.

        Example:
            >>> Text("a dog").probabilities(everything).sum(axis=1)             # doctest: +SKIP
            array([1.], dtype=float32)
        """
        return _probabilities(self.similarities(segments), self._compared(segments), _features_of(segments).clip)

    def _compared(self, segments: Segments) -> NDArray[np.int64]:
        """Row numbers of the compared masks, ascending."""
        rows = np.flatnonzero(segments.areas >= max(1, self.min_area_px))
        if self.max_masks is None or len(rows) <= self.max_masks:
            return rows
        largest = np.argsort(-segments.areas[rows], kind="stable")[: self.max_masks]
        return rows[np.sort(largest)]


def _checked(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts:
        raise PromptError("the list of texts is empty; expected at least one, such as Text('a dog')")
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise PromptError(f"text {i} is {text!r:.60}, expected words; write what the object looks like")
    return texts


def best_columns(
    cosines: NDArray[np.float32], scores: NDArray[np.float32], areas: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each text, the column of the highest cosine; ties are decided by score, then area, then order.

    Args:
        cosines: (t, n) float32.
        scores: (n,) float32.
        areas: (n,) int64, pixels.

    Returns:
        (t,) int64.

    Example:
        >>> cosines = np.array([[0.3, 0.3, 0.1]], np.float32)
        >>> best_columns(cosines, np.array([0.5, 0.9, 0.9], np.float32), np.array([10, 10, 10]))
        array([1])
    """
    # lexsort is stable: columns that are equal in everything stay in order.
    return np.array([np.lexsort((-areas, -scores, -row))[0] for row in cosines], np.int64)


def _features_of(segments: Segments) -> MaskFeatures:
    if not isinstance(segments.features, MaskFeatures):
        raise PromptError(
            "text prompt: these segments have no image and no CLIP encoder; open the model with FastSAM(…, clip=DIR), "
            "where fastsam-export clip wrote DIR; a server needs a repository made with --clip; for segments from a "
            "file use with_image(segments, image, clip)"
        )
    return segments.features


def _probabilities(cosines: NDArray[np.float32], rows: NDArray[np.int64], clip: Clip) -> NDArray[np.float32]:
    """(texts, segments) float32: the model's probabilities for the cosines of the compared rows, NaN elsewhere."""
    spec = clip.spec
    shares = np.full(cosines.shape, np.nan, np.float32)
    if not len(rows):
        return shares
    logits = cosines[:, rows].astype(np.float64) * spec.logit_scale + (spec.logit_bias or 0.0)
    if spec.probability == "sigmoid":
        shares[:, rows] = 0.5 * (1 + np.tanh(logits / 2))  # the sigmoid, without overflow
    else:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares[:, rows] = powers / powers.sum(axis=1, keepdims=True)
    return shares
