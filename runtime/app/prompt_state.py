"""What a user has asked for so far: the mode, points, boxes and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import PromptError
from ..prompts.boxes import Boxes
from ..prompts.everything import Everything
from ..prompts.points import Points
from ..prompts.text import Text
from ..segments import Prompt

MODES = ("everything", "points", "boxes", "text")

MAX_PROMPTS = 500
"""Points, boxes or texts of one user."""

MAX_TEXT = 1000
"""Characters of all texts together."""


@dataclass(frozen=True, slots=True)
class PromptState:
    """The prompts of each mode. Only those of the present mode are answered; the others wait.

    Attributes:
        mode: one of `MODES`.
        points: x, y in pixels of the image, and whether it is foreground.
        boxes: left, top, right, bottom in pixels of the image.
        texts: what to look for.

    Example:
        >>> PromptState().with_point([3, 4], foreground=True)
        PromptState(mode='points', points=((3.0, 4.0, True),), boxes=(), texts=())
    """

    mode: str = "everything"
    points: tuple[tuple[float, float, bool], ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    texts: tuple[str, ...] = ()

    def prompt(self) -> Prompt | None:
        """The prompt of the present mode; None if nothing was asked for in it yet.

        Raises:
            PromptError: a box has no pixel.

        Example:
            >>> PromptState("boxes").prompt() is None
            True
        """
        if self.mode == "everything":
            return Everything()
        if self.mode == "points" and self.points:
            return Points([point[:2] for point in self.points], [point[2] for point in self.points])
        if self.mode == "boxes" and self.boxes:
            return Boxes(self.boxes)
        return Text(self.texts) if self.mode == "text" and self.texts else None

    def after(self, action: Mapping[str, Any]) -> PromptState:
        """The state after an action that adds a prompt or clears all of them; the same state for any other action.

        Args:
            action: one of {"point": [x, y], "foreground": bool}, {"box": [x1, y1, x2, y2]}, {"text": str} with commas
                between texts, {"clear": True}, {"mode": str}.

        Raises:
            PromptError: a value is not as described, or there are too many.

        Example:
            >>> PromptState().after({"text": "a cup, a spoon"}).texts
            ('a cup', 'a spoon')
        """
        if "point" in action:
            return self.with_point(action["point"], foreground=action.get("foreground") is not False)
        if "box" in action:
            return self.with_box(action["box"])
        if "text" in action:
            return self.with_text(action["text"])
        if "mode" in action:
            return self.in_mode(action["mode"])
        return NOTHING_ASKED if action.get("clear") else self

    def with_point(self, xy: Sequence[float], *, foreground: bool) -> PromptState:
        """With another point, in the mode "points"."""
        x, y = _numbers(xy, 2)
        return _limited(replace(self, mode="points", points=(*self.points, (x, y, foreground))))

    def with_box(self, xyxy: Sequence[float]) -> PromptState:
        """With another box, in the mode "boxes". Its corners may be any two that lie opposite each other."""
        x1, y1, x2, y2 = _numbers(xyxy, 4)
        box = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        return _limited(replace(self, mode="boxes", boxes=(*self.boxes, box)))

    def with_text(self, text: str) -> PromptState:
        """With other texts, in the mode "text"."""
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise PromptError(f"text is {text!r:.60}, expected words of at most {MAX_TEXT} characters")
        texts = tuple(filter(None, (part.strip() for part in text.split(","))))
        return _limited(replace(self, mode="text", texts=texts))

    def in_mode(self, mode: str) -> PromptState:
        """In another mode, with the same prompts."""
        if mode not in MODES:
            raise PromptError(f"mode is {mode!r:.60}, expected one of {', '.join(MODES)}")
        return replace(self, mode=mode)


NOTHING_ASKED = PromptState()
"""Everything is shown."""


def _numbers(values: object, count: int) -> list[float]:
    is_list = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == count
    if not is_list or not all(type(value) in (int, float) for value in values):  # type: ignore[attr-defined]
        raise PromptError(f"coordinates are {values!r:.80}, expected {count} numbers")
    try:
        return [float(value) for value in values]  # type: ignore[attr-defined]
    except OverflowError as error:
        raise PromptError(f"coordinates are {values!r:.80}, expected pixels of the image") from error


def _limited(state: PromptState) -> PromptState:
    count = max(len(state.points), len(state.boxes), len(state.texts))
    if count > MAX_PROMPTS:
        raise PromptError(f"{count} points, boxes or texts, expected at most {MAX_PROMPTS}; clear them first")
    return state
