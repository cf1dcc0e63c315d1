"""The spec of a model file, derived from its tensors and metadata. Files of other exporters work as well."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import ModelError
from ..spec import COUNT_OUTPUT, FLOATS, MAX_CLASSES, METADATA_KEY, SPLIT_OUTPUTS, ModelSpec, TensorInfo


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
    split = len(outputs) > 2  # _detections_output accepts no other layout with more than two outputs
    layout, class_count = ("split", None) if split else _layout(detections, mask_dim, source)
    if METADATA_KEY in metadata:
        base = ModelSpec.from_json(metadata[METADATA_KEY], source)
    else:
        base = _spec_from_ultralytics(metadata, image)
    if not base.class_names:
        count = class_count or 1
        base = replace(base, class_names=tuple(f"class{i}" for i in range(count)) if count > 1 else ("object",))
    elif class_count is not None and class_count != base.class_count:
        raise ModelError(
            f"{source}: {detections} holds {class_count} classes and {mask_dim} mask coefficients, "
            f"its metadata names {base.class_count} classes; export it again"
        )
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


def _layout(detections: TensorInfo, mask_dim: int, source: str) -> tuple[str, int | None]:
    """("raw", nc) or ("nms", None)."""
    _, rows, columns = detections.shape
    if columns == 6 + mask_dim:
        return "nms", None
    if rows is not None and rows >= 4 + 1 + mask_dim:
        return "raw", rows - 4 - mask_dim
    raise ModelError(
        f"{source}: {detections} beside {mask_dim} prototypes is neither (b, {4 + mask_dim}+nc, anchors) "
        f"nor (b, max_det, {6 + mask_dim}); export a YOLOv8, YOLO11 or YOLO26 segmentation network"
    )


def _class_names(names: Any) -> tuple[str, ...]:
    """Names by class number, from {0: "cat", 2: "dog"} or ["cat", …]; empty if they are neither."""
    if isinstance(names, str):
        return (names,)
    if isinstance(names, Sequence):
        return tuple(map(str, names))
    if not isinstance(names, Mapping):
        return ()
    try:
        by_number = {int(number): str(name) for number, name in names.items()}
    except (TypeError, ValueError):
        return ()
    if not by_number or min(by_number) < 0 or max(by_number) >= MAX_CLASSES:
        return ()
    return tuple(by_number.get(number, f"class{number}") for number in range(max(by_number) + 1))


def _spec_from_ultralytics(metadata: Mapping[str, str], image: TensorInfo) -> ModelSpec:
    """The spec in the metadata that ultralytics writes: names, imgsz, stride, args (Python literals).

    It has no class names where the metadata has none.
    """

    def literal(key: str, default: Any) -> Any:
        try:
            return ast.literal_eval(metadata[key])
        except (KeyError, ValueError, SyntaxError):
            return default

    fixed = [side for side in image.shape[2:] if side is not None]
    size = literal("imgsz", fixed or [1024])
    args = literal("args", {})
    half = isinstance(args, Mapping) and (args.get("half") is True or args.get("quantize") == 16)
    return ModelSpec(
        imgsz=int(max(fixed or size)) if isinstance(size, Sequence) else int(size),
        stride=int(literal("stride", 32)),
        class_names=_class_names(literal("names", None)),
        precision="fp16" if half or image.dtype == "float16" else "fp32",
        tools={"ultralytics": metadata["version"]} if "version" in metadata else {},
    )
