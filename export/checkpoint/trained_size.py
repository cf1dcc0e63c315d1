"""The size of the images that a network was trained on, as its checkpoint states it. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...runtime.input_size import MAX_IMGSZ


def trained_px(train_args: Mapping[Any, Any], stride: int) -> int | None:
    """Longest side of the network's input in training.

    Args:
        train_args: settings of the training, of which `imgsz` is a side, or two as [H, W]. They come from a file and
            may hold anything.
        stride: of the network, pixels.

    Returns:
        Pixels, rounded up to a multiple of the stride as ultralytics does; None if the settings do not say it.

    Example:
        >>> trained_px({"imgsz": 640}, 32), trained_px({"imgsz": [480, 600]}, 32), trained_px({"imgsz": "large"}, 32)
        (640, 608, None)
    """
    given = train_args.get("imgsz")
    sides: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    if not sides or not all(type(side) is int and 0 < side <= MAX_IMGSZ for side in sides):
        return None
    px = int(-(-max(sides) // stride) * stride)
    return px if px <= MAX_IMGSZ else None
