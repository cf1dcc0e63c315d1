"""Many images one after the other, several under way at once: results in their order, an error for each item."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError, ParameterError
from ..segments import Segments
from ..stages.image import ImageSource, image_copy

Item = TypeVar("Item")
Result = TypeVar("Result")

_Taken = tuple[int, ImageSource, ImageSource | FastSamError]
"""Its place, what was given, and what is segmented."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamItem:
    """What became of one image of a stream. Either `segments` or `error` is None.

    Attributes:
        index: its place in the stream, from 0.
        source: what was given. An array is the caller's, not the copy that was segmented: if it is a buffer that is
            used again, it holds a later picture by now. `image` does not.
        image: (h, w, 3) uint8 RGB, where the stream keeps images and this one could be read.
    """

    index: int
    source: ImageSource
    segments: Segments | None = None
    error: FastSamError | None = None
    image: NDArray[np.uint8] | None = None

    def result(self) -> Segments:
        """The segments; raises the error where there is one."""
        if self.segments is None:
            raise self.error or AssertionError("a stream item has segments or an error")
        return self.segments


class SegmentOne(Protocol):
    """Segments of one image, and the image where it is to be kept; called from many threads at once."""

    def __call__(self, source: ImageSource) -> tuple[Segments, NDArray[np.uint8] | None]: ...


def segment_stream(
    images: Iterable[ImageSource], segment: SegmentOne, workers: int, prefetch: int, copy_images: bool = True
) -> Generator[StreamItem, None, None]:
    """See `FastSAM.segment_stream`.

    Args:
        workers: images under way at once.
        prefetch: images held at once.
        copy_images: whether `images` may change an image after it has given it; it is then copied.

    Raises:
        ParameterError: prefetch is below 1.
    """
    if isinstance(prefetch, bool) or int(prefetch) != prefetch or prefetch < 1:
        raise ParameterError(f"prefetch is {prefetch}, expected a whole number of 1 or more, or None")

    def segment_item(item: _Taken) -> StreamItem:
        index, source, kept = item
        if isinstance(kept, FastSamError):
            return StreamItem(index, source, error=kept)
        try:
            segments, image = segment(kept)
        except FastSamError as error:
            return StreamItem(index, source, error=error)
        return StreamItem(index, source, segments, image=image)

    return in_order(segment_item, _taken(images, copy_images), min(workers, prefetch), prefetch)


def _taken(images: Iterable[ImageSource], copy_images: bool) -> Iterator[_Taken]:
    """Each image, copied before the next is asked for: cameras and video readers use one buffer for all frames."""
    for index, source in enumerate(images):
        try:
            kept = image_copy(source) if copy_images else source
        except FastSamError as error:
            yield index, source, error
        else:
            yield index, source, kept


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Generator[Result, None, None]:
    """`work` of each item in their order; threads work on those to come while the reader has the last one.

    `items` is read in the reader's thread, when a result is asked for; no more than `ahead` items and results are in
    memory, that of the reader included. An error of `items` comes after the results before it, an error of `work` in
    its result's place; either ends the threads, and so does a reader that stops early.
    """
    source, failure, more = iter(items), None, True
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, "fastsam-stream")
    try:
        while True:
            while more and len(waiting) < ahead:
                try:
                    waiting.append(pool.submit(work, next(source)))
                except StopIteration:
                    more = False
                except Exception as error:  # noqa: BLE001 - told to the reader, in its turn
                    more, failure = False, error
            if not waiting:
                break
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)
