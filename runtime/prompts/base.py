"""The interface of a kind of prompt. It lets all other modules work without knowing the kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from .marks import Mark

if TYPE_CHECKING:  # `segments` needs OpenCV
    from ..segments import Prompt, Segments


class PromptKind(ABC):
    """A `Prompt` that has a JSON form, so that it can be sent to a server or passed on the command line.

    The JSON is an object with the key of the kind and the kind's other keys: `{"boxes": [[1, 2, 3, 4]]}`.

    Attributes:
        key: key of the JSON that no other kind has.
        example: the JSON, for messages.
        looks_at_image: whether the prompt needs a CLIP model and the pixels of the image.
        asks_masks_alone: whether `select_from` uses nothing but the masks. Such a prompt is answered on the GPU that
            holds the masks, while other callers wait. A subclass does not inherit it: what it overrides may use more.

    Example:
        >>> from fastsam_deploy.runtime import Points
        >>> Points([[3, 4]]).to_json()
        {'points': [[3.0, 4.0]], 'labels': [1], 'mode': 'merge', 'clean': True}
    """

    key: ClassVar[str]
    example: ClassVar[str]
    looks_at_image: ClassVar[bool] = False
    asks_masks_alone: ClassVar[bool] = False

    @property
    @abstractmethod
    def prompt_count(self) -> int:
        """See `Prompt.prompt_count`."""

    @abstractmethod
    def select_from(self, segments: Segments) -> Segments:
        """See `Prompt.select_from`. An implementation calls `check_inside` first."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The JSON object that `from_json` reads, as a dictionary of plain Python values."""

    @classmethod
    @abstractmethod
    def from_json(cls, document: Mapping[str, Any]) -> PromptKind:
        """Read a JSON object that has the key of the kind. The values are not checked yet.

        Raises:
            PromptError, ParameterError: an unknown key (see `fields.known_keys`), or a malformed value.
        """

    @classmethod
    def count_in(cls, document: Mapping[str, Any]) -> int:
        """Number of points, boxes and the like in a JSON object, for the limit of a server.

        It is called before `from_json`, so that a long list is refused before a prompt is made of it. The default is
        the length of the longest list. A kind whose list is one item (a polygon) returns 1 and must limit the length of
        the list itself.

        Example:
            >>> PromptKind.count_in({"points": [[3, 4], [5, 6]], "mode": "each"})
            2
        """
        return max((len(value) for value in document.values() if isinstance(value, list)), default=1)

    def check_inside(self, image_hw: tuple[int, int]) -> None:  # noqa: B027 most do not depend on the image
        """Raise PromptError if the prompt does not fit an image of (h, w) pixels. By default, every image fits.

        Example:
            >>> from fastsam_deploy.runtime import Points
            >>> Points([[3, 4]]).check_inside((480, 640))
        """

    def marks(self) -> Sequence[Mark]:
        """What to draw for the prompt, in pixels of the image. By default, nothing.

        Example:
            >>> from fastsam_deploy.runtime import Boxes
            >>> Boxes([10, 20, 110, 120]).marks()[0].xyxy.tolist()
            [[10.0, 20.0, 110.0, 120.0]]
        """
        return ()


def listed(prompt: Prompt | Sequence[Prompt] | None) -> tuple[Prompt, ...]:
    """One prompt, several prompts, or None (everything) as a tuple.

    Example:
        >>> from fastsam_deploy.runtime import Everything
        >>> listed(None), listed(Everything())
        ((), (Everything(),))
    """
    if prompt is None:
        return ()
    return tuple(prompt) if isinstance(prompt, Sequence) else (prompt,)


def looks_at_image(prompt: Prompt | Sequence[Prompt] | None) -> bool:
    """Whether any of the prompts needs the pixels of the image. A prompt that is not a `PromptKind` does not.

    Example:
        >>> from fastsam_deploy.runtime import Everything, Text
        >>> looks_at_image(Everything()), looks_at_image([Everything(), Text("a dog")])
        (False, True)
    """
    return any(isinstance(prompt, PromptKind) and prompt.looks_at_image for prompt in listed(prompt))


def ask_masks_alone(prompt: Prompt | Sequence[Prompt] | None) -> bool:
    """Whether every prompt declares, in its own class, that it uses nothing but the masks.

    Example:
        >>> from fastsam_deploy.runtime import Points, Text
        >>> ask_masks_alone(Points([[3, 4]])), ask_masks_alone([Points([[3, 4]]), Text("a dog")])
        (True, False)
    """
    return all(type(one).__dict__.get("asks_masks_alone", False) for one in listed(prompt))
