"""Images → segments on a CUDA device: one upload, all stages there, one download of all or the selected masks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip.encoders import Clip
from ..clip.features import MaskFeatures
from ..cuda.masks import DeviceAnswer, DeviceMasks, rows_of
from ..cuda.network import DeviceNetwork
from ..cuda.records import Tables, boxes_of, refuse_nonfinite
from ..cuda.shapes import Shapes
from ..cuda.stages import Answer, Stages
from ..cuda.workspace import Workspace
from ..engines.tensors import spec_from_tensors, with_known_shapes
from ..errors import ModelError
from ..prompts.base import ask_masks_alone
from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..spec import ModelSpec, imgsz_for
from ..stages.assemble import snap_to_border
from ..stages.decode import class_numbers
from ..stages.image import ImageSource, load_images
from ..stages.letterbox import PADDING_VALUE, Letterbox, fit_model, groups

_LARGEST_BATCH = 16
"""Largest batch for a network that accepts any batch."""
_STREAM_THREADS = 3
_KEPT_TABLES = 64
"""Geometries whose tables are kept: a camera has one, a folder of photographs a few."""


class DeviceSegmenter:
    """The stages around a network on its CUDA device. Calls wait for each other; a `clone` runs in parallel.

    Example:
        >>> segmenter = DeviceSegmenter(open_device_network("s.plan", settings), owns_network=True)  # doctest: +SKIP
        >>> segmenter.warmup([(1, 1080, 1920)], Thresholds())  # doctest: +SKIP
    """

    def __init__(
        self,
        network: DeviceNetwork,
        imgsz: int | None = None,
        rect: bool = True,
        *,
        graphs: int = 8,
        owns_network: bool = False,
        clip: Clip | None = None,
    ) -> None:
        """
        Args:
            network: open; it must not be used elsewhere.
            imgsz: longest side of the network's input, pixels; None: that of the model.
            rect: the input is the smallest rectangle around the image; False: a square.
            graphs: number of input shapes for which a CUDA graph is kept; 0: no graphs.
            owns_network: close the network with this object.
            clip: for text prompts; it is not closed with this object.

        Raises:
            ModelError: it is not a YOLO segmentation network.
            ParameterError: imgsz does not fit the model.
            DeviceError: the device has not enough memory.
        """
        self._network = network
        self._owns_network = owns_network
        self._clip = clip
        self._lock = threading.Lock()
        self._tables: OrderedDict[Letterbox, Tables] = OrderedDict()
        self._settings = {"imgsz": imgsz, "rect": rect, "graphs": graphs}
        self._stages: Stages | None = None
        self.rect = rect
        try:
            outputs = with_known_shapes(network.inputs, network.outputs, network.output_shapes, network.name)
            spec = spec_from_tensors(network.inputs, outputs, network.metadata, network.name)
            self.spec: ModelSpec = replace(spec, precision=network.description.get("precision", spec.precision))
            self.imgsz = imgsz_for(self.spec, imgsz)
            with network.cuda_device.active():
                self._questions = Workspace(network.cuda_device)
                self._stages = Stages(network, self.spec, graphs)
        except BaseException:
            self.close()
            raise

    @property
    def device(self) -> str:
        """See `FastSAM.device`."""
        return self._network.device

    @property
    def description(self) -> dict[str, Any]:
        """Description of the network, whether CUDA graphs are used, and the size of the buffers."""
        stages = self._running_stages()
        return {**self._network.description, "cuda_graphs": stages.uses_graphs, "buffers_mb": stages.nbytes / 1e6}

    def segment_batch(
        self,
        images: Sequence[ImageSource],
        prompt: Prompt | Sequence[Prompt] | None,
        thresholds: Sequence[Thresholds],
        color: str,
    ) -> list[Segments]:
        """See `FastSAM.segment_batch`. There is one value of thresholds for each image.

        A prompt that only needs the masks is answered on the device. Any other prompt may take long or call this model
        again: it is answered on the host, while other threads can use the device.
        """
        on_device = ask_masks_alone(prompt)
        loaded = load_images(images, color)
        pixels = [image for image, _ in loaded]
        places = [fit_model((len(p), p.shape[1]), self.spec, self.imgsz, self.rect) for p in pixels]
        results: dict[int, Segments] = {}
        with self._lock, self._network.cuda_device.active():
            for group in groups(places, self._largest_batch):
                answers = self._run(
                    [pixels[i] for i in group],
                    [places[i] for i in group],
                    [thresholds[i] for i in group],
                    prompt if on_device else None,
                )
                for i, segments in zip(group, answers, strict=True):
                    timing = {"load": loaded[i][1], **segments.timing_ms}
                    results[i] = replace(segments, timing_ms=timing)
        in_order = [results[i] for i in range(len(images))]
        return in_order if prompt is None or on_device else [_select_on_host(segments, prompt) for segments in in_order]

    def sends_undecoded(self, image: ImageSource) -> bool:
        """See `Segmenter.sends_undecoded`: always False, as images stay in this process."""
        return False

    def for_stream(self) -> tuple[DeviceSegmenter, int]:
        """See `LocalSegmenter.for_stream`: images are read while others are on the device."""
        return self, _STREAM_THREADS

    def warmup(self, shapes: Sequence[tuple[int, int, int]], thresholds: Thresholds) -> None:
        """Run batches of (batch, h, w) until memory, kernels and graphs are ready."""
        for batch, height, width in shapes:
            image = np.full((height, width, 3), PADDING_VALUE, np.uint8)
            for _ in range(3):  # launched kernel by kernel, captured as a graph, replayed
                self.segment_batch([image] * batch, None, [thresholds] * batch, "RGB")

    def clone(self) -> DeviceSegmenter:
        """A segmenter of the same network for another thread, with its own stream and buffers; see `DeviceNetwork`."""
        settings: dict[str, Any] = {**self._settings, "clip": self._clip}
        return DeviceSegmenter(self._network.clone(), **settings, owns_network=True)

    def close(self) -> None:
        """Free memory and graphs, and close the network, if this object owns it."""
        with self._lock, ExitStack() as stack:  # all of them, even if one fails; the stages first
            stages, self._stages = self._stages, None
            if self._owns_network:
                stack.callback(self._network.close)
            if stages is not None:
                stack.callback(self._questions.close)
                stack.callback(stages.close)

    def _running_stages(self) -> Stages:
        if self._stages is None:
            raise ModelError(f"{self._network.name}: the model is closed; open it again")
        return self._stages

    def _run(
        self,
        images: list[NDArray[np.uint8]],
        places: list[Letterbox],
        thresholds: list[Thresholds],
        prompt: Prompt | Sequence[Prompt] | None,
    ) -> list[Segments]:
        """Run the network once for images with the same input shape.

        Args:
            prompt: answered on the device; None: download all masks.
        """
        stages = self._running_stages()
        if self.spec.suppression is not None:
            for limits in thresholds:
                self.spec.suppression.check(limits)
        start = perf_counter()
        max_det = max(int(limits.max_det) for limits in thresholds)
        shapes = stages.shapes(self._batch(len(images)), places[0].input_hw, max_det)
        tables = [self._tables_of(place, shapes) for place in places]
        answer = stages.run(shapes, images, tables, thresholds, with_words=prompt is None)
        device_ms = (perf_counter() - start) * 1000 / len(images)
        results = []
        for row, place in enumerate(places):
            start = perf_counter()
            segments = self._segments(stages, answer, row, place)
            if self._clip is not None:
                segments = replace(segments, features=MaskFeatures(images[row], self._clip))
            selected = segments if prompt is None else segments.select(prompt)
            selected = replace(selected, masks=selected.masks.in_host_memory())
            timing = {"device": device_ms, "prompt": (perf_counter() - start) * 1000}
            results.append(replace(selected, timing_ms=timing))
        return results

    def _segments(self, stages: Stages, answer: Answer, row: int, place: Letterbox) -> Segments:
        """The segments of one image; their masks are on the device."""
        refuse_nonfinite(int(answer.summaries["flags"][row]))
        rows, numbers = rows_of(answer.detections[row], int(answer.summaries["kept"][row]))
        image_answer = DeviceAnswer(
            stages.kernels,
            stages.stream,
            self._questions,
            answer.detections_at + row * answer.detections[row].nbytes,
            answer.words_at,
            lambda first, count: stages.words(answer, first, count),
        )
        masks = DeviceMasks(place.image_hw, image_answer, rows, numbers)
        boxes = snap_to_border(boxes_of(rows), place.image_hw)
        scores, classes = rows["score"].astype(np.float32), class_numbers(rows["class_id"])
        return Segments.unprompted(boxes, scores, classes, masks, self.spec.class_names)

    def _largest_batch(self, input_hw: tuple[int, int]) -> int:
        return self.spec.batch or self._network.largest_batch(input_hw) or _LARGEST_BATCH

    def _batch(self, count: int) -> int:
        """Rows of the network's input: a model of fixed batch always runs a full batch."""
        return self.spec.batch or count

    def _tables_of(self, place: Letterbox, shapes: Shapes) -> Tables:
        tables = self._tables.pop(place, None) or Tables.of(place, shapes.prototypes_hw)
        self._tables[place] = tables  # the last one used is at the end
        if len(self._tables) > _KEPT_TABLES:
            self._tables.popitem(last=False)
        return tables


def _select_on_host(segments: Segments, prompt: Prompt | Sequence[Prompt]) -> Segments:
    """The segments that the prompt selects, with the time that this took."""
    start = perf_counter()
    selected = segments.select(prompt)
    ms = (perf_counter() - start) * 1000
    return replace(selected, timing_ms={**segments.timing_ms, "prompt": segments.timing_ms["prompt"] + ms})
