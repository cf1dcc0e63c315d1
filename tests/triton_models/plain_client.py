"""A client that knows nothing of ours but the names in `runtime/wire/answer.py`: what somebody else would write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastsam_deploy.runtime import Masks, Segments

grpc: ModuleType = pytest.importorskip("tritonclient.grpc", reason="needs the extra [triton]")
http: ModuleType = pytest.importorskip("tritonclient.http", reason="needs the extra [triton]")
from tritonclient.utils import InferenceServerException, np_to_triton_dtype  # noqa: E402 after the checks

Answer = dict[str, NDArray[Any]]
REFUSED = {"http": "400", "grpc": "StatusCode.INVALID_ARGUMENT"}


class PlainClient:
    """One connection of one transport. One thread at a time; to be closed before its server stops."""

    def __init__(self, server: Any, transport: str) -> None:
        self.transport = transport
        self.address: str = getattr(server, transport)
        self._kit = {"grpc": grpc, "http": http}[transport]
        # The methods of the administration (load_model, get_inference_statistics) are the library's own.
        self.raw = self._kit.InferenceServerClient(self.address)

    def ask(
        self,
        model: str,
        image: bytes | Sequence[bytes] | None = None,
        *,
        pixels: NDArray[np.uint8] | None = None,
        prompt: Any = None,
        **options: Any,
    ) -> Answer:
        """Answers to one request.

        Args:
            image: files, one or several.
            pixels: (b, h, w, 3).
            prompt: JSON value or text; a list of them for several images.
        """
        tensors: dict[str, NDArray[Any]] = {}
        if image is not None:
            tensors["IMAGE"] = column([image] if isinstance(image, bytes) else image)
        if pixels is not None:
            tensors["PIXELS"] = pixels
        if prompt is not None:
            tensors["PROMPT"] = column([text_of(one) for one in (prompt if isinstance(prompt, list) else [prompt])])
        return self.infer(model, tensors, **options)

    def infer(self, model: str, tensors: Mapping[str, NDArray[Any]], **options: Any) -> Answer:
        """Any tensors, as they are."""
        inputs = []
        for name, values in tensors.items():
            given = self._kit.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
            given.set_data_from_numpy(values)
            inputs.append(given)
        result = self.raw.infer(model, inputs, **options)
        response = result.get_response()
        outputs = response["outputs"] if self.transport == "http" else response.outputs
        names = [output["name"] if self.transport == "http" else output.name for output in outputs]
        return {name: result.as_numpy(name) for name in names}

    def batches(self, model: str) -> dict[int, int]:
        """Size of a batch → how often the model has run one, of the versions loaded now."""
        found: dict[int, int] = {}
        for one in self.statistics(model):
            for batch in one.get("batch_stats", []):
                size = int(batch["batch_size"])
                found[size] = found.get(size, 0) + int(batch["compute_infer"].get("count", 0))
        return found

    def statistics(self, model: str) -> list[dict[str, Any]]:
        """Of each version that is loaded now."""
        options = {} if self.transport == "http" else {"as_json": True}
        found: list[dict[str, Any]] = self.raw.get_inference_statistics(model, **options).get("model_stats", [])
        return found

    def __enter__(self) -> PlainClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.raw.close()


def column(contents: Sequence[bytes]) -> NDArray[Any]:
    """(b, 1) of BYTES; NumPy would make a text of fixed length of it, and cut its zeros."""
    tensor = np.empty((len(contents), 1), np.object_)
    tensor[:, 0] = contents
    return tensor


def text_of(prompt: Any) -> bytes:
    if isinstance(prompt, bytes):
        return prompt
    return (prompt if isinstance(prompt, str) else json.dumps(prompt)).encode()


def refusal(error: InferenceServerException, transport: str) -> str:
    """The message of an error that is the client's fault, and nothing else."""
    assert error.status() == REFUSED[transport], f"{error.status()}: {error.message()}"
    return str(error.message())


def segments_of(answer: Answer, i: int = 0) -> Segments:
    """Image `i` of an answer whose masks are "rle", read by the table in `runtime/wire/answer.py` and nothing else."""
    count = int(answer["COUNT"][i, 0])
    image_hw = (int(answer["IMAGE_SIZE"][i, 0]), int(answer["IMAGE_SIZE"][i, 1]))
    rows = {name: answer[name][i][:count] for name in ("BOXES", "SCORES", "CLASSES", "PROMPTS", "FITS", "MASKS")}
    counts = [text.decode("ascii") for text in rows["MASKS"]]
    masks = Masks.from_rle([{"size": list(image_hw), "counts": text} for text in counts], image_hw)
    fits = np.where(rows["PROMPTS"] < 0, np.nan, rows["FITS"]).astype(np.float32)
    classes, prompts = rows["CLASSES"].astype(np.int64), rows["PROMPTS"].astype(np.int64)
    found = Segments(rows["BOXES"], rows["SCORES"], classes, masks, prompts, fits)
    np.testing.assert_array_equal(answer["AREAS"][i][:count], found.areas)
    return found


def assert_same(found: Segments, wanted: Segments) -> None:
    """The same answer. Batches sum in another order: a pixel at the edge of a mask may fall to the other side."""
    assert found.image_hw == wanted.image_hw
    np.testing.assert_array_equal(found.prompts, wanted.prompts)
    np.testing.assert_array_equal(found.classes, wanted.classes)
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.01)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
    np.testing.assert_allclose(found.fits, wanted.fits, atol=1e-3)
    for one, other in zip(found.masks, wanted.masks, strict=True):
        assert np.count_nonzero(one ^ other) <= 1e-3 * np.count_nonzero(other) + 1
