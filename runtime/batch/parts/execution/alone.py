"""Images one by one in a child process: one that ends the child becomes a row with an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from time import monotonic
from typing import Any

from ....errors import FastSamError
from ....pipeline import FastSAM
from ....stages.image import ImageLoader
from ..job import Job
from ..output.listing import Chunk
from ..output.schema import Row, row_of_error
from ..sources.image import SourceImage
from .process import ChildProcess, Message
from .rows import open_for, rows_of
from .watchdog import time_limit

_SERVE = f"{__name__}:serve"

_TRIES = 2
"""An image that ends its process so often, alone, is a dead letter: once may be chance, such as a lack of memory."""

_STARTS = 3


def rows_alone(job: Job, chunk: Chunk, threads: int | None) -> Iterator[Row]:
    """A row for each image, in their order.

    Args:
        job: of the run.
        chunk: its images.
        threads: of the network.

    Raises:
        FastSamError: not an image but the model, a server or an object store is at fault.

    Example:
        >>> [row["error"] for row in rows_alone(job, chunk, 1)]  # doctest: +SKIP
        [None, 'a.jpg: ends the process that segments it (SIGSEGV), twice when it is alone; examine the file']
    """
    with closing(_Child(job, threads)) as child:
        for image in chunk.images:
            yield child.row(image)


class _Child:
    """A process with an open model, and another one whenever it has ended."""

    def __init__(self, job: Job, threads: int | None) -> None:
        self._job, self._threads = job, threads
        self._process: ChildProcess | None = None
        self._answers: Iterator[Message] = iter(())

    def row(self, image: SourceImage) -> Row:
        """The row of an image. Raises FastSamError as `rows_alone` does."""
        for attempt in range(1, _TRIES + 1):
            process = self._opened()
            start = monotonic()
            process.send({"image": _plain(image)})
            answer = next(self._answers, None)
            if answer is not None:
                return _checked(answer)["row"]  # type: ignore[no-any-return]
            how, seconds = process.how_it_ended(), monotonic() - start
            self.close()
            if attempt == _TRIES or seconds >= self._job.image_s:
                break
        return _row_of_death(self._job, image, how, seconds)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _opened(self) -> ChildProcess:
        """The process, with its model open: if it ends before any image, no image is to blame."""
        if self._process is not None:
            return self._process
        for _ in range(_STARTS):
            self._process = ChildProcess(_SERVE, self._job, self._threads)
            self._answers = self._process.messages()
            answer = next(self._answers, None)
            if answer is not None:
                _checked(answer)
                return self._process
            how = self._process.how_it_ended()
            self.close()
        raise FastSamError(
            f"a process for single images has ended {_STARTS} times before it had an image ({how}); expected it to "
            "open the model; look for what ends it, such as a limit on memory, and run the same command again"
        )


def _checked(answer: Message) -> Message:
    if "refused" in answer:
        raise FastSamError(answer["refused"])
    return answer


def _row_of_death(job: Job, image: SourceImage, how: str, seconds: float) -> Row:
    asked = job.prompts if image.prompts is None else image.prompts
    if seconds >= job.image_s:
        kind, message = "TimeLimit", f"takes more than {job.image_s:g} s"
    else:
        kind, message = "ProcessEnded", f"ends the process that segments it ({how}), twice when it is alone"
    return row_of_error(image, None, kind, f"{image.location}: {message}; examine the file", asked)


def _row(model: FastSAM, job: Job, image: SourceImage, loader: ImageLoader | None) -> Row:
    """A row of one image, whatever a library raises about it. Raises FastSamError as `rows_of` does."""
    try:
        (row,) = rows_of(model, job, [image], loader)
    except FastSamError:
        raise
    except Exception as error:  # noqa: BLE001 - in a stream it has ended a worker already
        asked = job.prompts if image.prompts is None else image.prompts
        return row_of_error(image, None, type(error).__name__, f"{image.location}: {error}; examine the file", asked)
    return row


def _plain(image: SourceImage) -> dict[str, Any]:
    return {name: getattr(image, name) for name in SourceImage.__slots__}


def serve(job: Job, threads: int | None, requests: Iterator[Message], answer: Callable[[Message], None]) -> None:
    """The child's side.

    Example:
        >>> ChildProcess(f"{__name__}:serve", job, threads=1)  # doctest: +SKIP
    """
    with ExitStack() as stack:
        try:
            model, loader = open_for(job, threads, stack)
            answer({"opened": True})
            for request in requests:
                with time_limit(job.image_s):
                    row = _row(model, job, SourceImage(**request["image"]), loader)
                answer({"row": row})
        except FastSamError as error:
            answer({"refused": str(error)})
