"""The input shapes that a plan is built for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ...runtime.engines.tensorrt.record import ShapeRange
from ...runtime.errors import ModelError, ParameterError
from ...runtime.spec import ModelSpec, imgsz_for
from ...runtime.stages.letterbox import fit_rectangle

DEFAULT_MAX_BATCH = 8

_CHANNELS = 3
_USUAL_PHOTOGRAPHS = ((3, 4), (9, 16))
"""Height : width of most photographs and of most videos; the first profile is for squares."""
_SHAPE = re.compile(r"(\d+)(?:x(?:3x)?(\d+)x(\d+))?")


def profiles_for(
    spec: ModelSpec, shapes: Sequence[str] = (), max_batch: int | None = None, imgsz: int | None = None
) -> tuple[ShapeRange, ...]:
    """Choose a range of shapes for each optimization profile; the first includes the shapes of all others.

    Without `shapes`: a model of fixed size gets that size, in batches from 1 on. A dynamic one gets a profile for
    everything up to a square of imgsz, optimized for full batches of squares, and one for each of the smallest
    rectangles around images of 4:3 and 16:9, optimized for one image.

    Args:
        spec: of the model.
        shapes: "min,opt,max" for each profile, each of the three such as 1x640x640 (batch, height, width), or a batch.
        max_batch: largest batch if no shapes are given; None: 8, or the model's.
        imgsz: longest side if the model is dynamic; None: the model's default.

    Raises:
        ParameterError: a shape cannot be read, or the model does not accept it.

    Example:
        >>> print(*profiles_for(ModelSpec(imgsz=640), max_batch=4), sep="\\n")
        1x3x32x32 … 4x3x640x640 (best 4x3x640x640)
        1x3x32x32 … 4x3x480x640 (best 1x3x480x640)
        1x3x32x32 … 4x3x384x640 (best 1x3x384x640)
    """
    side = imgsz_for(spec, imgsz)
    if shapes:
        if max_batch is not None:
            raise ParameterError(f"max_batch is {max_batch}, and --shapes gives batches too; leave one out")
        ranges = [_range_from_text(text, spec, side) for text in shapes]
        # Triton runs the first profile and no other.
        return tuple(sorted(ranges, key=lambda r: [-length for length in r.max]))
    largest = _largest_batch(spec, max_batch)
    least = spec.batch or 1
    height, width = (side if s is None else s for s in spec.size_hw)
    whole = (largest, _CHANNELS, height, width)
    # A side that varies goes down to the stride, so that the rectangle of a panorama is accepted too.
    low = (least, _CHANNELS, *(spec.stride if s is None else s for s in spec.size_hw))
    ranges = [ShapeRange(low, whole, whole)]
    if spec.size_hw == (None, None):
        for image_hw in _USUAL_PHOTOGRAPHS:
            scaled = (
                image_hw[0] * 120,
                image_hw[1] * 120,
            )  # large enough for the sides to be rounded as of real images
            rectangle = fit_rectangle(scaled, side, spec.stride).input_hw
            best, most = ((batch, _CHANNELS, *rectangle) for batch in (least, largest))
            ranges.append(ShapeRange(low, best, most))
    return tuple(dict.fromkeys(ranges))


def spec_for(spec: ModelSpec, profiles: Sequence[ShapeRange]) -> ModelSpec:
    """Spec of the plan: batch and sides are fixed where all of its profiles fix them.

    Args:
        spec: of the ONNX file.
        profiles: of the plan.

    Example:
        >>> shapes = ShapeRange((1, 3, 640, 640), (4, 3, 640, 640), (8, 3, 640, 640))
        >>> spec = spec_for(ModelSpec(), [shapes])
        >>> spec.batch, spec.size_hw
        (None, (640, 640))
    """
    batches = {length for r in profiles for length in (r.min[0], r.max[0])}
    heights, widths = ({length for r in profiles for length in (r.min[axis], r.max[axis])} for axis in (2, 3))
    height, width = (sides.pop() if len(sides) == 1 else None for sides in (heights, widths))
    imgsz = max(max(r.max[2:]) for r in profiles)
    batch = batches.pop() if len(batches) == 1 else None
    return replace(spec, batch=batch, size_hw=(height, width), imgsz=imgsz)


def _largest_batch(spec: ModelSpec, max_batch: int | None) -> int:
    if spec.batch is not None:
        if max_batch not in (None, spec.batch):
            raise ParameterError(
                f"max_batch is {max_batch}, the model takes batches of {spec.batch} only; leave it out, or export the "
                "model with --dynamic"
            )
        return spec.batch
    largest = DEFAULT_MAX_BATCH if max_batch is None else max_batch
    if largest < 1:
        raise ParameterError(f"max_batch is {max_batch}, expected 1 or more")
    return largest


def _range_from_text(text: str, spec: ModelSpec, side: int) -> ShapeRange:
    parts = text.replace(" ", "").lower().split(",")
    matches = [_SHAPE.fullmatch(part) for part in parts]
    if len(matches) != 3 or not all(matches):
        raise ParameterError(
            f"shapes {text!r}: expected min,opt,max such as 1x640x640,4x1024x1024,8x1024x1024 (batch, height, width), "
            "or three batches such as 1,4,8"
        )
    shapes = [_shape(match, text, spec, side) for match in matches if match]
    try:
        return ShapeRange(*shapes)
    except ModelError as error:
        raise ParameterError(f"shapes {text!r}: {error}") from error


def _shape(match: re.Match[str], text: str, spec: ModelSpec, side: int) -> tuple[int, ...]:
    default = (s or side for s in spec.size_hw)
    height, width = (int(given) if given else usual for given, usual in zip(match.groups()[1:], default, strict=True))
    batch = int(match[1])
    for what, value, fixed in (
        ("batch", batch, spec.batch),
        ("height", height, spec.size_hw[0]),
        ("width", width, spec.size_hw[1]),
    ):
        if fixed is not None and value != fixed:
            raise ParameterError(
                f"shapes {text!r}: {what} {value}, the model takes {fixed} only; use that, or export it with --dynamic"
            )
    if height % spec.stride or width % spec.stride:
        raise ParameterError(f"shapes {text!r}: {height}x{width}, expected multiples of the stride {spec.stride}")
    return batch, _CHANNELS, height, width
