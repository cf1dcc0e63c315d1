"""What the page shows after an action, as plain values for the browser."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..render import encode_image
from .downloads import Download
from .prompt_state import NOTHING_ASKED, PromptState
from .session import OpenImage

LONGEST_PX = 1600
"""Longest side of what is sent to the browser. Coordinates and files are in pixels of the image all the same."""


@dataclass(frozen=True)
class View:
    """What the page shows. The image itself is sent once, by `photo_url`.

    Attributes:
        revision: rises from view to view, so that the browser ignores one that comes late.
        status: a sentence for the user.
        failed: whether it is about an error.
        busy: whether there is more to come.
        image: number, name, width and height of the open image; None if there is none.
        layer: `data:` URL of the segments, see `drawing.layer`; empty if there are none; None: the same as before.
        asked: the prompts, to be marked on the image.
        answer_ms: time on the server, from the action to this view.
        download: a file for the user.

    Example:
        >>> View(1, "Open an image.").to_json()["image"] is None
        True
    """

    revision: int
    status: str
    failed: bool = False
    busy: bool = False
    image: dict[str, Any] | None = None
    layer: str | None = None
    asked: PromptState = NOTHING_ASKED
    answer_ms: float = 0.0
    download: Download | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; files and pictures are `data:` URLs."""
        file = self.download
        return {
            "revision": self.revision,
            "status": self.status,
            "failed": self.failed,
            "busy": self.busy,
            "image": self.image,
            "layer": self.layer,
            "mode": self.asked.mode,
            "points": [list(point) for point in self.asked.points],
            "boxes": [list(box) for box in self.asked.boxes],
            "answer_ms": round(self.answer_ms, 1),
            "download": file and {"name": file.name, "url": data_url(file.media_type, file.content)},
        }


def described(image: OpenImage) -> dict[str, Any]:
    """What the browser has to know of an image: its number, name and size in pixels.

    Example:
        >>> from fastsam_deploy.runtime import Segments
        >>> described(OpenImage(1, "cat.jpg", np.zeros((4, 5, 3), np.uint8), Segments.empty((4, 5)), 210.0))
        {'number': 1, 'name': 'cat.jpg', 'width': 5, 'height': 4}
    """
    height, width = image.everything.image_hw
    return {"number": image.number, "name": image.name, "width": width, "height": height}


def photo_url(pixels: NDArray[np.uint8], longest_px: int = LONGEST_PX) -> str:
    """An image as a `data:` URL, made smaller if it is larger than a screen.

    Args:
        pixels: (h, w, 3) uint8 RGB.
        longest_px: longest side of what is sent.

    Example:
        >>> photo_url(np.zeros((4, 5, 3), np.uint8))[:30]
        'data:image/jpeg;base64,/9j/4AA'
    """
    scale = longest_px / max(pixels.shape[:2])
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return data_url("image/jpeg", encode_image("photo.jpg", pixels))


def data_url(media_type: str, content: bytes) -> str:
    """A file as a URL that holds it.

    Example:
        >>> data_url("text/plain", b"hello")
        'data:text/plain;base64,aGVsbG8='
    """
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
