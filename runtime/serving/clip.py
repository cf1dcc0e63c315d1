"""The CLIP encoders of a Triton repository: models that run on the same server as the Python models that call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip.encoders import Clip, ImageEncoder, TextEncoder
from ..clip.spec import TOKENIZER_FILE, ClipSpec, clip_spec_from_json
from ..errors import ModelError, ServerError
from ..network import TensorInfo

CLIP_IMAGE, CLIP_TEXT = "clip_image", "clip_text"


def clip_on_this_server(text: str, folder: Path) -> Clip:
    """The encoders that the models `clip_image` and `clip_text` run.

    Args:
        text: the content of `clip.json`.
        folder: the one that holds the tokenizer.

    Raises:
        ModelError: the text or the tokenizer cannot be read.
        MissingDependencyError: `tokenizers` is not installed.

    Example:
        >>> clip = clip_on_this_server(Path("clip/clip.json").read_text(), Path("clip"))    # doctest: +SKIP
        >>> clip.spec.name                                                                  # doctest: +SKIP
        'ViT-B-32/openai'
    """
    spec = clip_spec_from_json(text, "model configuration")
    images = ImageEncoder(ModelOnThisServer(CLIP_IMAGE, *image_tensors(spec)), spec)
    texts = TextEncoder(ModelOnThisServer(CLIP_TEXT, *text_tensors(spec)), spec, folder / TOKENIZER_FILE)
    return Clip(images, texts)


def image_tensors(spec: ClipSpec) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of the image encoder.

    Example:
        >>> inputs, outputs = image_tensors(read_clip_spec("clip"))         # doctest: +SKIP
        >>> str(inputs[0]), str(outputs[0])                                 # doctest: +SKIP
        ('images (?, 3, 224, 224) float32', 'features (?, 512) float32')
    """
    outputs = [TensorInfo("features", "float32", (None, spec.embed_dim))]
    if spec.image.dense:
        outputs.append(TensorInfo("patch_features", "float32", (None, None, None, spec.embed_dim)))
    return (TensorInfo("images", "float32", (None, 3, *spec.image.size_hw)),), tuple(outputs)


def text_tensors(spec: ClipSpec) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of the text encoder.

    Example:
        >>> inputs, outputs = text_tensors(read_clip_spec("clip"))          # doctest: +SKIP
        >>> str(inputs[0]), str(outputs[0])                                 # doctest: +SKIP
        ('tokens (?, 77) int64', 'features (?, 512) float32')
    """
    tokens = TensorInfo("tokens", "int64", (None, spec.text.context_length))
    return (tokens,), (TensorInfo("features", "float32", (None, spec.embed_dim)),)


class ModelOnThisServer:
    """A `Network` that runs another model of the same Triton server (business logic scripting).

    It works only inside the Python backend.

    Example:
        >>> ModelOnThisServer("clip_text", (), ()).description
        {'engine': 'triton', 'model': 'clip_text'}
    """

    def __init__(self, name: str, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> None:
        self.name = name
        self.inputs, self.outputs = inputs, outputs
        self.metadata: Mapping[str, str] = {}
        self.device = "server"
        self.description: dict[str, Any] = {"engine": "triton", "model": name}

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Network.run`.

        Raises:
            ServerError: the model is not loaded, or is too busy.
            ModelError: the model failed.
        """
        import triton_python_backend_utils as pb

        request = pb.InferenceRequest(
            model_name=self.name,
            requested_output_names=list(outputs),
            inputs=[pb.Tensor(name, np.ascontiguousarray(values)) for name, values in feed.items()],
            preferred_memory=pb.PreferredMemory(pb.TRITONSERVER_MEMORY_CPU, 0),
        )
        try:
            response = request.exec()
        except pb.TritonModelException as error:
            raise ServerError(f"{self.name}: {error}; is the model loaded? load it on this server") from error
        if response.has_error():
            failure = response.error()
            kind = ServerError if failure.code() == pb.TritonError.UNAVAILABLE else ModelError
            raise kind(f"{self.name}: {failure.message()}")
        return [np.array(pb.get_output_tensor_by_name(response, name).as_numpy()) for name in outputs]

    def close(self) -> None:
        """Do nothing: the server owns the model."""
