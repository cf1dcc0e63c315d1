"""A network on a Triton server, for stages that run here: raw tensors over the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from ...errors import ModelError
from ...network import TensorInfo
from ...spec import parameters_of
from .client import TritonClient

_DTYPES = {"TYPE_FP32": "float32", "TYPE_FP16": "float16", "TYPE_INT64": "int64", "TYPE_INT32": "int32"}


class TritonNetwork:
    """A `Network` on a server. `run` may be called from many threads at once."""

    def __init__(self, client: TritonClient) -> None:
        """
        Args:
            client: closed with this network.
        """
        self._client = client
        config = client.config
        self._max_batch = int(config.get("max_batch_size", 0))
        batched = self._max_batch > 0
        self.name = client.address.text
        self.device = client.address.host
        self.description: dict[str, Any] = {"engine": "triton", "address": self.name}
        self.metadata: Mapping[str, str] = parameters_of(config)
        self.inputs = _infos(config["input"], batched)
        self.outputs = _infos(config["output"], batched)

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Network.run`. A batch that is larger than the server's goes in parts."""
        count = max(map(len, feed.values()))
        step = self._max_batch or count
        parts = [{name: values[at : at + step] for name, values in feed.items()} for at in range(0, count, step)]
        results = []
        for answer in self._client.infer_many(parts, outputs):
            if isinstance(answer, InferenceServerException):
                raise ModelError(f"{self.name}: {answer.message()}") from answer
            if isinstance(answer, Exception):
                raise answer
            results.append(answer)
        if len(results) == 1:
            return [results[0][name] for name in outputs]
        return [np.concatenate([answer[name] for answer in results]) for name in outputs]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _infos(tensors: Sequence[Mapping[str, Any]], batched: bool) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(
            tensor["name"],
            _DTYPES.get(tensor["data_type"], tensor["data_type"]),
            ((None,) if batched else ()) + tuple(int(side) if int(side) > 0 else None for side in tensor["dims"]),
        )
        for tensor in tensors
    )
