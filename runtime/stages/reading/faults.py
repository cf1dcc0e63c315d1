"""One place where whatever a decoder raises becomes an error of this project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import FastSamError, ImageError

_LONGEST_REASON = 200
"""Characters of a decoder's own message; some of them quote the file."""


@contextmanager
def decoder_faults(name: str, problem: str) -> Iterator[None]:
    """Every exception of a decoder inside the block becomes an `ImageError`; ours pass unchanged.

    Decoders are other people's code reading other people's files: what they raise on damage is not documented and
    changes between versions, so no list of exceptions is complete.

    Args:
        name: what messages call the image.
        problem: what an exception means, such as "JPEG image is damaged or cut short".

    Raises:
        ImageError: the block raised.

    >>> with decoder_faults("photo.avif", "AVIF image is damaged or cut short"):
    ...     raise RuntimeError("Decoding of color planes failed")
    Traceback (most recent call last):
    fastsam_deploy.runtime.errors.ImageError: photo.avif: AVIF image is damaged or cut short (Decoding of color planes \
failed); get it again or convert it to PNG
    """
    try:
        yield
    except FastSamError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name}: there is not enough memory to read it; make the image smaller") from error
    except Exception as error:  # see above
        raise ImageError(f"{name}: {problem} ({_reason(error)}); get it again or convert it to PNG") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
