"""Images → segments on a CUDA device: one upload, all stages there, one download of all or the selected masks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip.encoders import Clip
from ..clip.features import MaskFeatures
from ..cuda.driver.device import Device
from ..cuda.driver.process import is_forked
from ..cuda.masks import DeviceAnswer, DeviceMasks, packed_masks, rows_of
from ..cuda.network import DeviceNetwork
from ..cuda.records import boxes_of, refuse_nonfinite
from ..cuda.runs import Answer, Job, Run
from ..cuda.stages import Stages
from ..cuda.tables import Tables, tables_for
from ..engines.tensors import spec_from_tensors, with_known_shapes
from ..errors import ModelError, ParameterError
from ..prompts.base import ask_masks_alone
from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..spec import PROTOTYPE_STRIDE, ModelSpec, imgsz_for
from ..stages.assemble import snap_to_border
from ..stages.decode import class_numbers
from ..stages.image import ImageSource, load_images
from ..stages.letterbox import PADDING_VALUE, fit_model, groups
from ..stages.reading.nvimagecodec import JpegDecoder
from ..system.cpu import usable_cpus

_KEPT_TABLES = 64
"""Image sizes whose tables are kept: a camera has one, a folder of photographs a few."""

_Answers = list[tuple[Segments, dict[str, float]]]
"""Segments of each image of a run, and their `timing_ms`, to which the time of loading is added."""

_LARGEST_BATCH = 16
"""Largest batch for a network that accepts any batch."""
_STREAM_THREADS = 3
"""Threads of a stream at least: one waits for the device, one packs, one reads."""


class DeviceSegmenter:
    """The stages around a network on its CUDA device. Safe to use from many threads.

    The device works on one batch after the other. While it does, the next one is uploaded and the one before is
    downloaded, whichever calls they are of. A `clone` computes at the same time.

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
        decoder: str | None = None,
    ) -> None:
        """
        Args:
            network: open; it must not be used elsewhere.
            imgsz: longest side of the network's input, pixels; None: that of the model.
            rect: the input is the smallest rectangle around the image; False: a square.
            graphs: number of input shapes for which a CUDA graph is kept; 0: no graphs.
            owns_network: close the network with this object.
            clip: for text prompts; it is not closed with this object.
            decoder: see `TRTFastSAM`.

        Raises:
            ModelError: it is not a YOLO segmentation network.
            ParameterError: imgsz does not fit the model.
            DeviceError: the device has not enough memory.
        """
        self._network = network
        self._owns_network = owns_network
        self._clip = clip
        self._settings = {"imgsz": imgsz, "rect": rect, "graphs": graphs, "decoder": decoder}
        self._stages: Stages | None = None
        self._decoder: JpegDecoder | None = None
        self.rect = rect
        try:
            outputs = with_known_shapes(network.inputs, network.outputs, network.output_shapes, network.name)
            spec = spec_from_tensors(network.inputs, outputs, network.metadata, network.name)
            self.spec: ModelSpec = replace(spec, precision=network.description.get("precision", spec.precision))
            self.imgsz = imgsz_for(self.spec, imgsz)
            self._tables = lru_cache(_KEPT_TABLES)(partial(_tables_of_image, self.spec, self.imgsz, rect))
            self._decoder = _opened_decoder(decoder, network.cuda_device)
            with network.cuda_device.active():
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
        loaded = load_images(images, color, self._decoder)
        pixels = [image for image, _ in loaded]
        tables = [self._tables((image.shape[0], image.shape[1])) for image in pixels]
        in_groups = list(groups([table.place for table in tables], self._largest_batch))
        jobs = [self._job(group, pixels, tables, thresholds, prompt is None or not on_device) for group in in_groups]
        results: dict[int, Segments] = {}
        with self._network.cuda_device.active():
            for group, answers in zip(in_groups, self._answers(jobs, prompt if on_device else None), strict=True):
                for i, (segments, timing) in zip(group, answers, strict=True):
                    timing["load"] = loaded[i][1]
                    results[i] = segments
        in_order = [results[i] for i in range(len(images))]
        return in_order if prompt is None or on_device else [_select_on_host(segments, prompt) for segments in in_order]

    def sends_undecoded(self, image: ImageSource) -> bool:
        """See `Segmenter.sends_undecoded`: always False, as images stay in this process."""
        return False

    def for_stream(self) -> tuple[DeviceSegmenter, int]:
        """See `LocalSegmenter.for_stream`: images are read while others are on the device, on all processors."""
        return self, max(_STREAM_THREADS, usable_cpus())

    def warmup(self, shapes: Sequence[tuple[int, int, int]], thresholds: Thresholds) -> None:
        """Run batches of (batch, h, w) until memory, kernels and graphs are ready, also for streams."""
        jobs = []
        for batch, height, width in shapes:
            self._running_stages().make_room(batch * height * width)
            image = np.full((height, width, 3), PADDING_VALUE, np.uint8)
            tables = [self._tables((height, width))] * batch
            for group in groups([table.place for table in tables], self._largest_batch):
                jobs.append(self._job(group, [image] * batch, tables, [thresholds] * batch, with_words=True))
        with self._network.cuda_device.active():
            for _ in range(3):  # launched kernel by kernel, captured as a graph, replayed
                for job in jobs:
                    deque(self._answers([job, job], None), 0)  # one of them in each slot

    def clone(self) -> DeviceSegmenter:
        """A segmenter of the same network for another thread, with its own stream and buffers; see `DeviceNetwork`."""
        settings: dict[str, Any] = {**self._settings, "clip": self._clip}
        return DeviceSegmenter(self._network.clone(), **settings, owns_network=True)

    def close(self) -> None:
        """Free memory and graphs, and close the network, if this object owns it. Waits for calls that are under way."""
        if is_forked():
            return
        with ExitStack() as stack:  # all of them, even if one fails; the stages first
            stages, self._stages = self._stages, None
            if self._owns_network:
                stack.callback(self._network.close)
            if stages is not None:
                stack.callback(stages.close)

    def _running_stages(self) -> Stages:
        stages = self._stages
        if stages is None:
            raise ModelError(f"{self._network.name}: the model is closed; open it again")
        return stages

    def _job(
        self,
        group: Sequence[int],
        images: Sequence[NDArray[np.uint8]],
        tables: Sequence[Tables],
        thresholds: Sequence[Thresholds],
        with_words: bool,
    ) -> Job:
        """One run of the network, for images with the same input shape.

        Args:
            group: numbers of the images.
            with_words: download all masks.
        """
        asked = [thresholds[i] for i in group]
        if self.spec.suppression is not None:
            for limits in asked:
                self.spec.suppression.check(limits)
        chosen = [images[i] for i in group], [tables[i] for i in group]
        return Job(*chosen, asked, self._batch(len(group)), with_words)

    def _answers(self, jobs: Sequence[Job], prompt: Prompt | Sequence[Prompt] | None) -> Iterator[_Answers]:
        """Segments of each job: the next one is begun before the answer of the one before is waited for.

        A caller that has a run under way never waits for a slot: two such callers would wait for each other.

        Args:
            prompt: answered on the device.
        """
        stages = self._running_stages()
        begun: deque[tuple[float, Run]] = deque()
        try:
            for job in jobs:
                start = perf_counter()
                run = stages.begin_beside(job) if begun else None
                if run is None and begun:
                    yield self._answered(stages, *begun.popleft(), prompt)
                begun.append((start, run or stages.begin(job)))
                if len(begun) > 1:
                    yield self._answered(stages, *begun.popleft(), prompt)
            while begun:
                yield self._answered(stages, *begun.popleft(), prompt)
        finally:
            for _, run in begun:
                stages.abandon(run)

    def _answered(self, stages: Stages, start: float, run: Run, prompt: Prompt | Sequence[Prompt] | None) -> _Answers:
        """Wait for a run. Where no prompt needs the masks on the device, its slot is free before they are looked at."""
        if run.job.with_words:
            try:
                answer = stages.finish(run)
            finally:
                stages.release(run)
            return self._results(stages, start, run, answer, prompt)
        try:
            return self._results(stages, start, run, stages.finish(run), prompt)
        finally:
            stages.release(run)

    def _results(
        self, stages: Stages, start: float, run: Run, answer: Answer, prompt: Prompt | Sequence[Prompt] | None
    ) -> _Answers:
        job = run.job
        device_ms = (perf_counter() - start) * 1000 / len(job.images)
        results = []
        for row in range(len(job.images)):
            start = perf_counter()
            timing = {"load": 0.0, "device": device_ms}
            segments = self._segments(stages, run, answer, row, timing)
            if self._clip is not None:
                segments = replace(segments, features=MaskFeatures(job.images[row], self._clip))
            if prompt is not None:
                segments = segments.select(prompt)
            if not job.with_words:
                segments = replace(segments, masks=segments.masks.in_host_memory())
            timing["prompt"] = (perf_counter() - start) * 1000
            results.append((segments, timing))
        return results

    def _segments(self, stages: Stages, run: Run, answer: Answer, row: int, timing: dict[str, float]) -> Segments:
        """The segments of one image; their masks are where the job wants them."""
        refuse_nonfinite(int(answer.summaries["flags"][row]))
        rows, numbers = rows_of(answer.detections[row], int(answer.summaries["kept"][row]))
        image_hw = run.job.tables[row].place.image_hw
        masks = (
            packed_masks(image_hw, rows, answer.words, len(run.job.images))
            if answer.words is not None
            else DeviceMasks(image_hw, _on_device(stages, run, answer, row), rows, numbers)
        )
        boxes = snap_to_border(boxes_of(rows), image_hw)
        scores, classes = rows["score"].astype(np.float32), class_numbers(rows["class_id"])
        return Segments.unprompted(boxes, scores, classes, masks, self.spec.class_names, timing)

    def _largest_batch(self, input_hw: tuple[int, int]) -> int:
        return self.spec.batch or self._network.largest_batch(input_hw) or _LARGEST_BATCH

    def _batch(self, count: int) -> int:
        """Rows of the network's input: a model of fixed batch always runs a full batch."""
        return self.spec.batch or count


