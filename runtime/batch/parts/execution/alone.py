"""Images one by one in a child process: one that ends the child becomes a row with an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
        [None, 'ends its process (SIGSEGV), twice; …']
    """
    child: ChildProcess | None = None
    try:
        for image in chunk.images:
            if child is None:
                child = ChildProcess(_SERVE, job, threads)
                answers = child.messages()
                _opened(next(answers, None), child)
            start = monotonic()
            child.send({"image": _plain(image)})
            answer = next(answers, None)
            if answer is None:
                yield _row_of_death(job, image, child.how_it_ended(), monotonic() - start)
                child.close()
                child = None
            elif "refused" in answer:
                raise FastSamError(answer["refused"])
            else:
                yield answer["row"]
    finally:
        if child is not None:
            child.close()


def _opened(answer: Message | None, child: ChildProcess) -> None:
    """Check that the child has opened the model: if it dies before any image, no image is to blame."""
    if answer is None:
        raise FastSamError(f"a process for single images has ended ({child.how_it_ended()}) before it had an image")
    if "refused" in answer:
        raise FastSamError(answer["refused"])


def _row_of_death(job: Job, image: SourceImage, how: str, seconds: float) -> Row:
    asked = job.prompts if image.prompts is None else image.prompts
    if seconds >= job.image_s:
        kind, message = "TimeLimit", f"takes more than {job.image_s:g} s"
    else:
        kind, message = "ProcessEnded", f"ends the process that segments it ({how}), also alone"
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
