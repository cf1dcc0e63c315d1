"""Prompts on the command line. The functions import heavy libraries when they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..connection import is_address
from ..documents import parse
from ..errors import PromptError

if TYPE_CHECKING:
    from ..segments import Prompt


def check_clip(prompt: Prompt | list[Prompt] | None, clip: Path | None, model: str | None) -> None:
    """Check that a text prompt has a CLIP model, and that a CLIP model has a text prompt.

    Args:
        prompt: from `parse_prompt`.
        clip: folder of a CLIP model.
        model: path or address. A server may have its own CLIP; if not, it answers with an error.

    Raises:
        PromptError: one is given without the other.

    Example:
        >>> check_clip(None, clip=None, model="FastSAM-s.onnx")
    """
    from ..prompts.base import looks_at_image

    if (clip is None) == looks_at_image(prompt) and not (clip is None and is_address(model)):
        raise PromptError(
            "--clip without --text; expected both or none; add what to look for: --text 'a dog'"
            if clip
            else "--text without --clip; expected the folder of a CLIP model; make one with fastsam-export clip"
        )


def parse_prompt(
    points: str | Sequence[str] | None,
    labels: str | Sequence[str] | None,
    points_mode: str,
    boxes: str | Sequence[str] | None,
    texts: list[str] | None = None,
    json_prompts: list[str] | None = None,
) -> Prompt | list[Prompt] | None:
    """Read the prompt from the options of a command; None for everything.

    Args:
        points, labels, boxes: one text or several, each numbers with commas or JSON; or None.
        points_mode: one of `prompts.POINT_MODES`.
        texts: plain texts.
        json_prompts: JSON of prompts of any kind.

    Raises:
        PromptError: an option is not JSON or does not describe a prompt, or a text has no word.
        ParameterError: a setting in the JSON of a prompt is out of range.

    Example:
        >>> parse_prompt("[[520, 360]]", None, "merge", None).xy.tolist()
        [[520.0, 360.0]]
    """
    from ..prompts.boxes import Boxes
    from ..prompts.points import Points

    points, labels, boxes = _texts(points), _texts(labels), _texts(boxes)
    if labels is not None and points is None:
        raise PromptError(
            f"--labels {' '.join(labels)} without --points; expected one label for each point; add --points"
        )
    prompts: list[Prompt] = []
    if points is not None:
        coords = _rows("--points", points, "x,y", "[[x, y], …]")
        flags = _rows("--labels", labels, "1,0", "[1, 0, …]", flat=True) if labels is not None else None
        prompts.append(Points(coords, flags, mode=points_mode))
    if boxes is not None:
        prompts.append(Boxes(_rows("--boxes", boxes, "x1,y1,x2,y2", "[[x1, y1, x2, y2], …]")))
    if texts:
        from ..prompts.text import Text

        prompts.append(Text(texts))
    if json_prompts:
        from ..prompts.kinds import prompt_from_json

        example = '{"boxes": [[x1, y1, x2, y2], …]}'
        prompts += (prompt_from_json(_json_option("--prompt", text, example), "--prompt") for text in json_prompts)
    if not prompts:
        return None
    return prompts[0] if len(prompts) == 1 else prompts


def _texts(texts: str | Sequence[str] | None) -> list[str] | None:
    return [texts] if isinstance(texts, str) else list(texts or ()) or None


def _rows(option: str, texts: Sequence[str], plain: str, expected: str, *, flat: bool = False) -> Any:
    """The value of an option that may be repeated: rows of numbers, or with `flat` numbers."""
    numbers = re.compile(r"\s*-?[\d.]+\s*(,\s*-?[\d.]+\s*)+")
    values = [
        _json_option(option, f"[{text}]" if numbers.fullmatch(text) else text, expected, f"{plain} or ")
        for text in texts
    ]
    if len(values) == 1:
        return values[0]
    rows: list[Any] = []
    for value in values:
        is_row = not flat and isinstance(value, list) and not any(isinstance(part, list) for part in value)
        rows.extend(value if isinstance(value, list) and not is_row else [value])
    return rows


def _json_option(option: str, text: str, expected: str, or_plain: str = "") -> Any:
    try:
        return parse(text)
    except ValueError as error:
        quote = "'" if '"' in expected else '"'
        raise PromptError(
            f"{option}: {text!r:.80} is not JSON ({error}); expected {or_plain}{quote}{expected}{quote} in quotes"
        ) from error