def _opened_decoder(name: str | None, device: Device) -> JpegDecoder | None:
    if name not in (None, "nvimagecodec"):
        raise ParameterError(f"decoder is {name!r}, expected 'nvimagecodec', or None for the usual one")
    return JpegDecoder(device.number) if name else None


def _tables_of_image(spec: ModelSpec, imgsz: int, rect: bool, image_hw: tuple[int, int]) -> Tables:
    place = fit_model(image_hw, spec, imgsz, rect)
    height, width = place.input_hw
    return tables_for(place, (height // PROTOTYPE_STRIDE, width // PROTOTYPE_STRIDE))


def _on_device(stages: Stages, run: Run, answer: Answer, row: int) -> DeviceAnswer:
    return DeviceAnswer(
        stages.kernels,
        run.slot.stream,
        run.slot.questions,
        answer.detections_at + row * run.sizes["detections"] // run.shapes.batch,
        answer.words_at,
        lambda parts: stages.words(run, parts),
    )


def _select_on_host(segments: Segments, prompt: Prompt | Sequence[Prompt]) -> Segments:
    """The segments that the prompt selects, with the time that this took."""
    start = perf_counter()
    selected = segments.select(prompt)
    ms = (perf_counter() - start) * 1000
    return replace(selected, timing_ms={**segments.timing_ms, "prompt": segments.timing_ms["prompt"] + ms})
