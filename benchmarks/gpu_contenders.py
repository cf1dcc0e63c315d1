"""What gpu_pipeline.py times: the network alone, the pipeline in several ways, its stages, and ultralytics."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from fastsam_deploy.runtime.cuda import stages as stages_module
from fastsam_deploy.runtime.cuda.download import Downloads
from fastsam_deploy.runtime.cuda.driver.graphs import Graph
from fastsam_deploy.runtime.cuda.driver.stream import Event, Stream
from fastsam_deploy.runtime.cuda.network import DeviceNetwork
from fastsam_deploy.runtime.cuda.stages import Stages
from fastsam_deploy.runtime.errors import MissingDependencyError
from fastsam_deploy.runtime.stages.image import load_image
from fastsam_deploy.runtime.stages.letterbox import fit_model
from fastsam_deploy.runtime.stages.reading.nvimagecodec import JpegDecoder
from fastsam_deploy.runtime.trt import TRTFastSAM

IN_A_ROW = 16
"""Images of a stream or a batch; the time is that of one of them."""

Contender = Callable[[], float]
"""Runs once; milliseconds an image."""


class Bare:
    """The network alone, on an input that lies on the device: replayed as a graph where it can be, timed by events.

    In a clone of the network, which is closed with it.
    """

    def __init__(self, network: DeviceNetwork, model: TRTFastSAM, image: np.ndarray) -> None:
        self._device = device = network.cuda_device
        with ExitStack() as stack:
            self._network = network.clone()
            stack.callback(self._network.close)
            name = model.spec.input
            input_hw = fit_model((image.shape[0], image.shape[1]), model.spec, model.imgsz).input_hw
            self._inputs = {name: (1, 3, *input_hw)}
            shapes = {**self._inputs, **self._network.output_shapes(self._inputs)}
            kinds = {info.name: np.dtype(info.dtype) for info in (*network.inputs, *network.outputs)}
            memory = {key: device.memory(prod(shape) * kinds[key].itemsize) for key, shape in shapes.items()}
            for piece in memory.values():
                stack.callback(piece.free)
            self._pointers = {key: piece.pointer for key, piece in memory.items()}
            self._stream = self._network.stream or device.stream()
            if self._network.stream is None:
                stack.callback(self._stream.close)
            self._stream.fill(memory[name], 0, memory[name].nbytes)
            with device.active():
                self._enqueue()  # libraries prepare themselves, which a capture does not allow
                self._stream.synchronize()
                self._graph = Graph.capture(self._stream, self._enqueue) if self._network.capturable else None
            if self._graph is not None:
                stack.callback(self._graph.close)
            self._owned = stack.pop_all()

    def __call__(self) -> float:
        with self._device.active():
            start = self._stream.record()
            if self._graph is None:
                self._enqueue()
            else:
                self._graph.launch(self._stream)
            end = self._stream.record()
            self._stream.synchronize()
            return end.milliseconds_since(start)

    def close(self) -> None:
        """Free all of it."""
        self._stream.synchronize()
        self._owned.close()

    def _enqueue(self) -> None:
        self._network.enqueue(self._pointers, self._inputs, self._stream.handle)


def ways(model: TRTFastSAM, image: np.ndarray, file: Path) -> dict[str, Contender]:
    """The pipeline on arrays and on a JPEG file: one image, a batch, a stream."""
    arrays, files = [image] * IN_A_ROW, [file] * IN_A_ROW

    def stream(sources: Sequence[Any]) -> int:
        return sum(len(item.result()) for item in model.segment_stream(sources, copy_images=False))

    return {
        "single": timed(lambda: model.segment(image)),
        "batch": timed(lambda: model.segment_batch(arrays), IN_A_ROW),
        "stream": timed(lambda: stream(arrays), IN_A_ROW),
        "JPEG single": timed(lambda: model.segment(file)),
        "JPEG stream": timed(lambda: stream(files), IN_A_ROW),
        "decoding": timed(lambda: load_image(file)),
    }


def jpeg_decoder(number: int | None) -> JpegDecoder | None:
    """nvImageCodec on a GPU (None: on the CPU); None where it is not installed."""
    try:
        return JpegDecoder(number)
    except MissingDependencyError:
        return None


def timed(run: Callable[[], Any], images: int = 1) -> Contender:
    """Something that gives its answer in the host's memory, with the time on the clock."""

    def once() -> float:
        start = perf_counter()
        run()
        return (perf_counter() - start) * 1000 / images

    return once


def stage_times(model: TRTFastSAM, image: np.ndarray, runs: int) -> dict[str, list[float]]:
    """Stage → milliseconds on the device in each run. Kernel by kernel: `model` must have no graphs."""
    times: dict[str, list[float]] = {}
    with _marked() as marks:
        for _ in range(runs):
            del marks[:]
            model.segment(image)
            for name, start, end in marks:
                times.setdefault(name, []).append(end.milliseconds_since(start))
    return times


@contextmanager
def _marked() -> Iterator[list[tuple[str, Event, Event]]]:
    """Have every stage put events around itself into its stream."""
    marks: list[tuple[str, Event, Event]] = []
    launchers = stages_module.launchers

    def mark(owner: Any, attribute: str, name: str, stream_of: Callable[..., Stream]) -> None:
        real = getattr(owner, attribute)

        def around(*arguments: Any) -> Any:
            stream = stream_of(*arguments)
            start = stream.record()
            result = real(*arguments)
            marks.append((name, start, stream.record()))
            stream.synchronize()  # so that the events have come; this is not how the whole is timed
            return result

        setattr(owner, attribute, around)
        restore.callback(setattr, owner, attribute, real)

    with ExitStack() as restore:
        mark(Stages, "_upload", "upload", lambda stages, run: run.slot.stream)
        mark(Downloads, "answer", "download", lambda downloads, run: run.slot.stream)
        mark(Stages, "_run_network", "network", lambda stages, run, pointers: stages.stream)
        for name in ("letterbox", "decode", "assemble"):
            mark(launchers, name, {"assemble": "masks"}.get(name, name), lambda *arguments: arguments[-1])
        yield marks


def ultralytics(arguments: argparse.Namespace, checkpoint: Path, precision: str) -> Callable[[np.ndarray], Contender]:
    """Image → ultralytics on it, in the same precision: half in FP16 and INT8, TF32 only where ours computes in it."""
    import torch
    import ultralytics

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    model = ultralytics.FastSAM(str(checkpoint))
    number = arguments.device.partition(":")[2] or "0"
    settings = {"imgsz": arguments.imgsz, "conf": arguments.conf, "iou": 0.9, "verbose": False}
    settings |= {"half": precision in ("fp16", "int8"), "device": f"cuda:{number}", "retina_masks": True}

    def prepared(image: np.ndarray) -> Contender:
        bgr = np.ascontiguousarray(image[..., ::-1])

        def run() -> None:
            masks = model(bgr, **settings)[0].masks
            if masks is not None:
                masks.data.cpu().numpy()  # ours are in the host's memory too

        return timed(run)

    return prepared
