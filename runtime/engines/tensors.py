"""The spec of a model file, derived from its tensors and metadata. Files of other exporters work as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError, ModelError
from ..network import TensorInfo
from ..spec import COUNT_OUTPUT, FLOATS, METADATA_KEY, PROTOTYPE_STRIDE, SPLIT_OUTPUTS, ModelSpec
from .foreign import spec_from_ultralytics
from .interface import Network

_PROBED_SIDE = 64
"""Pixels of the sides of an input that a network is run on to learn the shapes of its outputs."""

_Shape = tuple[int, ...]


def spec_of_network(network: Network) -> ModelSpec:
    """The spec of a network; where its outputs have no fixed number of channels it is run once to learn it.

    Raises:
        ModelError: the network is no YOLO segmentation network, or fails to run.

    Example:
        >>> spec_of_network(open_network("FastSAM-s.onnx")).mask_dim  # doctest: +SKIP
        32
    """

    def shapes_of_a_run(inputs: Mapping[str, _Shape]) -> dict[str, _Shape]:
        (image,) = network.inputs
        names = [tensor.name for tensor in network.outputs]
        arrays = network.run({image.name: np.zeros(inputs[image.name], image.dtype)}, names)
        return {name: np.shape(array) for name, array in zip(names, arrays, strict=True)}

    outputs = with_known_shapes(network.inputs, network.outputs, shapes_of_a_run, network.name)
    return spec_from_tensors(network.inputs, outputs, network.metadata, network.name)


def with_known_shapes(
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    shapes_for: Callable[[Mapping[str, _Shape]], Mapping[str, _Shape]],
    source: str,
) -> tuple[TensorInfo, ...]:
    """The outputs, with the shapes of a small input where the file says too little.

    Exporters that do not fold the graph leave all sides of the outputs open, "(?, ?, ?)", channels included.

    Args:
        inputs, outputs: the tensors that the engine reports.
        shapes_for: the shapes of the outputs for shapes of the inputs; called only where they are needed.
        source: file name for messages.

    Raises:
        ModelError: the shapes are needed and cannot be learnt.

    Example:
        >>> images = TensorInfo("images", "float32", (None, 3, None, None))
        >>> opened = TensorInfo("output0", "float32", (None, None, None))
        >>> [str(tensor) for tensor in with_known_shapes(
        ...     [images], [opened], lambda inputs: {"output0": (1, 37, inputs["images"][2] * 2)}, "model.onnx")]
        ['output0 (1, 37, 128) float32']
    """
    if not _lack_channels(outputs):
        return tuple(outputs)
    image = _only_image_input(inputs, source)
    batch, _, *sides = image.shape
    shape = (batch or 1, 3, *(side or _PROBED_SIDE for side in sides))
    try:
        shapes = shapes_for({image.name: shape})
    except FastSamError as error:
        listed = "; ".join(map(str, outputs))
        raise ModelError(
            f"{source}: outputs are {listed}, and a run on {shape} to learn their sizes failed: {error}; "
            "export it again with simplify=True"
        ) from error
    return tuple(replace(tensor, shape=tuple(shapes[tensor.name])) for tensor in outputs)


def _lack_channels(outputs: Sequence[TensorInfo]) -> bool:
    """Whether `spec_from_tensors` needs a side that is open; an output without any shape has no sides at all."""
    mask_dims = {tensor.shape[1] for tensor in outputs if len(tensor.shape) == 4}
    suppressed = {6 + mask_dim for mask_dim in mask_dims if mask_dim is not None}
    without_rows = [t for t in outputs if len(t.shape) == 3 and t.shape[1] is None and t.shape[2] not in suppressed]
    return None in mask_dims or bool(without_rows) or any(not tensor.shape for tensor in outputs)


def check_outputs(
    detections: NDArray[Any], prototypes: NDArray[Any], spec: ModelSpec, input_shape: _Shape, source: str
) -> None:
    """Check the types and shapes of what a network gave. The values are checked where they are used.

    Args:
        detections, prototypes: of one run.
        spec: of the network.
        input_shape: (b, 3, H, W) of the run.
        source: what the message calls the network.

    Raises:
        ModelError: names the tensor, what it is, and what it should be.

    Example:
        >>> detections, prototypes = np.zeros((1, 37, 84), np.float32), np.zeros((1, 32, 8, 8), np.float32)
        >>> check_outputs(detections, prototypes, ModelSpec(), (1, 3, 64, 64), "model.onnx")
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ModelError: model.onnx: gave prototypes (1, 32, 8, 8) float32 for an input \
(1, 3, 64, 64), expected (1, 32, 16, 16) of floating-point numbers; export it again
    """
    batch, _, height, width = input_shape
    values = spec.mask_dim + (6 if spec.suppressed else spec.box_values + spec.class_count)
    rows = (batch, None, values) if spec.suppressed else (batch, values, None)
    masks = (batch, spec.mask_dim, height // PROTOTYPE_STRIDE, width // PROTOTYPE_STRIDE)
    for name, array, expected in (("detections", detections, rows), ("prototypes", prototypes, masks)):
        fits = array.ndim == len(expected) and all(
            want in (None, have) for want, have in zip(expected, array.shape, strict=True)
        )
        if not fits or not np.issubdtype(array.dtype, np.floating):
            wanted = ", ".join("any" if side is None else str(side) for side in expected)
            raise ModelError(
                f"{source}: gave {name} {array.shape} {array.dtype} for an input {input_shape}, expected ({wanted}) of "
                "floating-point numbers; export it again"
            )


def spec_from_tensors(
    inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], metadata: Mapping[str, str], source: str
) -> ModelSpec:
    """The spec of a model file, from this package or from another exporter.

    The tensors decide. The metadata adds what they do not show: class names, default size, origin.

    Args:
        inputs, outputs: the tensors that the engine reports.
        metadata: ONNX metadata_props (or the JSON of a plan).
        source: file name for messages.

    Raises:
        ModelError: the tensors are not those of a YOLO segmentation network.

    Example:
        >>> images = TensorInfo("images", "float32", (None, 3, 640, 640))
        >>> detections = TensorInfo("output0", "float32", (None, 37, 8400))
        >>> prototypes = TensorInfo("output1", "float32", (None, 32, 160, 160))
        >>> spec = spec_from_tensors([images], [detections, prototypes], {}, "model.onnx")
        >>> spec.layout, spec.fixed_hw, spec.class_names
        ('raw', (640, 640), ('object',))
    """
    image = _only_image_input(inputs, source)
    prototypes = _prototypes_output(outputs, source)
    detections = _detections_output(outputs, prototypes, source)
    mask_dim = prototypes.shape[1]
    assert mask_dim is not None  # _prototypes_output accepts no other
    if METADATA_KEY in metadata:
        base = ModelSpec.from_json(metadata[METADATA_KEY], source)
    else:
        base = spec_from_ultralytics(metadata, image, source)
    split = len(outputs) > 2  # _detections_output accepts no other layout with more than two outputs
    layout, class_count = ("split", None) if split else _layout(detections, mask_dim, base, source)
    if not base.class_names:
        count = class_count or 1
        base = replace(base, class_names=tuple(f"class{i}" for i in range(count)) if count > 1 else ("object",))
    elif class_count is not None and class_count != base.class_count:
        raise ModelError(
            f"{source}: {detections} holds {class_count} classes and {mask_dim} mask coefficients, "
            f"its metadata names {base.class_count} classes; export it again"
        )
    try:
        return replace(
            base,
            input=image.name,
            detections=detections.name,
            prototypes=prototypes.name,
            layout=layout,
            input_dtype=image.dtype,
            batch=image.shape[0],
            size_hw=(image.shape[2], image.shape[3]),
            mask_dim=mask_dim,
        )
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error


def _only_image_input(inputs: Sequence[TensorInfo], source: str) -> TensorInfo:
    listed = "; ".join(map(str, inputs)) or "none"
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] != 3 or inputs[0].dtype not in FLOATS:
        raise ModelError(
            f"{source}: inputs are {listed}; expected one, images (b, 3, H, W) float32 or float16; "
            "is this a YOLO segmentation network?"
        )
    return inputs[0]


def _prototypes_output(outputs: Sequence[TensorInfo], source: str) -> TensorInfo:
    four = [t for t in outputs if len(t.shape) == 4 and t.shape[1] is not None]
    if len(four) != 1:
        listed = "; ".join(map(str, outputs)) or "none"
        raise ModelError(
            f"{source}: outputs are {listed}; expected detections (b, 4+nc+32, anchors) and mask prototypes "
            "(b, 32, H/4, W/4); export a segmentation network (a detection network has no masks)"
        )
    return four[0]


def _detections_output(outputs: Sequence[TensorInfo], prototypes: TensorInfo, source: str) -> TensorInfo:
    by_name = {t.name: t for t in outputs}
    if set(by_name) == {COUNT_OUTPUT, *SPLIT_OUTPUTS, prototypes.name}:
        return by_name[SPLIT_OUTPUTS[0]]
    three = [t for t in outputs if len(t.shape) == 3]
    if len(three) != 1 or len(outputs) != 2:
        listed = "; ".join(map(str, outputs))
        raise ModelError(
            f"{source}: outputs are {listed}; expected exactly one of three dimensions beside {prototypes.name}; "
            "export it with its detections in one tensor, as ultralytics does"
        )
    return three[0]


def _layout(detections: TensorInfo, mask_dim: int, base: ModelSpec, source: str) -> tuple[str, int | None]:
    """("raw", nc), ("distributions", nc) or ("nms", None)."""
    _, rows, columns = detections.shape
    if base.layout == "distributions":  # the tensor alone looks like "raw" with more classes
        return base.layout, (rows or 0) - base.box_values - mask_dim
    if columns == 6 + mask_dim:
        return "nms", None
    if rows is not None and rows >= 4 + 1 + mask_dim:
        return "raw", rows - 4 - mask_dim
    raise ModelError(
        f"{source}: {detections} beside {mask_dim} prototypes is neither (b, {4 + mask_dim}+nc, anchors) "
        f"nor (b, max_det, {6 + mask_dim}); export a YOLOv8, YOLO11 or YOLO26 segmentation network"
    )
