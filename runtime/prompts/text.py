"""Text prompts: for each text the mask whose look fits it best, as CLIP sees it."""

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
from .base import PromptKind
from .fields import check_types, known_keys, without_nulls

TEXT_MODES = ("crops", "dense")


@dataclass(frozen=True, kw_only=True)
class Text(PromptKind):
    """For each text the segment that fits it best, in the order of the texts; `fits` is the cosine of the features.

    Of equal cosines the higher score wins, then the larger area, then the earlier segment. One segment can answer
    several texts. Masks that are not compared (see `min_area_px`, `max_masks`) answer none; where all are so, there is
    no answer. `probabilities` of an answer says how the text divides itself among the compared masks (softmax), or how
    likely the mask is by itself (models with a sigmoid).

    >>> dogs = everything.select(Text(["a yellow dog", "a black dog"]))          # doctest: +SKIP

    Modes:
        crops: each mask is cut out and encoded.
        dense: experimental. The image is encoded once, and the features of its patches are averaged under each mask:
            the cost does not grow with the number of masks, small masks share a patch with their neighbours.

    Attributes:
        texts: what is looked for: one text or several, kept as a tuple.
        mode: "crops" or "dense".
        background: of a crop: "mean" (the model's mean colour), "black", "white" or "blur" (its own colours, blurred).
        resize: "letterbox" shows all of a crop; "reference" does what the model's own library does with a photograph,
            which for most models cuts off the ends of long objects.
        max_masks: compare only so many, the largest; None for all.
        min_area_px: masks of fewer pixels are not compared; FastSAM skips those of 100 and less.
        duplicate_iou: of masks that overlap by this or more only the first is encoded and the others get its features;
            None encodes all.
        truncate: cut texts that are longer than the model takes; otherwise they are an error.
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
        """
        Raises:
            PromptError: no text, or one without a word.
            ParameterError: a setting is none of those above.
        """
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
            PromptError: the segments know no encoder, or a text is too long.
            ModelError: an encoder is closed, failed to run, or has no features of patches.
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
    def from_json(cls, asked: Mapping[str, Any]) -> Text:
        settings = known_keys(asked, (cls.key, *cls._settings()), cls.key)
        texts = settings.pop(cls.key)
        if not isinstance(texts, (str, list)) or not all(isinstance(text, str) for text in texts):
            raise PromptError(f'text is {texts!r:.80}, expected a text or a list of texts, such as ["a dog", "a cat"]')
        return cls(texts, **without_nulls(cls, settings))

    @classmethod
    def _settings(cls) -> tuple[str, ...]:
        """Names of all fields but the texts; in JSON they are called the same."""
        return tuple(setting.name for setting in fields(cls) if setting.name != "texts")

    def similarities(self, segments: Segments) -> NDArray[np.float32]:
        """(texts, segments) float32, cosines of the features; NaN for masks that are not compared.

        Raises:
            PromptError, ModelError: as `select_from`.
        """
        features = _features_of(segments)
        of_texts = features.clip.encode_texts(self.texts, self.truncate)
        rows = self._compared(segments)
        cosines = np.full((len(self.texts), len(segments)), np.nan, np.float32)
        masks = segments.masks if len(rows) == len(segments) else segments.masks[rows]
        if not len(rows):
            return cosines
        if self.mode == "dense":
            of_masks = features.of_patches(masks)
        else:
            of_masks = features.of_crops(masks, self.background, self.resize, self.duplicate_iou)
        cosines[:, rows] = of_texts @ of_masks.T
        return cosines

    def probabilities(self, segments: Segments) -> NDArray[np.float32]:
        """(texts, segments) float32, NaN for masks that are not compared.

        For a model trained with softmax each row has the sum 1: exp(scale x cosine) over all compared masks, as in
        CASIA's FastSAM. For one trained with sigmoid each number stands for itself.

        Raises:
            PromptError, ModelError: as `select_from`.
        """
        return _probabilities(self.similarities(segments), self._compared(segments), _features_of(segments).clip)

    def _compared(self, segments: Segments) -> NDArray[np.int64]:
        """Row numbers, ascending."""
        rows = np.flatnonzero(segments.areas >= max(1, self.min_area_px))
        if self.max_masks is None or len(rows) <= self.max_masks:
            return rows
        largest = np.argsort(-segments.areas[rows], kind="stable")[: self.max_masks]
        return rows[np.sort(largest)]


def _checked(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts:
        raise PromptError("no text in the list; expected one or more; give Text('a dog')")
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise PromptError(f"text {i} is {text!r:.60}, expected words; write what the object looks like")
    return texts


def best_columns(
    cosines: NDArray[np.float32], scores: NDArray[np.float32], areas: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(t,) int64: for each row of (t, n) the column of the highest cosine; then score, then area, then the first."""
    # lexsort is stable: what is equal in all stays in order.
    return np.array([np.lexsort((-areas, -scores, -row))[0] for row in cosines], np.int64)


def _features_of(segments: Segments) -> MaskFeatures:
    if not isinstance(segments.features, MaskFeatures):
        raise PromptError(
            "text prompt: these segments know no image and no CLIP encoder; open the model with FastSAM(…, clip=DIR), "
            "DIR made by fastsam-export clip; a server needs a repository made with --clip; for segments from a file "
            "use with_image(segments, image, clip)"
        )
    return segments.features


def _probabilities(cosines: NDArray[np.float32], rows: NDArray[np.int64], clip: Clip) -> NDArray[np.float32]:
    """(texts, segments) float32: what the cosines of the compared rows mean to the model."""
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
