"""Dynamic batching: images of several requests go through the network together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ..errors import ServerError
from ..segments import Segments
from ..settings import Thresholds
from .admission import Deadline

SegmentBatch = Callable[[Sequence[NDArray[np.uint8]], Sequence[Thresholds]], list[Segments]]
"""Images and the thresholds of each → the segments of each."""


@dataclass(frozen=True, eq=False)
class _Job:
    """An image that waits for its turn."""

    pixels: NDArray[np.uint8]
    thresholds: Thresholds
    deadline: Deadline
    result: Future[Segments] = field(default_factory=Future)
    since: float = field(default_factory=monotonic)


class Batcher:
    """Collects images for a moment and segments them together, in threads of its own.

    A batch starts when it is full, or when its first image has waited long enough. While all threads work, further
    images wait, so that batches grow by themselves under load. If a batch fails, each of its images is tried alone, and
    only the one that is to blame gets the error.

    Example:
        >>> with Batcher(lambda images, _: [Segments.empty(image.shape[:2]) for image in images]) as batcher:
        ...     batcher.segment(np.zeros((4, 6, 3), np.uint8), Thresholds(), Deadline(5)).image_hw
        (4, 6)
    """

    def __init__(
        self,
        segment_batch: SegmentBatch,
        *,
        max_batch: int = 8,
        max_delay_s: float = 0.002,
        threads: int = 1,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        """
        Args:
            segment_batch: called from the threads.
            max_batch: images of a batch.
            max_delay_s: longest wait of an image for others, while a thread is free.
            threads: batches at once.
            observe: called with the number of images of each batch.
        """
        self._segment_batch, self._observe = segment_batch, observe
        self._max_batch, self._max_delay_s = max_batch, max_delay_s
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"fastsam-batch-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Images that wait for a thread."""
        return len(self._waiting)

    def segment(self, pixels: NDArray[np.uint8], thresholds: Thresholds, deadline: Deadline) -> Segments:
        """Segment an image, together with those of other threads that call this.

        Args:
            pixels: (h, w, 3) uint8 RGB; not to be changed meanwhile.
            thresholds: of this image.
            deadline: after which the image is not segmented any more.

        Raises:
            LateError: there is no result in time.
            ServerError: the batcher is closed.
            Exception: that of `segment_batch` for this image.
        """
        left_s = deadline.left_s()
        job = _Job(pixels, thresholds, deadline)
        with self._changed:
            if self._is_closed:
                raise ServerError("the server is shutting down; send it to another server")
            self._waiting.append(job)
            self._changed.notify()
        try:
            return job.result.result(left_s)
        except (FutureTimeoutError, CancelledError):
            job.result.cancel()
            deadline.left_s()  # raises, if it says why
            raise deadline.late() from None

    def close(self) -> None:
        """Segment what waits, and end the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while jobs := self._next_batch():
            running = [job for job in jobs if _starts(job)]
            if running:
                self._run(running)

    def _next_batch(self) -> list[_Job]:
        """The images to segment now; none when the batcher is closed and nothing waits."""
        with self._changed:
            while not (self._waiting and self._is_time()):
                if self._is_closed and not self._waiting:
                    return []
                self._changed.wait(self._wait_s())
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]

    def _is_time(self) -> bool:
        return self._is_closed or len(self._waiting) >= self._max_batch or self._wait_s() == 0

    def _wait_s(self) -> float | None:
        """Until the first image has waited long enough; None without images."""
        if not self._waiting:
            return None
        return max(0.0, self._waiting[0].since + self._max_delay_s - monotonic())

    def _run(self, jobs: Sequence[_Job]) -> None:
        self._observe(len(jobs))
        try:
            results = self._segment_batch([job.pixels for job in jobs], [job.thresholds for job in jobs])
        except Exception as error:  # noqa: BLE001 one image fails the whole batch: only that one gets the error
            if len(jobs) == 1:
                jobs[0].result.set_exception(error)
            else:
                for job in jobs:
                    self._run([job])
        else:
            for job, segments in zip(jobs, results, strict=True):
                job.result.set_result(segments)


def _starts(job: _Job) -> bool:
    """Whether somebody still waits for an image, which cannot be given up from now on."""
    if job.deadline.is_over:
        job.result.cancel()
    return job.result.set_running_or_notify_cancel()
