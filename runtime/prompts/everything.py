"""The prompt that selects all segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import PromptError
from ..segments import Segments
from .base import PromptKind
from .fields import known_keys


@dataclass(frozen=True)
class Everything(PromptKind):
    """Every segment.

    Example:
        >>> segments = Segments.empty((480, 640))
        >>> segments.select(Everything()) is segments
        True
    """

    key = "everything"
    example = '{"everything": true}'
    asks_masks_alone = True
    prompt_count = 0

    def select_from(self, segments: Segments) -> Segments:
        return segments

    def to_json(self) -> dict[str, Any]:
        return {self.key: True}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Everything:
        value = known_keys(document, (cls.key,), cls.key)[cls.key]
        if value is not True:
            raise PromptError(f"everything is {value!r:.80}, expected true; leave the prompt out for fewer segments")
        return cls()
