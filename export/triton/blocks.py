"""Blocks of a Triton configuration, as text."""

from __future__ import annotations

import json

from ...runtime.spec import TensorInfo

TRITON_DTYPE = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
    "bytes": "TYPE_STRING",
}

Tensor = tuple[str, str, str, bool]
"""Name, dtype, dimensions, whether it may be left out."""


def tensor_of(info: TensorInfo, optional: bool = False) -> Tensor:
    """A tensor as a configuration names it.

    >>> tensor_of(TensorInfo("BOXES", "float32", (None, None, 4)))
    ('BOXES', 'TYPE_FP32', '-1, 4', False)

    Args:
        info: with the batch as its first dimension, which configurations leave out.
        optional: a request may leave it out.
    """
    dims = ", ".join("-1" if side is None else str(side) for side in info.shape[1:])
    return info.name, TRITON_DTYPE[info.dtype], dims, optional


def tensors_block(kind: str, tensors: list[Tensor], ragged: bool = True) -> str:
    """One block. Inputs that vary in shape may still share a batch: our Python models take each request by itself."""
    blocks = []
    for name, dtype, dims, optional in tensors:
        extra = " optional: true" if optional else ""
        extra += " allow_ragged_batch: true" if ragged and kind == "input" and name == "PIXELS" else ""
        blocks.append(f'  {{ name: "{name}" data_type: {dtype} dims: [ {dims} ]{extra} }}')
    return f"{kind} [\n" + ",\n".join(blocks) + "\n]"


def queue_block(most: int, longest_ms: int, delay_us: int) -> str:
    """Batches, and what becomes of requests that wait.

    Args:
        most: requests that may wait; the next one is refused.
        longest_ms: a request that has waited so long is refused.
        delay_us: how long a batch waits to become larger.
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
    """Texts for a model's `parameters`."""
    blocks = [f"  {{ key: {json.dumps(k)} value: {{ string_value: {json.dumps(v)} }} }}" for k, v in values.items()]
    return "parameters [\n" + ",\n".join(blocks) + "\n]"
