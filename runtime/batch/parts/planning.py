"""What is left to do: the source is compared with what the output has listed, and what it has listed with its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from ...errors import ImageError, ParameterError
from .job import Description
from .locations import arrow, damaged_parquet
from .output.listing import Listing, write_listing
from .output.plan import FAILED, PARTS, Plan, failed_name, number_of, part_name, read_plan, write_plan
from .output.store import Store
from .sources.content import contents
from .sources.image import SourceImage

CHUNK_IMAGES = 256
"""Images of a chunk, where nothing else was chosen: as many as are done again after a kill, at most."""

_CHUNKS_OF_WORKER = 4
"""A small source is cut into smaller chunks, so that each worker has at least so many."""

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Cut:
    """How a listing is cut into chunks.

    Attributes:
        images: of a chunk; None: 256, or fewer where that would leave workers without work.
        workers: that the source is for.

    Example:
        >>> Cut(None, workers=2).images_of(SourceImage(str(i), "") for i in range(100))[0]
        13
    """

    images: int | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise ParameterError(f"chunk is {self.images}, expected a whole number of 1 or more")

    def images_of(self, listed: Iterable[SourceImage]) -> tuple[int, Iterator[SourceImage]]:
        """The number of images of a chunk, and the images again."""
        rest = iter(listed)
        if self.images is not None:
            return self.images, rest
        chunks = _CHUNKS_OF_WORKER * self.workers
        first = list(islice(rest, CHUNK_IMAGES * chunks))
        return max(1, min(CHUNK_IMAGES, -(-len(first) // chunks))), chain(first, rest)


def planned(
    store: Store,
    source: str,
    listed: Iterable[SourceImage],
    description: Description,
    cut: Cut = Cut(),
) -> Plan:
    """The plan of an output: a new one, or the earlier one with the images that it did not have.

    An image is the same if its id and its content are. Where the fingerprint of an image that is done has changed, its
    content is read and compared with the hash in its part.

    Args:
        store: the output.
        source: as the user gave it.
        listed: its images, read one by one.
        description: of this run.
        cut: how new images become chunks.

    Raises:
        ParameterError: an id appears twice, the content of an image that is done has changed, or the output was made
            with other settings.
        FastSamError: something cannot be read or written.

    Example:
        >>> planned(Store("out"), "photos", source_images("photos"), description).images  # doctest: +SKIP
        1000000
    """
    plan = read_plan(store)
    if plan is None:
        plan = Plan(source, description)
    plan.check_same(description, store.target)
    known = {_digest(image.id): _digest(image.fingerprint) for image in Listing(store, plan).images()}
    changed: list[SourceImage] = []
    new = _new_images(listed, known, changed)
    chunk_images, new = cut.images_of(new)
    first = next(new, None)
    if first is not None:
        generation = write_listing(store, plan.chunks, chunk_images, chain([first], new))
        _refuse_changed(store, changed)
        plan = replace(plan, generations=(*plan.generations, generation))
        write_plan(store, plan)
    else:
        _refuse_changed(store, changed)
    return plan


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _new_images(
    listed: Iterable[SourceImage], known: dict[bytes, bytes], changed: list[SourceImage]
) -> Iterator[SourceImage]:
    """The images that are not known; `changed` gets those whose fingerprint is another one."""
    nothing, seen = _digest(""), set()
    for image in listed:
        key, fingerprint = _digest(image.id), _digest(image.fingerprint)
        if key in seen:
            raise ParameterError(
                f"{image.location}: the id {image.id!r} appears twice in the source; expected one for each image; "
                "repair the table, or give it a column id"
            )
        seen.add(key)
        if key not in known:
            yield image
        elif known[key] != fingerprint and nothing not in (known[key], fingerprint):
            changed.append(image)


def _refuse_changed(store: Store, changed: list[SourceImage]) -> None:
    """Refuse images that are done and whose content is another one now. Raises ParameterError."""
    if not changed:
        return
    hashes = _hashes(store, {image.id for image in changed})
    done = [image for image in changed if image.id in hashes]
    different = [
        image.id
        for image, content in contents(done)
        if isinstance(content, ImageError) or hashlib.sha256(content).hexdigest() != hashes[image.id]
    ]
    if different:
        names = ", ".join(different[:_NAMED]) + (", …" if len(different) > _NAMED else "")
        raise ParameterError(
            f"{store.target}: {len(different)} images have another content than when they were done ({names}); "
            "expected the same under the same id; give changed images other names, or choose another --output"
        )


def _hashes(store: Store, ids: set[str]) -> dict[str, str]:
    """SHA-256 of images that are done without error, by id."""
    hashes = {}
    for file in store.files(PARTS):
        with damaged_parquet(store.place(file.name)):
            table = arrow("pyarrow.parquet").read_table(store.open(file.name), columns=["id", "sha256", "error"])
            for row in table.to_pylist():
                if row["id"] in ids and row["error"] is None:
                    hashes[row["id"]] = row["sha256"]
    return hashes


def done_numbers(store: Store) -> set[int]:
    """Numbers of the chunks whose parts are there.

    Example:
        >>> done_numbers(Store("no-such-folder"))
        set()
    """
    return {number for file in store.files(PARTS) if (number := number_of(file.name)) is not None}


def forget_failed(store: Store) -> int:
    """Remove the parts with failed images, so that their chunks are done again. The number of these chunks.

    Example:
        >>> forget_failed(Store("no-such-folder"))
        0
    """
    numbers = [number for file in store.files(FAILED) if (number := number_of(file.name)) is not None]
    for number in numbers:
        store.remove(part_name(number))
        store.remove(failed_name(number))
    return len(numbers)
