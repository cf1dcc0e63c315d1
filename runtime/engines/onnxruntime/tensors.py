"""Inputs and outputs of an ONNX Runtime session in the project's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...network import TensorInfo

_DTYPES = {"float": "float32", "double": "float64"}  # ONNX Runtime's own names; the others are NumPy's


def tensor_infos(tensors: Iterable[Any]) -> tuple[TensorInfo, ...]:
    """What `InferenceSession.get_inputs` or `get_outputs` gives; dtypes by their NumPy names."""
    kinds = ((tensor, tensor.type.removeprefix("tensor(").removesuffix(")")) for tensor in tensors)
    return tuple(
        TensorInfo(
            tensor.name,
            _DTYPES.get(kind, kind),
            tuple(side if isinstance(side, int) and side > 0 else None for side in tensor.shape),
        )
        for tensor, kind in kinds
    )
