"""What a client asks about one image: the JSON text of the input PROMPT, and the limits that a server sets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..documents import MAX_QUESTION_BYTES, dump, parse
from ..errors import ImageError, ParameterError, PromptError
from ..prompts.base import PromptKind, looks_at_image
from ..prompts.fields import known_keys
from ..prompts.kinds import is_registered, kind_of_json, registered_keys
from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..stages.image import MAX_PIXELS_ON_SERVER
from .tensors import PIXELS, PROMPT

MASK_FORMATS = ("rle", "bits", "none")
_THRESHOLDS = tuple(threshold.name for threshold in fields(Thresholds))


@dataclass(frozen=True)
class Limits:
    """Upper limits on a request, for each of its images.

    Attributes:
        image_bytes: size of an image file.
        pixels: width x height.
        prompts: points, boxes and texts together; 4096 is the 64 x 64 grid of the FastSAM paper.
        groups: objects in the list of prompts, each with its points or boxes. Each of them searches all masks.
        segments: rows of the answer. A hundred times `{"everything": true}` is a short request with a long answer.
        max_det: detections of the network that are kept.
        answer_bytes: of the answer to a request, all of its images together. Masks as "bits" take most.

    Example:
        >>> Limits(image_bytes=3).check_bytes(b"JPEG")
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ImageError: the image file has 4 bytes, the server takes 3; make it smaller
    """

    image_bytes: int = 64_000_000
    pixels: int = MAX_PIXELS_ON_SERVER
    prompts: int = 4096
    groups: int = 256
    segments: int = 8192
    max_det: int = 1000
    answer_bytes: int = 128_000_000

    def check_bytes(self, content: bytes) -> bytes:
        """Return the content of an image file, or raise ImageError if it is too large.

        Example:
            >>> Limits().check_bytes(b"JPEG")
            b'JPEG'
        """
        if len(content) > self.image_bytes:
            raise ImageError(
                f"the image file has {len(content):,} bytes, the server takes {self.image_bytes:,}; make it smaller"
            )
        return content

    def check_pixels(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the (h, w, 3) uint8 array, or raise ImageError if it has too many pixels.

        Example:
            >>> Limits().check_pixels(np.zeros((4, 6, 3), np.uint8)).shape
            (4, 6, 3)
        """
        self.check_hw(pixels.shape[0], pixels.shape[1], PIXELS)
        return pixels

    def check_hw(self, height: int, width: int, name: str) -> None:
        """Raise ImageError if an image of this size has too many pixels.

        Example:
            >>> Limits(pixels=9).check_hw(4, 6, "IMAGE_SIZE")
            Traceback (most recent call last):
            ...
            fastsam_deploy.runtime.errors.ImageError: IMAGE_SIZE is 6×4, the server takes 9 pixels; make it smaller
        """
        if height * width > self.pixels:
            raise ImageError(f"{name} is {width}×{height}, the server takes {self.pixels:,} pixels; make it smaller")


