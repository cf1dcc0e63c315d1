"""How a notebook shows segments: a picture and a table of the first rows."""

from __future__ import annotations

import base64
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from ..formats import Columns
from ..formats.csv import rows

_SHOWN_ROWS = 8
_SIDE_PX = 720
"""Longest side of a picture in a notebook, which keeps it in its file."""

_NAMES = ("segment", "class_name", "score", "area", "x1", "y1", "x2", "y2", "prompt", "fit", "track_id")


def png(picture: NDArray[np.uint8]) -> bytes:
    """A PNG file of an RGB picture, made smaller if its longest side is above 720 pixels.

    Example:
        >>> png(np.zeros((4, 6, 3), np.uint8))[1:4]
        b'PNG'
    """
    scale = _SIDE_PX / max(picture.shape[:2])
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in picture.shape[1::-1])
        bgr = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".png", bgr)
    return bytes(content)


def html(columns: Columns, title: str, picture: NDArray[np.uint8]) -> str:
    """The picture and a table beside it, with the rows of the highest scores.

    Args:
        columns: the segments of one image.
        title: a line above both.
        picture: (h, w, 3) uint8 RGB.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> html(Segments.empty((4, 6)), "nothing", np.zeros((4, 6, 3), np.uint8)).count("<img ")
        1
    """
    best = np.argsort(-columns.scores, kind="stable")[:_SHOWN_ROWS].tolist()
    every = rows(columns)
    names = [name for name in _NAMES if any(row.get(name) is not None for row in every)] if every else []
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cell(every[i][name]) for name in names)}</tr>" for i in best)
    rest = len(every) - len(best)
    more = f"<p>and {rest} more</p>" if rest else ""
    source = base64.b64encode(png(picture)).decode()
    return (
        f"<div><p><code>{escape(title)}</code></p>"
        '<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start">'
        f'<img style="max-width:min(100%,{_SIDE_PX}px)" alt="{escape(title)}" src="data:image/png;base64,{source}">'
        f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div></div></div>"
    )


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:.2f}" if isinstance(value, float) else escape(str(value))
    return f"<td>{text}</td>"
