"""What is asked of one image: the JSON text of the input PROMPT, and how much of it a server takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, ParameterError, PromptError
from ..prompts.points import Boxes, Everything, Points
from ..prompts.text import Text
from ..segments import Prompt, Segments
from ..settings import Thresholds

IMAGE, PIXELS, PROMPT = "IMAGE", "PIXELS", "PROMPT"
"""Names of the inputs; `wire.py` describes them."""

MASK_FORMATS = ("rle", "bits", "none")
_TEXT_KEYS = ("mode", "background", "resize", "max_masks", "min_area_px", "duplicate_iou", "truncate")


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
    pixels: int = 50_000_000
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
            PromptError: a prompt is of a kind that cannot be sent (see `can_be_sent`).
        """
        asked: dict[str, Any] = {**asdict(self.thresholds), "masks": self.masks}
        if self.prompts:
            asked["prompts"] = [_prompt_to_json(prompt) for prompt in self.prompts]
        return json.dumps(asked)

    @property
    def looks_at_the_image(self) -> bool:
        """Whether a prompt needs its pixels."""
        return any(isinstance(prompt, Text) for prompt in self.prompts)

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
        settings = _known(asked, ("prompts", "conf", "iou", "max_det", "masks"), PROMPT)
        prompts = settings.pop("prompts", [])
        masks = settings.pop("masks", "rle")
        if masks not in MASK_FORMATS:
            raise ParameterError(f"{PROMPT}: masks is {masks!r:.80}, expected one of {', '.join(MASK_FORMATS)}")
        for name, value in settings.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ParameterError(f"{PROMPT}: {name} is {value!r:.80}, expected a number")
        if not isinstance(prompts, list):
            raise PromptError(f"{PROMPT}: prompts is {prompts!r:.80}, expected a list of objects")
        _limit(prompts, limits)
        thresholds = Thresholds(**{"max_det": min(Thresholds().max_det, limits.max_det), **settings})
        if thresholds.max_det > limits.max_det:
            raise ParameterError(f"max_det is {thresholds.max_det}, the server gives at most {limits.max_det}")
        return cls(tuple(_prompt_from_json(found) for found in prompts), thresholds, masks)

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


def can_be_sent(prompt: Prompt) -> bool:
    """Whether a server understands it; others are answered by the client from everything."""
    return isinstance(prompt, (Everything, Points, Boxes, Text))


def _prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt, Everything):
        return {"everything": True}
    if isinstance(prompt, Points):
        labels = prompt.labels.astype(int).tolist()
        return {"points": prompt.xy.tolist(), "labels": labels, "mode": prompt.mode, "clean": prompt.clean}
    if isinstance(prompt, Boxes):
        return {"boxes": prompt.xyxy.tolist()}
    if isinstance(prompt, Text):
        return {"text": list(prompt.texts), **{key: getattr(prompt, key) for key in _TEXT_KEYS}}
    raise PromptError(f"a prompt of type {type(prompt).__name__} cannot be sent; select from everything instead")


def _prompt_from_json(found: Any) -> Prompt:
    kinds = [kind for kind in ("points", "boxes", "text", "everything") if isinstance(found, dict) and kind in found]
    if len(kinds) != 1:
        raise PromptError(
            f'{PROMPT}: a prompt is {found!r:.80}; expected {{"points": [[x, y], …], "labels": [1, …]}}, '
            '{"boxes": [[x1, y1, x2, y2], …]}, {"text": ["a dog", …]} or {"everything": true}'
        )
    if kinds == ["points"]:
        asked = _known(found, ("points", "labels", "mode", "clean"), "points")
        if not isinstance(asked.get("clean", True), bool):
            raise PromptError(f"points: clean is {asked['clean']!r:.80}, expected true or false")
        return Points(asked.pop("points"), **asked)
    if kinds == ["boxes"]:
        return Boxes(_known(found, ("boxes",), "boxes")["boxes"])
    if kinds == ["text"]:
        return _text_from_json(_known(found, ("text", *_TEXT_KEYS), "text"))
    if _known(found, ("everything",), "everything")["everything"] is not True:
        raise PromptError(f"everything is {found['everything']!r:.80}, expected true; leave it out to ask for less")
    return Everything()


def _text_from_json(asked: dict[str, Any]) -> Text:
    texts = asked.pop("text")
    if not isinstance(texts, (str, list)) or not all(isinstance(text, str) for text in texts):
        raise PromptError(f'text is {texts!r:.80}, expected a text or a list of texts, such as ["a dog", "a cat"]')
    kinds: dict[str, Any] = {"max_masks": int, "min_area_px": int, "duplicate_iou": (int, float), "truncate": bool}
    for key, kind in kinds.items():
        value = asked.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)):
            raise ParameterError(
                f"text: {key} is {value!r:.80}, expected {'true or false' if kind is bool else 'a number'}"
            )
    return Text(texts, **{key: value for key, value in asked.items() if value is not None or key == "duplicate_iou"})


def _known(found: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    """A copy of an object that has no other keys: a misspelt one would be ignored without a word."""
    if not isinstance(found, dict):
        raise PromptError(f"{where}: {found!r:.80} is no object; expected keys among {', '.join(keys)}")
    unknown = sorted(set(found) - set(keys))
    if unknown:
        raise PromptError(f"{where}: unknown key {unknown[0]!r:.80}; known are {', '.join(keys)}")
    return dict(found)


def _limit(prompts: list[Any], limits: Limits) -> None:
    """Count before anything is made of them."""
    if len(prompts) > limits.groups:
        raise PromptError(
            f"{len(prompts)} prompts for one image, the server takes {limits.groups}; put the points of one mode, "
            "and all boxes, into one prompt, or send several requests"
        )
    asked = 0
    for found in prompts:
        lists = [value for value in found.values() if isinstance(value, list)] if isinstance(found, dict) else []
        asked += max(map(len, lists), default=1)
    if asked > limits.prompts:
        raise PromptError(
            f"{asked} points, boxes and texts for one image, the server takes {limits.prompts}; send several requests"
        )
