"""The CLIP encoders of a Triton repository, as the Python models see them: networks beside them on the same server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip.encoders import Clip, ImageEncoder, TextEncoder
from ..clip.spec import TOKENIZER_FILE, ClipSpec, clip_spec_from_json
from ..errors import ModelError, ServerError
from ..spec import TensorInfo

CLIP_IMAGE, CLIP_TEXT = "clip_image", "clip_text"


def clip_on_this_server(text: str, folder: Path) -> Clip:
    """Encoders behind the models `clip_image` and `clip_text`.

    Args:
        text: of the `clip.json`.
        folder: where the tokenizer is.

    Raises:
        ModelError: text or tokenizer cannot be read. MissingDependencyError: `tokenizers` is not installed.
    """
    spec = clip_spec_from_json(text, "model configuration")
    images = ImageEncoder(ModelOnThisServer(CLIP_IMAGE, *image_tensors(spec)), spec)
    texts = TextEncoder(ModelOnThisServer(CLIP_TEXT, *text_tensors(spec)), spec, folder / TOKENIZER_FILE)
    return Clip(images, texts)


def image_tensors(spec: ClipSpec) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of the image encoder."""
    outputs = [TensorInfo("features", "float32", (None, spec.embed_dim))]
    if spec.image.dense:
        outputs.append(TensorInfo("patch_features", "float32", (None, None, None, spec.embed_dim)))
    return (TensorInfo("images", "float32", (None, 3, *spec.image.size_hw)),), tuple(outputs)


def text_tensors(spec: ClipSpec) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of the text encoder."""
    tokens = TensorInfo("tokens", "int64", (None, spec.text.context_length))
    return (tokens,), (TensorInfo("features", "float32", (None, spec.embed_dim)),)


class ModelOnThisServer:
    """A `Network` that is another model of the server that calls us (BLS). For use inside the Python backend."""

    def __init__(self, name: str, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> None:
        self.name = name
        self.inputs, self.outputs = inputs, outputs
        self.metadata: Mapping[str, str] = {}
        self.device = "server"
        self.description: dict[str, Any] = {"engine": "triton", "model": name}

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Network.run`.

        Raises:
            ServerError: the model is not loaded, or too busy. ModelError: it failed.
        """
        import triton_python_backend_utils as pb

        request = pb.InferenceRequest(
            model_name=self.name,
            requested_output_names=list(outputs),
            inputs=[pb.Tensor(name, np.ascontiguousarray(values)) for name, values in feed.items()],
            preferred_memory=pb.PreferredMemory(pb.TRITONSERVER_MEMORY_CPU, 0),
        )
        try:
            answer = request.exec()
        except pb.TritonModelException as error:
            raise ServerError(f"{self.name}: {error}; is the model loaded? load it beside the one that asks") from error
        if answer.has_error():
            failure = answer.error()
            kind = ServerError if failure.code() == pb.TritonError.UNAVAILABLE else ModelError
            raise kind(f"{self.name}: {failure.message()}")
        return [np.array(pb.get_output_tensor_by_name(answer, name).as_numpy()) for name in outputs]

    def close(self) -> None:
        """Nothing is ours to close."""
