"""The metadata that ultralytics writes into its files, as a spec. It is text of strangers: nothing in it is trusted."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ModelError
from ..network import TensorInfo
from ..spec import MAX_CLASSES, ModelSpec


def literal(text: str, otherwise: Any = None) -> Any:
    """The value of a Python literal, or `otherwise` where the text is none.

    Example:
        >>> literal("{0: 'cat'}"), literal("cat", "no literal")
        ({0: 'cat'}, 'no literal')
    """
    try:
        return ast.literal_eval(text)
    # Deep nesting ends in one of the last two, by its depth.
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return otherwise


def spec_from_ultralytics(metadata: Mapping[str, str], image: TensorInfo, source: str) -> ModelSpec:
    """The spec in the metadata that ultralytics writes: names, imgsz, stride, args (Python literals).

    It has no class names where the metadata has none.

    Args:
        image: the image input; its fixed sides take the place of imgsz.
        source: file name for messages.

    Raises:
        ModelError: a value is of another type or out of its range.

    Example:
        >>> images = TensorInfo("images", "float32", (None, 3, None, None))
        >>> spec_from_ultralytics({"names": "{0: 'cat', 1: 'dog'}", "imgsz": "[320, 480]"}, images, "m.onnx").imgsz
        480
    """
    values = {key: literal(metadata[key]) for key in ("names", "imgsz", "stride", "args") if key in metadata}
    fixed = [side for side in image.shape[2:] if side is not None]
    size = fixed or values.get("imgsz", 1024)
    args = values.get("args", {})
    half = isinstance(args, Mapping) and (args.get("half") is True or args.get("quantize") == 16)
    try:
        return ModelSpec(
            imgsz=int(max(size)) if isinstance(size, Sequence) else int(size),
            stride=int(values.get("stride", 32)),
            class_names=_class_names(values.get("names")),
            precision="fp16" if half or image.dtype == "float16" else "fp32",
            tools={"ultralytics": metadata["version"]} if "version" in metadata else {},
        )
    except (ModelError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{source}: its metadata cannot be used ({error!s:.200}); export it again") from error


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
    except (TypeError, ValueError, OverflowError):
        return ()
    if not by_number or min(by_number) < 0 or max(by_number) >= MAX_CLASSES:
        return ()
    return tuple(by_number.get(number, f"class{number}") for number in range(max(by_number) + 1))
