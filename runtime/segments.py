"""The segments of one image: boxes, scores, classes, masks, and which prompt each one answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import FastSamError, MissingDependencyError, PromptError
from .formats import NO_PROMPT, Columns, coco, format_of, json
from .masks.rows import Rows, row_numbers
from .masks.store import Masks, concatenate
from .system.atomic import write_atomically

if TYPE_CHECKING:
    from supervision import Detections

__all__ = ["NO_PROMPT", "Prompt", "Segments", "join"]

_COLUMNS = ("scores", "classes", "prompts", "fits", "probabilities")
_ROWS = ("boxes_xyxy", "masks", *_COLUMNS)


class Prompt(Protocol):
    """Something that picks among segments (the package `prompts` has the kinds)."""

    @property
    def prompt_count(self) -> int:
        """How many numbers its answers use: they carry 0 … prompt_count - 1."""
        ...

    def select_from(self, segments: Segments) -> Segments:
        """The answers, each with its `prompt` index and `fit`; none where nothing matches."""
        ...


@dataclass(frozen=True, eq=False)
class Segments:
    """n segments of one image of (h, w) pixels; rows of all arrays belong together.

    Equal are segments with the same values, NaN included, the same pixels in the masks and the same class names; timing
    and features do not count. Segments have no hash.

    Attributes:
        boxes_xyxy: (n, 4) float32, pixels of the image. Detection boxes: edges within 20 px of the image's border
            lie on it, as in FastSAM; a mask can be smaller than its box.
        scores: (n,) float32 in [0, 1].
        classes: (n,) int64 class numbers.
        masks: n masks, stored cropped.
        prompts: (n,) int64, number of the prompt that the row answers; -1 where none was asked.
        fits: (n,) float32, how well the row fits its prompt (see the package `prompts`); NaN where none was asked.
        class_names: name of each class number.
        timing_ms: stage → milliseconds of the call that made this.
        probabilities: (n,) float32, what a text prompt makes of its fit (see `prompts.text`); NaN where none was asked.
        features: what text prompts look at, a `MaskFeatures`, where the model has a CLIP. It holds the image, is
            neither saved nor pickled, and passes on to every selection.

    Example:
        >>> masks = Masks.from_dense([[[1, 1, 0, 0]], [[0, 0, 0, 1]]])
        >>> boxes, scores = masks.boxes_xyxy(), np.array([0.9, 0.8], np.float32)
        >>> segments = Segments.unprompted(boxes, scores, np.zeros(2, np.int64), masks)
        >>> len(segments), segments.image_hw, segments.areas.tolist()
        (2, (1, 4), [2, 1])
        >>> segments[segments.areas > 1].boxes_xyxy.tolist()
        [[0.0, 0.0, 2.0, 1.0]]
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: Masks
    prompts: NDArray[np.int64]
    fits: NDArray[np.float32]
    class_names: tuple[str, ...] = ("object",)
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    probabilities: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # left out: all NaN
    features: object | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        n = len(self.masks)
        if not len(self.probabilities):
            object.__setattr__(self, "probabilities", np.full(n, np.nan, np.float32))
        shapes = {
            "boxes_xyxy": (self.boxes_xyxy.shape, (n, 4)),
            **{name: (getattr(self, name).shape, (n,)) for name in _COLUMNS},
        }
        wrong = [f"{name} {shape}, expected {right}" for name, (shape, right) in shapes.items() if shape != right]
        if wrong:
            raise ValueError(f"segments of {n} masks: {'; '.join(wrong)}")

    @classmethod
    def unprompted(
        cls,
        boxes_xyxy: NDArray[np.float32],
        scores: NDArray[np.float32],
        classes: NDArray[np.int64],
        masks: Masks,
        class_names: tuple[str, ...] = ("object",),
        timing_ms: Mapping[str, float] | None = None,
    ) -> Segments:
        """Segments that answer no prompt (yet)."""
        n = len(masks)
        no_fit = np.full(n, np.nan, np.float32)
        no_prompt = np.full(n, NO_PROMPT, np.int64)
        timing_ms = {} if timing_ms is None else timing_ms  # an empty one is the caller's, who fills it
        return cls(boxes_xyxy, scores, classes, masks, no_prompt, no_fit, class_names, timing_ms)

    @classmethod
    def empty(cls, image_hw: tuple[int, int], class_names: tuple[str, ...] = ("object",)) -> Segments:
        """No segments over an image of (h, w) pixels."""
        none = np.zeros(0, np.float32)
        return cls.unprompted(none.reshape(0, 4), none, np.zeros(0, np.int64), Masks.empty(image_hw), class_names)

    @property
    def image_hw(self) -> tuple[int, int]:
        """(h, w) of the image, pixels."""
        return self.masks.image_hw

    @property
    def areas(self) -> NDArray[np.int64]:
        """(n,) int64, pixels of each mask."""
        return self.masks.areas

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, rows: int | np.integer[Any] | Rows) -> Segments:
        """Rows by a slice, n bools or integers, in that order; a single integer gives one row.

        Raises:
            IndexError: a number or the count of bools does not fit.
        """
        chosen = row_numbers([int(rows)] if isinstance(rows, (int, np.integer)) else rows, len(self))
        return replace(self, **{name: getattr(self, name)[chosen] for name in _ROWS})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Segments):
            return NotImplemented
        arrays = ("boxes_xyxy", *_COLUMNS)
        same = (np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True) for name in arrays)
        return self.class_names == other.class_names and all(same) and self.masks == other.masks

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "features": None}  # an open network does not travel

    def answering(self, prompts: ArrayLike, fits: ArrayLike, probabilities: ArrayLike = ()) -> Segments:
        """The same rows, as answers to the prompts of these numbers with these fits; without probabilities, NaN."""
        return replace(
            self,
            prompts=np.asarray(prompts, np.int64),
            fits=np.asarray(fits, np.float32),
            probabilities=np.asarray(probabilities, np.float32),
        )

    def select(self, prompt: Prompt | Sequence[Prompt]) -> Segments:
        """What a prompt picks; several prompts are answered one after the other and joined.

        The network is not run again. With several prompts the numbers in `.prompts` go on counting: points 0, 1
        and then boxes 2, 3 for `[Points(two, mode="each"), Boxes(two)]`.

        Raises:
            PromptError: the prompt lies outside the image, or several prompts are given as an empty list.
        """
        if not isinstance(prompt, Sequence):
            return prompt.select_from(self)
        if not prompt:
            raise PromptError("no prompts in the list; give Everything(), Points(…), Boxes(…) or Text(…)")
        parts, first = [], 0
        for part in prompt:
            answer = part.select_from(self)
            numbers = np.where(answer.prompts == NO_PROMPT, NO_PROMPT, answer.prompts + first)
            parts.append(replace(answer, prompts=numbers))
            first += part.prompt_count
        return join(parts)

    def to_coco(self, image_id: int | str = 0, first_id: int = 1) -> list[dict[str, Any]]:
        """COCO annotations: bbox x, y, w, h of the detection, RLE segmentation, area, score, category_id.

        category_id is the class number + 1, as COCO counts from 1. `prompt` and `fit` are None without a prompt,
        `probability` without a text prompt. `save(path, format="coco")` writes a whole COCO file.

        Args:
            image_id: of the image in the COCO file.
            first_id: id of the first annotation; the others count on.
        """
        return coco.annotations_of(self, image_id, first_id)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; masks as COCO RLE. `from_json` reads it back.

        Example:
            >>> Segments.empty((480, 640)).to_json()
            {'image': {'height': 480, 'width': 640}, 'class_names': ['object'], 'segments': []}
        """
        return json.document(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Segments:
        """What `to_json` (or `fastsam segment --json`) wrote.

        Raises:
            FastSamError: a key is missing, or a mask does not fit the image.
        """
        return cls._of(json.columns_of(document))

    def to_supervision(self) -> Detections:
        """A `supervision.Detections`: xyxy, full-size masks, confidence, class_id; class names in `data`.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise MissingDependencyError(
                f"to_supervision: {error}; run: pip install 'fastsam-deploy[supervision]'"
            ) from error
        names = np.array([self.class_names[i] for i in self.classes], dtype=str)
        return Detections(
            xyxy=self.boxes_xyxy.copy(),
            mask=self.masks.dense(),
            confidence=self.scores.copy(),
            class_id=self.classes.copy(),
            data={"class_name": names},
        )

    def save(self, path: str | Path, format: str | None = None) -> None:  # noqa: A002 - Pillow's name for it
        """Write a file, whole or not at all.

        Args:
            path: the suffix says the format: `.json` (masks as COCO RLE) or `.npz` (arrays and packed crops).
            format: name of another format with that suffix: "coco".

        Raises:
            FastSamError: another suffix or format, or the folder cannot be written.

        Example:
            >>> segments.save("coffee.npz")  # doctest: +SKIP
            >>> segments.save("coffee.json", format="coco")  # doctest: +SKIP
        """
        path = Path(path)
        write_atomically(path, format_of(path, format).encode(self))

    @classmethod
    def load(cls, path: str | Path, format: str | None = None) -> Segments:  # noqa: A002 - as in `save`
        """Read what `save` wrote.

        Raises:
            FastSamError: the file is missing, of another kind, or damaged.
        """
        path = Path(path)
        form = format_of(path, format)
        if form.decode is None:
            raise FastSamError(f"{path}: files of the format {form.name} are only written; load a .npz or .json file")
        try:
            return cls._of(form.decode(path.read_bytes()))
        except (OSError, FastSamError) as error:
            raise FastSamError(f"{path}: {error}") from error

    @classmethod
    def _of(cls, columns: Columns) -> Segments:
        try:
            return cls(**{name: getattr(columns, name) for name in (*_ROWS, "class_names")})
        except ValueError as error:
            raise FastSamError(f"{error}; expected what Segments.save or Segments.to_json wrote") from error


def join(parts: Sequence[Segments]) -> Segments:
    """All rows of one or more parts over the same image, in their order."""
    first = parts[0]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes_xyxy", *_COLUMNS)
    }
    return replace(first, masks=concatenate([part.masks for part in parts], first.image_hw), **columns)
