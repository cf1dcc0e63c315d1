"""Blocks of a Triton configuration file, as text."""

from __future__ import annotations

import json

from ...runtime.network import TensorInfo

TRITON_DTYPE = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
    "bytes": "TYPE_STRING",
}

Tensor = tuple[str, str, str, bool]
"""Name, data type, dimensions without the batch, and whether it is optional."""


def tensor_of(info: TensorInfo, optional: bool = False) -> Tensor:
    """Describe a tensor for a configuration.

    Args:
        info: with the batch as its first dimension, which configurations leave out.
        optional: a request may leave it out.

    Example:
        >>> tensor_of(TensorInfo("BOXES", "float32", (None, None, 4)))
        ('BOXES', 'TYPE_FP32', '-1, 4', False)
    """
    dims = ", ".join("-1" if side is None else str(side) for side in info.shape[1:])
    return info.name, TRITON_DTYPE[info.dtype], dims, optional


def tensors_block(kind: str, tensors: list[Tensor], ragged: bool = True) -> str:
    """Write the block of all inputs or all outputs.

    Args:
        kind: "input" or "output".
        tensors: in the order of the model.
        ragged: images of different shapes may share a batch, as the Python models handle each request separately.

    Example:
        >>> print(tensors_block("output", [("BOXES", "TYPE_FP32", "-1, 4", False)]))
        output [
          { name: "BOXES" data_type: TYPE_FP32 dims: [ -1, 4 ] }
        ]
    """
    blocks = []
    for name, dtype, dims, optional in tensors:
        extra = " optional: true" if optional else ""
        extra += " allow_ragged_batch: true" if ragged and kind == "input" and name == "PIXELS" else ""
        blocks.append(f'  {{ name: "{name}" data_type: {dtype} dims: [ {dims} ]{extra} }}')
    return f"{kind} [\n" + ",\n".join(blocks) + "\n]"


def queue_block(most: int, longest_ms: int, delay_us: int) -> str:
    """Write the block of dynamic batching and of the queue.

    Args:
        most: number of requests that may wait; further ones are refused.
        longest_ms: requests that have waited this long are refused, milliseconds.
        delay_us: how long a batch waits for further requests, microseconds.

    Example:
        >>> "max_queue_size: 128" in queue_block(128, 10_000, 0)
        True
    """
    return f"""\
dynamic_batching {{
  max_queue_delay_microseconds: {delay_us}
  default_queue_policy {{
    # Beyond these a client gets 503 (UNAVAILABLE) and comes again, instead of waiting for an answer it gave up on.
    max_queue_size: {most}
    timeout_action: REJECT
    default_timeout_microseconds: {longest_ms * 1000}
    allow_timeout_override: true
  }}
}}"""


def parameters_block(values: dict[str, str]) -> str:
    """Write the block of a model's `parameters`.

    Example:
        >>> print(parameters_block({"imgsz": "640"}))
        parameters [
          { key: "imgsz" value: { string_value: "640" } }
        ]
    """
    blocks = [f"  {{ key: {json.dumps(k)} value: {{ string_value: {json.dumps(v)} }} }}" for k, v in values.items()]
    return "parameters [\n" + ",\n".join(blocks) + "\n]"
