"""The configurations of `clip_image` and `clip_text`, which the Python models call for text prompts."""

from __future__ import annotations

from collections.abc import Callable

from ...runtime.clip.spec import ClipSpec
from ...runtime.network import TensorInfo
from ...runtime.serving.clip import CLIP_IMAGE, CLIP_TEXT, image_tensors, text_tensors
from .blocks import parameters_block, queue_block, tensor_of, tensors_block
from .configs import HEAD, NEWEST_VERSION, Serving

_BATCH = 32
"""The number of crops that the runtime sends at once."""
_TENSORS: dict[str, Callable[[ClipSpec], tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]]] = {
    CLIP_IMAGE: image_tensors,
    CLIP_TEXT: text_tensors,
}


def clip_config(model: str, spec: ClipSpec, serving: Serving) -> str:
    """Write the `config.pbtxt` of one of the two encoders: ONNX on the same kind of device as the network.

    Args:
        model: "clip_image" or "clip_text".
        spec: of the encoders.
        serving: of the network.

    Example:
        >>> clip_config("clip_text", read_clip_spec(Path("clip")), serving)  # doctest: +SKIP
    """
    inputs, outputs = _TENSORS[model](spec)
    threads = {"intra_op_thread_count": str(serving.threads)}
    return f"""\
{HEAD}name: "{model}"
{NEWEST_VERSION}
# {spec.name}
backend: "onnxruntime"
max_batch_size: {_BATCH}
{tensors_block("input", [tensor_of(info) for info in inputs])}
{tensors_block("output", [tensor_of(info) for info in outputs])}
instance_group [ {{ count: 1 kind: KIND_{serving.device.upper()} }} ]
{queue_block(serving.queue, serving.queue_ms, 0)}
{parameters_block(threads)}
"""
