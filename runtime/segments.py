"""The segments of one image: boxes, scores, classes, masks, and which prompt each one answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .drawing.methods import Picture, Pictures, pixels_of
from .drawing.overlay import check_image
from .errors import FastSamError, PromptError
from .exchange import supervision
from .exchange.methods import Conversions
from .formats import NO_PROMPT, NO_TRACK, Columns, json, read
from .masks.rows import Rows, row_numbers
from .masks.store import Masks, concatenate
from .spec import MAX_CLASSES

if TYPE_CHECKING:
    from supervision import Detections

__all__ = ["NO_PROMPT", "NO_TRACK", "Prompt", "Segments", "join"]

_ARRAYS = ("boxes_xyxy", "scores", "classes", "prompts", "fits", "probabilities", "track_ids")


class Prompt(Protocol):
    """Picks among segments; the package `prompts` has the kinds.

    Example:
        >>> class Largest:
        ...     prompt_count = 1
        ...
        ...     def select_from(self, segments: Segments) -> Segments:
        ...         return segments[segments.areas.argmax()].answering([0], [1.0])
    """

    @property
    def prompt_count(self) -> int:
        """How many numbers its answers use: they carry 0 … prompt_count - 1."""
        ...

    def select_from(self, segments: Segments) -> Segments:
        """The answers, each with its `prompt` index and `fit`; none where nothing matches."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Segments(Conversions, Pictures):
    """n segments of one image of (h, w) pixels; row i of every array describes segment i.

    Two objects are equal if all values (NaN equals NaN), the pixels of the masks and the class names are. Timing,
    features and the image do not count. Segments have no hash.

    Attributes:
        boxes_xyxy: (n, 4) float32, pixels of the image: the boxes of the detections. Edges within 20 px of the
            image's border lie on it, as in FastSAM. A mask can be smaller than its box.
        scores: (n,) float32 in [0, 1].
        classes: (n,) int64 class numbers.
        masks: n masks, stored cropped.
        prompts: (n,) int64, number of the prompt that the segment answers; -1 without a prompt.
        fits: (n,) float32, how well the segment fits its prompt (see the package `prompts`); NaN without a prompt.
        class_names: name of each class number. A class without a name is called by its number: "class7".
        timing_ms: stage → milliseconds of the call that made these segments.
        probabilities: (n,) float32, probability of the segment's text (see `prompts.text`); NaN without a text prompt.
        features: a `MaskFeatures`, for text prompts, if the model has a CLIP. It holds the image, is neither saved nor
            pickled, and is handed on to every selection.
        track_ids: (n,) int64, the number of the object in a video, from 1 (see `FastSAM.track`); -1 without tracking.
        image: (h, w, 3) uint8 RGB, for drawing, if the segments were asked to keep it (see `on`, and `keep_image` of
            `FastSAM.segment`); else None. It is neither saved nor pickled, and is handed on to every selection.

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
    track_ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # left out: all -1
    features: object | None = None
    image: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        n = len(self.masks)
        if not len(self.probabilities):
            object.__setattr__(self, "probabilities", _filled(n, np.nan, np.float32))
        if not len(self.track_ids):
            object.__setattr__(self, "track_ids", _filled(n, NO_TRACK, np.int64))
        wrong = []
        for name in _ARRAYS:
            shape, right = getattr(self, name).shape, (n, 4) if name == "boxes_xyxy" else (n,)
            if shape != right:
                wrong.append(f"{name} {shape}, expected {right}")
        if wrong:
            raise ValueError(f"segments of {n} masks: {'; '.join(wrong)}")
        object.__setattr__(self, "class_names", _names_for(self.classes, self.class_names))

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
        no_fit = _filled(n, np.nan, np.float32)
        no_prompt = _filled(n, NO_PROMPT, np.int64)
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
        """Some of the segments: a slice, n bools or row numbers, in that order; a single number gives one segment.

        Raises:
            IndexError: a number or the count of bools does not fit.
        """
        chosen = row_numbers([int(rows)] if isinstance(rows, (int, np.integer)) else rows, len(self))
        return replace(self, **{name: getattr(self, name)[chosen] for name in (*_ARRAYS, "masks")})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Segments):
            return NotImplemented
        same = (np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True) for name in _ARRAYS)
        return self.class_names == other.class_names and all(same) and self.masks == other.masks

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "features": None, "image": None}  # an open network does not travel

    def answering(self, prompts: ArrayLike, fits: ArrayLike, probabilities: ArrayLike = ()) -> Segments:
        """The same segments as answers to prompts.

        Args:
            prompts: (n,) number of the prompt that each segment answers.
            fits: (n,) how well it fits.
            probabilities: (n,) of its text; empty: NaN.
        """
        return replace(
            self,
            prompts=np.asarray(prompts, np.int64),
            fits=np.asarray(fits, np.float32),
            probabilities=np.asarray(probabilities, np.float32),
        )

    def on(self, image: Picture) -> Segments:
        """The same segments, which keep their image for `plot`, `show` and notebooks; selections of them keep it too.

        Args:
            image: (h, w, 3) uint8 RGB, or a Pillow image. An array is not copied: do not change it.

        Raises:
            ParameterError: it is not of the size of the segments' image.

        Example:
            >>> segments.on(image).select(Points([[320, 180]])).show()  # doctest: +SKIP
        """
        pixels = pixels_of(image)
        check_image(pixels, self)
        return replace(self, image=pixels)

    def select(self, prompt: Prompt | Sequence[Prompt]) -> Segments:
        """The segments that a prompt picks. Several prompts are answered one after the other, and the answers joined.

        The network is not run again. Of several prompts, each numbers its answers from where the one before ended: the
        points are 0 and 1 and the boxes 2 and 3 in `[Points(two, mode="each"), Boxes(two)]`.

        Raises:
            PromptError: the prompt lies outside the image, is no prompt, or the list of prompts is empty.

        Example:
            >>> segments.select(Points([[320, 240]]))  # doctest: +SKIP
        """
        given: object = prompt
        if isinstance(given, str) or not isinstance(prompt, Sequence):  # a text is a sequence too
            return _checked_prompt(prompt).select_from(self)
        if not prompt:
            raise PromptError("no prompts in the list; give Everything(), Points(…), Boxes(…) or Text(…)")
        parts, first = [], 0
        for part in prompt:
            answer = _checked_prompt(part).select_from(self)
            numbers = np.where(answer.prompts == NO_PROMPT, NO_PROMPT, answer.prompts + first)
            parts.append(replace(answer, prompts=numbers))
            first += part.prompt_count
        return join(parts)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Segments:
        """Segments from what `to_json` or `fastsam segment --json` wrote.

        Raises:
            FastSamError: a key is missing, or a mask does not fit the image.
        """
        return cls._of(json.columns_of(document), "segments from JSON")

    @classmethod
    def from_supervision(
        cls,
        detections: Detections,
        image_hw: tuple[int, int] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> Segments:
        """Segments of any model's `supervision.Detections` with masks, so that prompts select from them too.

        Args:
            detections: of one image. Without `confidence`, scores are 1; without `class_id`, classes are 0.
            image_hw: (h, w) of the image; None: that of the masks.
            class_names: name of each class number; None: from `data["class_name"]`.

        Raises:
            ParameterError: the detections have no masks, or they are of another size.

        Example:
            >>> Segments.from_supervision(segments.to_supervision()) == segments  # doctest: +SKIP
            True
        """
        return cls._of(supervision.columns_of(detections, image_hw, class_names), "segments from supervision")

    @classmethod
    def load(cls, path: str | Path, format: str | None = None) -> Segments:  # noqa: A002 - as in `save`
        """Read a file that `save` wrote.

        Raises:
            FastSamError: the file is missing, of another kind, or damaged.
        """
        return cls._of(read(Path(path), format), str(path))

    @classmethod
    def _of(cls, columns: Columns, source: str) -> Segments:
        try:
            return cls(**{name: getattr(columns, name) for name in (*_ARRAYS, "masks", "class_names")})
        except ValueError as error:
            raise FastSamError(f"{source}: {error}; expected what Segments.save or to_json wrote") from error


def _checked_prompt(prompt: Any) -> Prompt:
    """
    Raises:
        PromptError: it is no prompt; the message says which one its value would make.
    """
    if hasattr(prompt, "select_from"):
        return cast(Prompt, prompt)
    advice = "Everything(), Points([[x, y]]), Boxes([[x1, y1, x2, y2]]) or Text('…')"
    if isinstance(prompt, str):
        advice = f"Text({prompt!r:.60})"
    elif isinstance(prompt, Mapping):
        advice = f"{advice}; JSON is for the option --prompt and for servers"
    raise PromptError(f"prompt is {prompt!r:.60} ({type(prompt).__name__}), expected {advice}")


def join(parts: Sequence[Segments]) -> Segments:
    """All segments of one or more parts of the same image, in their order.

    Example:
        >>> len(join([Segments.empty((4, 5)), Segments.empty((4, 5))]))
        0
    """
    first = parts[0]
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return replace(first, masks=concatenate([part.masks for part in parts], first.image_hw), **columns)


def _filled(n: int, value: float, dtype: type) -> NDArray[Any]:
    """As `np.full`, in a third of the time: it matters where a call takes a tenth of a millisecond."""
    array: NDArray[Any] = np.empty(n, dtype)
    array.fill(value)
    return array


def _names_for(classes: NDArray[np.int64], class_names: Sequence[str]) -> tuple[str, ...]:
    """The names, and more where there are fewer than classes: files of other exporters have lost them."""
    if not len(classes):
        return (*class_names,)
    lowest = highest = 0
    if np.count_nonzero(classes):  # FastSAM has one class, and looking for the extremes takes ten times as long
        lowest, highest = int(classes.min()), int(classes.max())
    if lowest < 0 or highest >= MAX_CLASSES:
        raise ValueError(f"class {lowest if lowest < 0 else highest}; expected numbers from 0 to {MAX_CLASSES - 1}")
    missing = range(len(class_names), highest + 1)
    return *class_names, *(f"class{number}" for number in missing)
