"""What a kind of prompt has to say of itself, so that no other module needs to know which kinds there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from .marks import Mark

if TYPE_CHECKING:  # `segments` needs OpenCV
    from ..segments import Prompt, Segments


class PromptKind(ABC):
    """A `Prompt` that can be written as JSON, and so be sent to a server and given on the command line.

    Its JSON is an object with the key of the kind and any others that the kind knows: `{"boxes": [[1, 2, 3, 4]]}`.

    >>> from fastsam_deploy.runtime import Points
    >>> Points([[3, 4]]).to_json()
    {'points': [[3.0, 4.0]], 'labels': [1], 'mode': 'merge', 'clean': True}

    Attributes:
        key: of its JSON, the one that no other kind has.
        example: its JSON, for messages.
        looks_at_image: it needs the pixels of the image, which are on the client's side or the server's, and a CLIP.
    """

    key: ClassVar[str]
    example: ClassVar[str]
    looks_at_image: ClassVar[bool] = False

    @property
    @abstractmethod
    def prompt_count(self) -> int:
        """See `Prompt.prompt_count`."""

    @abstractmethod
    def select_from(self, segments: Segments) -> Segments:
        """See `Prompt.select_from`; begins with `check_inside`."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The object that `from_json` reads back, of plain values."""

    @classmethod
    @abstractmethod
    def from_json(cls, asked: Mapping[str, Any]) -> PromptKind:
        """Read an object that has the kind's key; its values can be anything that JSON holds.

        Raises:
            PromptError, ParameterError: an unknown key (see `fields.known_keys`), or values of another form.
        """

    @classmethod
    def count_in(cls, asked: Mapping[str, Any]) -> int:
        """How many things are asked for, for the limit of a server; called before `from_json`.

        By default the length of the longest list, so that a long one is refused before anything is made of it. A kind
        whose list is one thing (a polygon) says 1, and has to limit the length by itself.
        """
        return max((len(value) for value in asked.values() if isinstance(value, list)), default=1)

    def check_inside(self, image_hw: tuple[int, int]) -> None:  # noqa: B027 most do not depend on the image
        """PromptError where the prompt does not fit an image of (h, w) pixels. By default everything fits."""

    def marks(self) -> Sequence[Mark]:
        """What is drawn of it, in pixels of the image. By default nothing."""
        return ()


def listed(prompt: Prompt | Sequence[Prompt] | None) -> tuple[Prompt, ...]:
    """One prompt, several or none (everything), as a tuple."""
    if prompt is None:
        return ()
    return tuple(prompt) if isinstance(prompt, Sequence) else (prompt,)


def looks_at_image(prompt: Prompt | Sequence[Prompt] | None) -> bool:
    """Whether any of the prompts needs the pixels of the image; those of no `PromptKind` do not."""
    return any(isinstance(prompt, PromptKind) and prompt.looks_at_image for prompt in listed(prompt))
