"""What was found in one image: boxes, scores, classes, masks, and which prompt each one answers."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import FastSamError, MissingDependencyError, PromptError
from .masks.rows import Rows, row_numbers
from .masks.store import Masks, concatenate
from .system.atomic import write_atomically

if TYPE_CHECKING:
    from supervision import Detections

NO_PROMPT = -1
_COLUMNS = ("scores", "classes", "prompts", "fits", "probabilities")


class Prompt(Protocol):
    """Something that picks among segments (the package `prompts` has the kinds)."""

    @property
    def prompt_count(self) -> int:
        """How many numbers its answers use: they carry 0 … prompt_count - 1."""
        ...

    def select_from(self, segments: Segments) -> Segments:
        """The answers, each with its `prompt` index and `fit`; none where nothing matches."""
        ...


@dataclass(frozen=True)
class Segments:
    """n segments of one image of (h, w) pixels; rows of all arrays belong together.

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
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: Masks
    prompts: NDArray[np.int64]
    fits: NDArray[np.float32]
    class_names: tuple[str, ...] = ("object",)
    timing_ms: Mapping[str, float] = field(default_factory=dict, compare=False)
    probabilities: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # left out: all NaN
    features: object | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        n = len(self.masks)
        if not len(self.probabilities):
            object.__setattr__(self, "probabilities", np.full(n, np.nan, np.float32))
        shapes = {
            "boxes_xyxy": (self.boxes_xyxy.shape, (n, 4)),
            **{name: (getattr(self, name).shape, (n,)) for name in _COLUMNS},
        }
        wrong = [
            f"{name} {found}, expected {expected}" for name, (found, expected) in shapes.items() if found != expected
        ]
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
        return cls(boxes_xyxy, scores, classes, masks, no_prompt, no_fit, class_names, timing_ms or {})

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
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[chosen],
            scores=self.scores[chosen],
            classes=self.classes[chosen],
            masks=self.masks[chosen],
            prompts=self.prompts[chosen],
            fits=self.fits[chosen],
            probabilities=self.probabilities[chosen],
        )

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
        for one in prompt:
            answer = one.select_from(self)
            numbers = np.where(answer.prompts == NO_PROMPT, NO_PROMPT, answer.prompts + first)
            parts.append(replace(answer, prompts=numbers))
            first += one.prompt_count
        return join(parts)

    def to_coco(self, image_id: int | str = 0, first_id: int = 1) -> list[dict[str, Any]]:
        """COCO annotations: bbox x, y, w, h of the detection, RLE segmentation, area, score, category_id.

        category_id is the class number + 1, as COCO counts from 1. `prompt` and `fit` are None without a prompt,
        `probability` without a text prompt.
        """
        return [
            {
                "id": first_id + i,
                "image_id": image_id,
                "category_id": int(number) + 1,
                **row,
                "iscrowd": 0,
            }
            for i, (number, row) in enumerate(zip(self.classes, self._json_rows(), strict=True))
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; masks as COCO RLE. `from_json` reads it back."""
        return {
            "image": {"height": self.image_hw[0], "width": self.image_hw[1]},
            "class_names": list(self.class_names),
            "segments": [
                {"class": int(number), **row} for number, row in zip(self.classes, self._json_rows(), strict=True)
            ],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Segments:
        """What `to_json` (or `fastsam segment --json`) wrote.

        Raises:
            FastSamError: a key is missing, or a mask does not fit the image.
        """
        try:
            image_hw = (int(found["image"]["height"]), int(found["image"]["width"]))
            rows = found["segments"]
            boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            return cls(
                boxes,
                np.array([row["score"] for row in rows], np.float32),
                np.array([row.get("class", 0) for row in rows], np.int64),
                Masks.from_rle([row["segmentation"] for row in rows], image_hw),
                np.array([NO_PROMPT if row["prompt"] is None else row["prompt"] for row in rows], np.int64),
                np.array([_number(row["fit"]) for row in rows], np.float32),
                tuple(found.get("class_names", ("object",))),
                probabilities=np.array([_number(row.get("probability")) for row in rows], np.float32),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FastSamError(f"segments from JSON: {error!r}; expected what Segments.to_json writes") from error

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

    def save(self, path: str | Path) -> None:
        """Write `.json` (masks as COCO RLE) or `.npz` (arrays and packed crops). Written whole or not at all.

        Raises:
            FastSamError: another suffix, or the folder cannot be written.
        """
        path = Path(path)
        if path.suffix == ".json":
            write_atomically(path, (json.dumps(self.to_json()) + "\n").encode())
        elif path.suffix == ".npz":
            write_atomically(path, self._npz())
        else:
            raise FastSamError(f"{path}: suffix {path.suffix!r}, expected .json or .npz")

    @classmethod
    def load(cls, path: str | Path) -> Segments:
        """Read what `save` wrote.

        Raises:
            FastSamError: the file is missing, of another kind, or damaged.
        """
        path = Path(path)
        try:
            if path.suffix == ".json":
                return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
            if path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as arrays:
                    return cls._from_npz(arrays)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise FastSamError(f"{path}: {error}; expected a file that Segments.save wrote") from error
        raise FastSamError(f"{path}: suffix {path.suffix!r}, expected .json or .npz")

    def _json_rows(self) -> list[dict[str, Any]]:
        """What both forms of JSON say of each segment, as plain values; masks as COCO RLE."""
        boxes = self.boxes_xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        asked = self.prompts, self.fits, self.probabilities
        rows = zip(boxes.tolist(), self.scores, self.areas, self.masks.rle(), *asked, strict=True)
        return [
            {
                "bbox": [round(side, 3) for side in box],
                "score": round(float(score), 6),
                "area": int(area),
                "segmentation": rle,
                "prompt": None if prompt == NO_PROMPT else int(prompt),
                "fit": None if prompt == NO_PROMPT else round(float(fit), 6),
                "probability": None if np.isnan(probability) else round(float(probability), 6),
            }
            for box, score, area, rle, prompt, fit, probability in rows
        ]

    def _npz(self) -> bytes:
        import io

        crops = self.masks.crops
        bits = np.concatenate([crop.ravel() for crop in crops]) if crops else np.zeros(0, np.bool_)
        stream = io.BytesIO()
        np.savez_compressed(
            stream,
            image_hw=np.array(self.image_hw),
            boxes_xyxy=self.boxes_xyxy,
            scores=self.scores,
            classes=self.classes,
            prompts=self.prompts,
            fits=self.fits,
            probabilities=self.probabilities,
            class_names=np.array(self.class_names, dtype=str),
            corners_xy=self.masks.corners_xy,
            crop_hw=np.array([crop.shape for crop in crops], np.int64).reshape(-1, 2),
            crop_bits=np.packbits(bits),
        )
        return stream.getvalue()

    @classmethod
    def _from_npz(cls, arrays: Mapping[str, NDArray[Any]]) -> Segments:
        sizes = [(int(h), int(w)) for h, w in arrays["crop_hw"]]
        bits = np.unpackbits(arrays["crop_bits"], count=sum(h * w for h, w in sizes)).astype(np.bool_)
        ends = np.cumsum([h * w for h, w in sizes])
        crops = (bits[end - h * w : end].reshape(h, w) for end, (h, w) in zip(ends, sizes, strict=True))
        height, width = (int(side) for side in arrays["image_hw"])
        return cls(
            arrays["boxes_xyxy"],
            arrays["scores"],
            arrays["classes"],
            Masks.from_crops((height, width), crops, arrays["corners_xy"]),
            arrays["prompts"],
            arrays["fits"],
            tuple(str(name) for name in arrays["class_names"]),
            # Files of earlier versions have none.
            probabilities=arrays["probabilities"] if "probabilities" in arrays else np.zeros(0, np.float32),
        )


def join(parts: Sequence[Segments]) -> Segments:
    """All rows of one or more parts over the same image, in their order."""
    first = parts[0]
    return replace(
        first,
        boxes_xyxy=np.concatenate([p.boxes_xyxy for p in parts]),
        scores=np.concatenate([p.scores for p in parts]),
        classes=np.concatenate([p.classes for p in parts]),
        masks=concatenate([p.masks for p in parts], first.image_hw),
        prompts=np.concatenate([p.prompts for p in parts]),
        fits=np.concatenate([p.fits for p in parts]),
        probabilities=np.concatenate([p.probabilities for p in parts]),
    )


def _number(value: float | None) -> float:
    return np.nan if value is None else value
