"""What is asked of one image: the JSON text of the input PROMPT, and how much of it a server takes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, ParameterError, PromptError
from ..prompts.base import PromptKind, looks_at_image
from ..prompts.fields import known_keys
from ..prompts.kinds import is_registered, kind_of_json
from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..stages.image import MAX_PIXELS_ON_SERVER
from .tensors import PIXELS, PROMPT

MASK_FORMATS = ("rle", "bits", "none")
_THRESHOLDS = tuple(threshold.name for threshold in fields(Thresholds))


@dataclass(frozen=True)
class Limits:
    """What one image of a request may ask for.

    Attributes:
        image_bytes: size of an image file.
        pixels: width x height.
        prompts: points, boxes and texts together; 4096 are the grid of 64 x 64 of FastSAM's paper.
        groups: objects in the list of prompts, each with its points or boxes: every one searches all masks.
        segments: rows of the answer; asking for everything a hundred times is little to send and much to answer.
        max_det: segments that the network may find.
    """

    image_bytes: int = 64_000_000
    pixels: int = MAX_PIXELS_ON_SERVER
    prompts: int = 4096
    groups: int = 256
    segments: int = 8192
    max_det: int = 1000

    def check_bytes(self, content: bytes) -> bytes:
        """The file itself, or an ImageError."""
        if len(content) > self.image_bytes:
            raise ImageError(
                f"the image file has {len(content):,} bytes, the server takes {self.image_bytes:,}; make it smaller"
            )
        return content

    def check_pixels(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """The (h, w, 3) uint8 array itself, or an ImageError."""
        height, width = pixels.shape[:2]
        if height * width > self.pixels:
            raise ImageError(f"{PIXELS} is {width}×{height}, the server takes {self.pixels:,} pixels; make it smaller")
        return pixels


@dataclass(frozen=True)
class Question:
    """What is asked of one image.

    Attributes:
        prompts: none for everything; several are answered one after the other and joined.
        thresholds: what counts as found.
        masks: one of MASK_FORMATS.
    """

    prompts: tuple[Prompt, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    masks: str = "rle"

    def to_json(self) -> str:
        """The text for PROMPT.

        Raises:
            PromptError: a prompt is of a kind that is not registered.
        """
        asked: dict[str, Any] = {**asdict(self.thresholds), "masks": self.masks}
        if self.prompts:
            asked["prompts"] = [_prompt_to_json(prompt) for prompt in self.prompts]
        return json.dumps(asked)

    @property
    def looks_at_the_image(self) -> bool:
        """Whether a prompt needs its pixels."""
        return looks_at_image(self.prompts)

    @classmethod
    def from_json(cls, text: bytes | str, limits: Limits) -> Question:
        """Read PROMPT.

        Raises:
            PromptError: it is no JSON, has an unknown key, a prompt that is not of its shape, or too many.
            ParameterError: a threshold is out of its range or beyond the limits.
        """
        try:
            asked = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PromptError(
                f"{PROMPT}: {text[:80]!r} is no JSON ({error}); expected an object such as {{}}"
            ) from error
        settings = known_keys(asked, ("prompts", *_THRESHOLDS, "masks"), PROMPT)
        prompts = settings.pop("prompts", [])
        masks = settings.pop("masks", "rle")
        if masks not in MASK_FORMATS:
            raise ParameterError(f"{PROMPT}: masks is {masks!r:.80}, expected one of {', '.join(MASK_FORMATS)}")
        for name, value in settings.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ParameterError(f"{PROMPT}: {name} is {value!r:.80}, expected a number")
        thresholds = Thresholds(**{"max_det": min(Thresholds().max_det, limits.max_det), **settings})
        if thresholds.max_det > limits.max_det:
            raise ParameterError(f"max_det is {thresholds.max_det}, the server gives at most {limits.max_det}")
        return cls(_prompts_from_json(prompts, limits), thresholds, masks)

    def check_inside(self, image_hw: tuple[int, int]) -> None:
        """PromptError where a prompt does not fit an image of (h, w) pixels, which is known before the network runs."""
        for prompt in self.prompts:
            if isinstance(prompt, PromptKind):
                prompt.check_inside(image_hw)

    def select_from(self, segments: Segments, limits: Limits) -> Segments:
        """The answer, from everything in the image.

        Raises:
            PromptError: a prompt does not fit the image, or the answer is longer than the limits.
        """
        answer = segments.select(self.prompts) if self.prompts else segments
        if len(answer) > limits.segments:
            raise PromptError(
                f"the answer has {len(answer)} segments, the server gives at most {limits.segments}; "
                "ask for less in one request"
            )
        return answer


def _prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    if not is_registered(prompt):
        raise PromptError(f"a prompt of type {type(prompt).__name__} cannot be sent; select from everything instead")
    return prompt.to_json()


def _prompts_from_json(asked: Any, limits: Limits) -> tuple[PromptKind, ...]:
    """The list "prompts"; counted before anything is made of it."""
    if not isinstance(asked, list):
        raise PromptError(f"{PROMPT}: prompts is {asked!r:.80}, expected a list of objects")
    if len(asked) > limits.groups:
        raise PromptError(
            f"{len(asked)} prompts for one image, the server takes {limits.groups}; put the points of one mode, "
            "and all boxes, into one prompt, or send several requests"
        )
    kinds = [kind_of_json(value, PROMPT) for value in asked]
    count = sum(kind.count_in(value) for kind, value in zip(kinds, asked, strict=True))
    if count > limits.prompts:
        raise PromptError(
            f"{count} points, boxes and texts for one image, the server takes {limits.prompts}; send several requests"
        )
    return tuple(kind.from_json(value) for kind, value in zip(kinds, asked, strict=True))
