"""What clients of servers share: which prompts a server answers, and which of several images an error is of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..clip.encoders import Clip
from ..errors import ImageError
from ..prompts.base import PromptKind, listed, looks_at_image
from ..prompts.kinds import is_registered
from ..segments import Prompt


def sent_prompts(prompt: Prompt | Sequence[Prompt] | None, clip: Clip | None) -> tuple[PromptKind, ...]:
    """The prompts for a server: all, or none, and then they are answered here, from all segments.

    A server knows the registered kinds. Texts are answered here if there is a CLIP here.

    Example:
        >>> from fastsam_deploy.runtime import Everything
        >>> sent_prompts(Everything(), clip=None)
        (Everything(),)
    """
    prompts = listed(prompt)
    registered = tuple(kind for kind in prompts if is_registered(kind))
    here = (clip is not None and looks_at_image(prompts)) or len(registered) < len(prompts)
    return () if here else registered


@contextmanager
def numbered(i: int, count: int) -> Iterator[None]:
    """Add the number of the image to an ImageError about one of several.

    Example:
        >>> with numbered(1, 3):
        ...     raise ImageError("no image")
        Traceback (most recent call last):
        fastsam_deploy.runtime.errors.ImageError: image 1 of 3: no image
    """
    try:
        yield
    except ImageError as error:
        if count < 2:
            raise
        raise ImageError(f"image {i} of {count}: {error}") from error
