"""Streams of images: several are in progress at once, results keep their order, and each bad image has an error."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError, ParameterError
from ..segments import Prompt, Segments
from ..stages.image import ImageSource, image_copy

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class PromptedImage:
    """An image of a stream with a prompt of its own.

    Attributes:
        image: see `load_image`.
        prompt: selects its segments; None for everything.

    Example:
        >>> PromptedImage("photo.jpg").prompt is None
        True
    """

    image: ImageSource
    prompt: Prompt | Sequence[Prompt] | None = None


StreamSource = ImageSource | PromptedImage
"""What a stream is made of."""

_StreamInput = tuple[int, ImageSource, StreamSource | FastSamError]
"""Position in the stream, source, and the image to segment or the error of copying it."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamItem:
    """The result for one image of a stream. Either `segments` or `error` is None.

    Attributes:
        index: position in the stream, from 0.
        source: the image, as read from the input of the stream. An array is that of the caller, not the copy that was
            segmented: if its buffer is reused, it may now hold a later picture; `image` does not.
        segments: of the image.
        error: why there are no segments.
        image: (h, w, 3) uint8 RGB, if the stream keeps images and this one could be read.

    Example:
        >>> item = StreamItem(0, "photo.jpg", error=FastSamError("photo.jpg: no such file; check the path"))
        >>> item.source, str(item.error)
        ('photo.jpg', 'photo.jpg: no such file; check the path')
    """

    index: int
    source: ImageSource
    segments: Segments | None = None
    error: FastSamError | None = None
    image: NDArray[np.uint8] | None = None

    def result(self) -> Segments:
        """The segments. Raises the error if there is one."""
        if self.segments is None:
            raise self.error or AssertionError("a stream item has segments or an error")
        return self.segments


class SegmentOne(Protocol):
    """A function that returns the segments of an image, and the image if it is kept. Many threads call it at once.

    Example:
        >>> def segment(source: StreamSource) -> tuple[Segments, None]:
        ...     return model.segment(source), None
    """

    def __call__(self, source: StreamSource) -> tuple[Segments, NDArray[np.uint8] | None]: ...


def segment_stream(
    images: Iterable[StreamSource], segment: SegmentOne, workers: int, prefetch: int, copy_images: bool = True
) -> Generator[StreamItem, None, None]:
    """See `FastSAM.segment_stream`.

    Args:
        images: may be endless.
        segment: called by the threads for each image.
        workers: number of threads.
        prefetch: number of images held at once.
        copy_images: copy images in memory, as `images` may change them later.

    Raises:
        ParameterError: prefetch is below 1.

    Example:
        >>> for item in segment_stream(paths, segment, workers=3, prefetch=4):  # doctest: +SKIP
        ...     print(item.source, item.error or len(item.segments))
    """
    if isinstance(prefetch, bool) or int(prefetch) != prefetch or prefetch < 1:
        raise ParameterError(f"prefetch is {prefetch}, expected a whole number of 1 or more, or None")

    def segment_item(item: _StreamInput) -> StreamItem:
        index, source, kept = item
        if isinstance(kept, FastSamError):
            return StreamItem(index, source, error=kept)
        try:
            segments, image = segment(kept)
        except FastSamError as error:
            return StreamItem(index, source, error=error)
        return StreamItem(index, source, segments, image=image)

    return in_order(segment_item, _inputs(images, copy_images), min(workers, prefetch), prefetch)


def _inputs(images: Iterable[StreamSource], copy_images: bool) -> Iterator[_StreamInput]:
    """Each image, copied before the next one is read: cameras and video readers use one buffer for all frames."""
    for index, source in enumerate(images):
        image = source.image if isinstance(source, PromptedImage) else source
        try:
            kept = _copied(source) if copy_images else source
        except FastSamError as error:
            yield index, image, error
        else:
            yield index, image, kept


def _copied(source: StreamSource) -> StreamSource:
    if isinstance(source, PromptedImage):
        return PromptedImage(image_copy(source.image), source.prompt)
    return image_copy(source)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Generator[Result, None, None]:
    """Apply `work` to each item in several threads, with results in the order of the items.

    `items` is read in the thread of the caller, when a result is requested. At most `ahead` items and results are in
    memory, including the one that the caller has. An error of `items` is raised after the results before it, an error
    of `work` instead of its result. Either ends the threads, and so does a caller that stops early.

    Args:
        work: called in the threads.
        items: may be endless.
        workers: number of threads.
        ahead: largest number of items and results in memory.

    Example:
        >>> list(in_order(str.upper, ["a", "b", "c"], workers=2, ahead=3))
        ['A', 'B', 'C']
    """
    source, failure, more = iter(items), None, True
    process = os.getpid()
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, "fastsam-stream")
    try:
        while True:
            while more and len(waiting) < ahead:
                try:
                    waiting.append(pool.submit(work, next(source)))
                except StopIteration:
                    more = False
                except Exception as error:  # noqa: BLE001 - raised after the results before it
                    more, failure = False, error
            if not waiting:
                break
            yield waiting.popleft().result()
            if os.getpid() != process:
                raise FastSamError(
                    "a stream that was begun before this process was forked has no threads here; expected one of this "
                    "process; begin it in the worker itself"
                )
        if failure is not None:
            raise failure
    finally:
        if os.getpid() == process:  # in a forked child there are no threads to wait for
            pool.shutdown(cancel_futures=True)
