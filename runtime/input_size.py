"""How large a network's input may be, and what sides it may have."""

from __future__ import annotations

from numbers import Real

from .errors import ParameterError

MAX_INPUT_PIXELS = 2**28
"""Limit of batch x H x W of a network's input, 3.2 GB in FP32: 16384 x 16384 pixels of one image. A network takes some
fifty times as much to run on it. Checked before any memory is asked for."""

MAX_IMGSZ = 16_384
"""Limit of the longest side of a network's input, pixels."""


def check_imgsz(imgsz: int, stride: int = 32) -> int:
    """Return `imgsz` if it is a positive multiple of `stride`, and at most `MAX_IMGSZ`.

    Raises:
        ParameterError: it is not; the message suggests the nearest multiples.

    Example:
        >>> check_imgsz(640)
        640
        >>> check_imgsz(600)
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ParameterError: imgsz is 600, expected a multiple of the network's stride 32; \
use 576 or 608
    """
    given: object = imgsz
    if isinstance(given, bool) or not isinstance(given, Real):
        raise ParameterError(f"imgsz is {imgsz!r:.60}, expected a whole number of pixels; use 640 or 1024")
    if imgsz > MAX_IMGSZ:
        raise ParameterError(f"imgsz is {imgsz}, expected {MAX_IMGSZ} pixels or fewer; more do not fit into memory")
    if not imgsz >= stride or int(imgsz) != imgsz or imgsz % stride:  # NaN is not above anything
        below = max(stride, int(max(0, imgsz)) // stride * stride)
        raise ParameterError(
            f"imgsz is {imgsz}, expected a multiple of the network's stride {stride}; use {below} or {below + stride}"
        )
    return int(imgsz)
