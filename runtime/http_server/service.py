"""What a server does with a request, without HTTP: decode, segment in a batch, answer prompts, keep."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..pipeline import FastSAM
from ..segments import Segments
from ..settings import Thresholds
from .admission import Admission, Deadline, Slots
from .answers import Answer, answer_of
from .batcher import Batcher
from .cache import SegmentsCache
from .decoding import Decoders
from .peers import Peers
from .refusals import UnknownImageError
from .requests import SegmentRequest, SelectRequest
from .settings import ServeSettings
from .urls import ImageFetcher

_DECODED_PER_BATCH = 2
"""Decoded images for each image of a batch: the next batch is read while one is in the network."""


class Observer(Protocol):
    """Who wants to know what happens, such as metrics.

    Example:
        >>> observer: Observer = NoObserver()
        >>> observer.batch(3)
    """

    def batch(self, images: int) -> None:
        """So many images go through the network together."""

    def segmented(self, segments: Segments) -> None:
        """An image was segmented; `timing_ms` has its stages."""

    def looked_up(self, found: bool) -> None:
        """A prompt came for a kept image."""


class NoObserver:
    """Nobody wants to know.

    Example:
        >>> NoObserver().looked_up(True)
    """

    def batch(self, images: int) -> None:
        """See `Observer`."""

    def segmented(self, segments: Segments) -> None:
        """See `Observer`."""

    def looked_up(self, found: bool) -> None:
        """See `Observer`."""


class Service:
    """Answers requests with one open model. Its methods block, and are called from as many threads as there are
    requests.

    Attributes:
        segmenting: limit of requests to segment, to be entered before `segment` is called.
        selecting: limit of prompts on kept images, to be entered before `select` is called.
        cache: the segmented images that are kept.

    Example:
        >>> with Service(FastSAM(), ServeSettings()) as service:  # doctest: +SKIP
        ...     answer = service.segment({"image": text_in_base64}, Deadline(60))
    """

    def __init__(
        self,
        model: FastSAM,
        settings: ServeSettings,
        observer: Observer | None = None,
        peers: Peers | None = None,
    ) -> None:
        """
        Args:
            model: open; it is not closed with the service.
            settings: limits, batches and the cache.
            observer: None for nobody.
            peers: other processes of this server, which keep images too.
        """
        self._model, self._settings, self._peers = model, settings, peers
        self._observer: Observer = NoObserver() if observer is None else observer
        self.segmenting, self.selecting = Admission(settings.queue), Admission(settings.queue)
        prefix = "" if peers is None else peers.prefix
        self.cache = SegmentsCache(settings.cache_images, settings.cache_bytes, prefix)
        self._decoded = Slots(_DECODED_PER_BATCH * settings.max_batch * settings.parallel)
        self._answering = Slots(settings.decoders)
        limits = settings.limits
        self._fetcher = ImageFetcher(settings.origins, most_bytes=limits.image_bytes, seconds=settings.url_s)
        with ExitStack() as stack:
            self._decoders = stack.enter_context(Decoders(settings.decoders, settings.decode_s, limits))
            self._batcher = stack.enter_context(
                Batcher(
                    self._segment_batch,
                    max_batch=settings.max_batch,
                    max_delay_s=settings.max_delay_s,
                    threads=settings.parallel,
                    observe=self._observer.batch,
                )
            )
            self._owned = stack.pop_all()

    @property
    def waiting(self) -> int:
        """Images that are decoded and wait for the network."""
        return self._batcher.waiting

    def warm_up(self) -> None:
        """Segment an image without content, so that the first request finds the network ready."""
        side = self._model.imgsz
        self._model.segment(np.zeros((side, side, 3), np.uint8))

    def segment(self, values: Any, deadline: Deadline) -> Answer:
        """Segment the image of a request, and answer its prompts.

        Args:
            values: see `SegmentRequest.from_values`.
            deadline: of the request.

        Raises:
            ImageError, ParameterError, PromptError: the request is wrong.
            LateError: there is no answer in time.
            FastSamError: the model failed.
        """
        request = SegmentRequest.from_values(values, self._settings.limits, self._model.thresholds)
        everything = self._everything(request, deadline)
        self._observer.segmented(everything)
        # Prompts come first: a request that is refused leaves nothing.
        with self._answering.taken(deadline):
            chosen = request.question.select_from(everything, self._settings.limits)
            name = self.cache.add(everything) if request.keep else None
            return answer_of(chosen, request.form, name, self._settings.limits.answer_bytes)

    def select(self, values: Any, deadline: Deadline) -> Answer:
        """Answer prompts on an image that was segmented before. The network does not run.

        Args:
            values: see `SelectRequest.from_values`.
            deadline: of the request.

        Raises:
            UnknownImageError: the image is not kept any more.
            ParameterError, PromptError: the request is wrong.
            LateError: there is no answer in time.
        """
        request = SelectRequest.from_values(values, self._settings.limits)
        if self._peers is not None and not self._peers.is_mine(request.id):
            return self._peers.select(request.id, values, deadline)
        try:
            everything = self.cache.get(request.id)
        except UnknownImageError:
            self._observer.looked_up(False)
            raise
        self._observer.looked_up(True)
        with self._answering.taken(deadline):
            chosen = replace(request.question.select_from(everything, self._settings.limits), timing_ms={})
            return answer_of(chosen, request.form, request.id, self._settings.limits.answer_bytes)

    def close(self) -> None:
        """Answer what waits, and end the threads and the processes that decode."""
        self._owned.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _everything(self, request: SegmentRequest, deadline: Deadline) -> Segments:
        """All segments of the image. Places are limited, as a decoded image takes up to 150 MB."""
        content = self._fetcher.fetch(request.url or "", deadline) if request.content is None else request.content
        with self._decoded.taken(deadline):
            start = perf_counter()
            pixels = self._decoders.load(content, deadline)
            load_ms = (perf_counter() - start) * 1000
            height, width = pixels.shape[:2]
            request.question.check_inside((height, width))
            segments = self._batcher.segment(pixels, request.question.thresholds, deadline)
        return replace(segments, timing_ms={**segments.timing_ms, "load": load_ms})

    def _segment_batch(self, images: Sequence[NDArray[np.uint8]], thresholds: Sequence[Thresholds]) -> list[Segments]:
        return self._model.segment_batch(images, thresholds=thresholds)
