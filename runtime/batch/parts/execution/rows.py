"""Images as rows: the bytes of each are read, hashed and segmented, several at once."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing

from ....errors import FastSamError, ImageError, ParameterError, PromptError
from ....pipeline import FastSAM
from ....segmenters.stream import PromptedImage
from ....stages.image import ImageFile, ImageLoader
from ..job import Job
from ..output.schema import Row, row_of_error, row_of_segments
from ..sources.content import contents
from ..sources.image import SourceImage

FAULTS_OF_IMAGES = (ImageError, PromptError)
"""Errors that belong to an image. Others belong to the run: it ends, and goes on when they are mended."""


class NamedBytes(io.BytesIO):
    """The bytes of an image, with the name that messages have for it.

    Example:
        >>> NamedBytes(b"", "photos/cat.jpg").name
        'photos/cat.jpg'
    """

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def open_for(job: Job, threads: int | None, stack: ExitStack) -> tuple[FastSAM, ImageLoader | None]:
    """The model of a job and what reads its files; the stack closes both.

    Raises:
        FastSamError: the model cannot be opened.

    Example:
        >>> with ExitStack() as stack:  # doctest: +SKIP
        ...     model, loader = open_for(Job("out"), 1, stack)
    """
    if threads is not None:
        import cv2

        cv2.setNumThreads(threads)
    model = stack.enter_context(job.open_model(threads))
    if not job.isolate:
        return model, None
    from ....stages.isolated import IsolatedLoader

    return model, stack.enter_context(IsolatedLoader())


def rows_of(
    model: FastSAM, job: Job, images: Sequence[SourceImage], loader: ImageLoader | None
) -> Generator[Row, None, None]:
    """A row for each image, in their order. A bad image has an error and does not stop the others.

    Args:
        model: open.
        job: what to do with each image.
        images: are read ahead while the network works on earlier ones.
        loader: reads the files; None for the usual way.

    Raises:
        FastSamError: not an image but the model, a server or an object store is at fault.

    Example:
        >>> [row["id"] for row in rows_of(model, job, chunk.images, None)]  # doctest: +SKIP
        ['cat.jpg', 'coffee.jpg']
    """
    failed: deque[tuple[int, Row]] = deque()  # rows of images that the stream does not see, with their positions
    streamed: deque[tuple[SourceImage, str, str | None]] = deque()

    def sources() -> Iterator[PromptedImage]:
        with closing(contents(images)) as read:
            for position, (image, content) in enumerate(read):
                asked = job.prompts if image.prompts is None else image.prompts
                if isinstance(content, ImageError):
                    failed.append((position, _failed_row(image, None, content, asked)))
                    continue
                sha256 = hashlib.sha256(content).hexdigest()
                try:
                    prompt = job.prompt_of(image.prompts)
                except (ParameterError, PromptError) as error:
                    failed.append((position, _failed_row(image, sha256, error, asked)))
                    continue
                streamed.append((image, sha256, asked))
                file = NamedBytes(content, _name_of(image))
                selection = job.selection
                yield PromptedImage(
                    ImageFile(file, selection.page, selection.bands, selection.value_range, loader), prompt
                )

    position = 0
    with closing(model.segment_stream(sources(), copy_images=False, tiles=job.tiles)) as stream:
        for item in stream:
            while failed and failed[0][0] == position:
                yield failed.popleft()[1]
                position += 1
            image, sha256, asked = streamed.popleft()
            if item.segments is not None:
                yield row_of_segments(image, sha256, item.segments, asked)
            elif isinstance(item.error, FAULTS_OF_IMAGES):
                yield _failed_row(image, sha256, item.error, asked)
            else:
                raise item.error or AssertionError("a stream item has segments or an error")
            position += 1
    yield from (row for _, row in failed)


def _name_of(image: SourceImage) -> str:
    return image.location if image.member is None else f"{image.location}/{image.member}"


def _failed_row(image: SourceImage, sha256: str | None, error: FastSamError, prompts: str | None) -> Row:
    return row_of_error(image, sha256, type(error).__name__, str(error), prompts)
