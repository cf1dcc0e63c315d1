"""A network for the tests of the device pipeline that can be captured, and the outputs that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.cuda.driver.stream import Stream
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.network import TensorInfo
from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec
from fastsam_deploy.runtime.stages.letterbox import fit_model, letterbox

Shape = tuple[int, ...]


class RecordedNetwork:
    """Outputs that a real network gave for one image, copied on the device at each run: so it can be captured.

    What comes before and after the network runs as ever, and what is wrong with it shows.
    """

    capturable = True
    stream = None
    name = "recorded.onnx"

    def __init__(self, device: Device, spec: ModelSpec, input_hw: tuple[int, int], outputs: dict[str, np.ndarray]):
        """
        Args:
            outputs: by name, each (1, …).
        """
        self.cuda_device = device
        self.device = f"cuda:{device.number}"
        self.description = {"engine": "recorded"}
        self.metadata = {METADATA_KEY: spec.to_json()}
        self.inputs = (TensorInfo(spec.input, "float32", (None, 3, *input_hw)),)
        self.outputs = tuple(
            TensorInfo(name, str(values.dtype), (None, *values.shape[1:])) for name, values in outputs.items()
        )
        self.enqueued = 0
        self.forgotten: list[Shape] = []
        self._outputs = outputs
        self._memory = {name: device.memory(values.nbytes) for name, values in outputs.items()}
        self._streams: dict[int, Stream] = {}
        stream = device.stream()
        for name, values in outputs.items():
            stream.copy_in(self._memory[name], np.ascontiguousarray(values))
        stream.close()

    def on(self, stream: Stream) -> None:
        """Streams come as handles; this is one of them."""
        self._streams[stream.handle] = stream

    def largest_batch(self, input_hw: tuple[int, int]) -> int | None:
        return None

    def output_shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        (shape,) = inputs.values()
        return {name: (shape[0], *values.shape[1:]) for name, values in self._outputs.items()}

    def enqueue(self, pointers: Mapping[str, int], inputs: Mapping[str, Shape], stream: int) -> None:
        self.enqueued += 1
        (shape,) = inputs.values()
        for name, values in self._outputs.items():
            for row in range(shape[0]):
                to = pointers[name] + row * values.nbytes
                self._streams[stream].copy(to, self._memory[name], values.nbytes)

    def forget(self, inputs: Mapping[str, Shape]) -> None:
        (shape,) = inputs.values()
        self.forgotten.append(shape)

    def clone(self) -> RecordedNetwork:
        raise NotImplementedError

    def close(self) -> None:
        for memory in self._memory.values():
            memory.free()


def raw_outputs(onnx: Path, image: np.ndarray, imgsz: int) -> tuple[ModelSpec, tuple[int, int], dict[str, Any]]:
    """What the network of a file gives for one image: spec, (H, W) of its input, output → (1, …)."""
    with open_engine(onnx) as engine:
        place = fit_model(image.shape[:2], engine.spec, imgsz)
        raw = engine.run(letterbox(image, place)[None])
        spec = engine.spec
        return spec, place.input_hw, {spec.detections: raw["detections"], spec.prototypes: raw["prototypes"]}