@dataclass(frozen=True)
class Question:
    """What a client asks about one image.

    Attributes:
        prompts: empty for everything. The answers to several prompts are joined, in the order of the prompts.
        thresholds: which detections are kept.
        masks: format of the masks in the answer, one of MASK_FORMATS.

    Example:
        >>> question = Question.from_json('{"prompts": [{"boxes": [[10, 20, 110, 120]]}], "conf": 0.3}', Limits())
        >>> question.thresholds.conf, question.masks, question.prompts[0].prompt_count
        (0.3, 'rle', 1)
    """

    prompts: tuple[Prompt, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    masks: str = "rle"

    def to_json(self) -> str:
        """The text for PROMPT.

        Raises:
            PromptError: a prompt is of a kind that is not registered.

        Example:
            >>> Question().to_json()
            '{"conf": 0.4, "iou": 0.9, "max_det": 300, "masks": "rle"}'
        """
        document: dict[str, Any] = {**asdict(self.thresholds), "masks": self.masks}
        if self.prompts:
            document["prompts"] = [_prompt_to_json(prompt) for prompt in self.prompts]
        return dump(document)

    @property
    def looks_at_the_image(self) -> bool:
        """Whether any prompt needs the pixels of the image.

        Example:
            >>> Question().looks_at_the_image
            False
        """
        return looks_at_image(self.prompts)

    @classmethod
    def from_json(cls, text: bytes | str, limits: Limits) -> Question:
        """Parse the text of PROMPT.

        Raises:
            PromptError: the text is not JSON, has an unknown key, a malformed prompt, or too many prompts.
            ParameterError: a threshold is out of its range or beyond the limits.

        Example:
            >>> Question.from_json("{}", Limits()) == Question()
            True
        """
        try:
            document = parse(text, MAX_QUESTION_BYTES)
        except ValueError as error:
            raise PromptError(
                f"{PROMPT}: {text[:80]!r} is not JSON ({error}); expected an object such as {{}}"
            ) from error
        return cls.from_document(document, limits)

    @classmethod
    def from_document(
        cls, document: Any, limits: Limits, where: str = PROMPT, defaults: Thresholds | None = None
    ) -> Question:
        """Check the parsed JSON of a question.

        Args:
            document: any parsed JSON.
            limits: of the server.
            where: the source of the JSON, for messages.
            defaults: thresholds for a question without its own; None: those of this project.

        Raises:
            PromptError, ParameterError: see `from_json`.

        Example:
            >>> Question.from_document({"conf": 0.3}, Limits()).thresholds.conf
            0.3
        """
        bare = [key for key in registered_keys() if isinstance(document, dict) and key in document]
        if bare:
            raise PromptError(
                f"{where}: {bare[0]!r} stands at the top; expected prompts in a list: "
                f'{{"prompts": [{{"{bare[0]}": …}}]}}'
            )
        settings = known_keys(document, ("prompts", *_THRESHOLDS, "masks"), where)
        prompts = settings.pop("prompts", [])
        masks = settings.pop("masks", "rle")
        if masks not in MASK_FORMATS:
            raise ParameterError(f"{where}: masks is {masks!r:.80}, expected one of {', '.join(MASK_FORMATS)}")
        for name, value in settings.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ParameterError(f"{where}: {name} is {value!r:.80}, expected a number")
        usual = asdict(Thresholds() if defaults is None else defaults)
        thresholds = Thresholds(**{**usual, "max_det": min(usual["max_det"], limits.max_det), **settings})
        if thresholds.max_det > limits.max_det:
            raise ParameterError(f"max_det is {thresholds.max_det}, the server gives at most {limits.max_det}")
        return cls(_prompts_from_json(prompts, limits, where), thresholds, masks)

    def check_inside(self, image_hw: tuple[int, int]) -> None:
        """Raise PromptError if a prompt does not fit an image of (h, w) pixels. This needs no network.

        Example:
            >>> Question.from_json('{"prompts": [{"points": [[5, 3]]}]}', Limits()).check_inside((4, 6))
        """
        for prompt in self.prompts:
            if isinstance(prompt, PromptKind):
                prompt.check_inside(image_hw)

    def select_from(self, segments: Segments, limits: Limits) -> Segments:
        """Apply the prompts to all segments of an image.

        Raises:
            PromptError: a prompt does not fit the image, or the answer is longer than the limits.

        Example:
            >>> len(Question().select_from(Segments.empty((4, 6)), Limits()))
            0
        """
        answer = segments.select(self.prompts) if self.prompts else segments
        if len(answer) > limits.segments:
            raise PromptError(
                f"the answer has {len(answer)} segments, the server gives at most {limits.segments}; "
                "ask for fewer in one request"
            )
        return answer


def _prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    if not is_registered(prompt):
        raise PromptError(f"a prompt of type {type(prompt).__name__} cannot be sent; select from everything instead")
    return prompt.to_json()


def _prompts_from_json(values: Any, limits: Limits, where: str) -> tuple[PromptKind, ...]:
    """The prompts of the list "prompts". They are counted before any of them is created."""
    if not isinstance(values, list):
        raise PromptError(f"{where}: prompts is {values!r:.80}, expected a list of objects")
    if len(values) > limits.groups:
        raise PromptError(
            f"{len(values)} prompts for one image, the server takes {limits.groups}; put the points of one mode, "
            "and all boxes, into one prompt, or send several requests"
        )
    kinds = [kind_of_json(value, where) for value in values]
    count = sum(kind.count_in(value) for kind, value in zip(kinds, values, strict=True))
    if count > limits.prompts:
        raise PromptError(
            f"{count} points, boxes and texts for one image, the server takes {limits.prompts}; send several requests"
        )
    return tuple(kind.from_json(value) for kind, value in zip(kinds, values, strict=True))
