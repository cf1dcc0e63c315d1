"""A YOLO segmentation network on any library: what it takes is checked, what it gives has a name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from ..spec import COUNT_OUTPUT, SPLIT_OUTPUTS, ModelSpec
from .failures import as_model_error
from .interface import Network
from .tensors import check_outputs, spec_of_network


class SegmentationEngine:
    """The `Engine` over a `Network`, which it closes. `run` may be called from many threads at once."""

    def __init__(self, network: Network) -> None:
        """
        Raises:
            ModelError: the network's tensors are not those of a YOLO segmentation network, or it cannot be run to see
                them; it is closed then.
        """
        self._network = network
        self.device = network.device
        self.description = network.description
        try:
            spec = spec_of_network(network)
            # An engine may compute in less than the file holds: OpenVINO in BF16 where the processor can.
            self.spec: ModelSpec = replace(spec, precision=network.description.get("precision", spec.precision))
        except BaseException:
            network.close()
            raise

    def run(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """See `Engine.run`."""
        spec = self.spec
        expected = (spec.batch, 3, *spec.size_hw)
        fits = len(images.shape) == 4 and all(
            want in (None, have) for want, have in zip(expected, images.shape, strict=True)
        )
        if not fits or not images.size or images.shape[2] % spec.stride or images.shape[3] % spec.stride:
            shape = ", ".join("any" if side is None else str(side) for side in expected)
            raise ParameterError(
                f"network input is {images.shape}, the model takes ({shape}) with H and W multiples of {spec.stride}; "
                "set imgsz to fit, or export the model with --dynamic"
            )
        feed = {spec.input: images.astype(spec.input_dtype, copy=False)}
        if spec.layout != "split":
            detections, prototypes = self._network.run(feed, [spec.detections, spec.prototypes])
            counts = {}
        else:
            count, *columns, prototypes = self._network.run(feed, [COUNT_OUTPUT, *SPLIT_OUTPUTS, spec.prototypes])
            with as_model_error(self._network.name, "its outputs do not belong together"):
                detections = _rows(*columns)
            counts = {COUNT_OUTPUT: count}
        check_outputs(detections, prototypes, spec, images.shape, self._network.name)
        return {"detections": detections, "prototypes": prototypes, **counts}

    def close(self) -> None:
        """Free the network."""
        self._network.close()

    def __enter__(self) -> SegmentationEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rows(
    boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], coefficients: NDArray[Any]
) -> NDArray[np.float32]:
    """The outputs of the layout "split" as the rows of "nms": (b, max_det, 6 + mask_dim) float32."""
    return np.concatenate((boxes, scores[..., None], classes[..., None], coefficients), axis=2, dtype=np.float32)
