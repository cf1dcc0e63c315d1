"""The plan of a run: what is to be done, with which model and settings. It is the one file that is ever replaced."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from .... import __version__
from ....documents import Fields, dump, parse
from ....errors import FastSamError, ParameterError
from ...resume import changed_settings
from ..job import Description
from .schema import FORMAT
from .store import Store

PLAN = "plan.json"
PARTS, FAILED, LISTING = "parts", "failed", "listing"
"""Folders of an output."""

_MOST = 2**62


def part_name(number: int) -> str:
    """Name of the part of a chunk, within the output.

    Example:
        >>> part_name(3)
        'parts/000000003.parquet'
    """
    return f"{PARTS}/{number:09d}.parquet"


def failed_name(number: int) -> str:
    """Name of the dead letters of a chunk, within the output.

    Example:
        >>> failed_name(3)
        'failed/000000003.parquet'
    """
    return f"{FAILED}/{number:09d}.parquet"


def number_of(name: str) -> int | None:
    """The number of a chunk by the name of its part or dead letters; None if it is neither.

    Example:
        >>> number_of("parts/000000003.parquet"), number_of("parts/notes.txt")
        (3, None)
    """
    stem, _, suffix = name.rpartition("/")[2].partition(".")
    return int(stem) if suffix == "parquet" and stem.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Generation:
    """Images that were listed at one time. A first run has one; each later run that sees new images adds one.

    Attributes:
        first_chunk: number of its first chunk.
        images: their number.
        chunk_images: images of a chunk; the last chunk may have fewer.

    Example:
        >>> generation = Generation(first_chunk=4, images=250, chunk_images=100)
        >>> generation.chunks, generation.size_of(6)
        (3, 50)
    """

    first_chunk: int
    images: int
    chunk_images: int

    @property
    def chunks(self) -> int:
        """Number of its chunks."""
        return -(-self.images // self.chunk_images)

    def size_of(self, number: int) -> int:
        """Number of images of one of its chunks."""
        return min(self.chunk_images, self.images - (number - self.first_chunk) * self.chunk_images)


@dataclass(frozen=True)
class Plan:
    """What an output holds when it is complete.

    Attributes:
        source: as the user gave it.
        description: of the model and the settings.
        generations: of images, in the order of their chunks.

    Example:
        >>> plan = Plan("photos", Description("", {}, ("object",)), (Generation(0, 250, 100),))
        >>> plan.images, list(plan.numbers()), plan.size_of(2)
        (250, [0, 1, 2], 50)
    """

    source: str
    description: Description
    generations: tuple[Generation, ...] = ()

    @property
    def images(self) -> int:
        """Number of all images."""
        return sum(generation.images for generation in self.generations)

    @property
    def chunks(self) -> int:
        """Number of all chunks."""
        return sum(generation.chunks for generation in self.generations)

    def numbers(self) -> Iterator[int]:
        """The numbers of all chunks."""
        return iter(range(self.chunks))

    def generation_of(self, number: int) -> Generation:
        """The generation that a chunk belongs to."""
        firsts = [generation.first_chunk for generation in self.generations]
        return self.generations[bisect_right(firsts, number) - 1]

    def size_of(self, number: int) -> int:
        """Number of images of a chunk."""
        return self.generation_of(number).size_of(number)

    def check_same(self, description: Description, place: str) -> None:
        """Refuse to go on with another model or other settings.

        Raises:
            ParameterError: says what differs.
        """
        changes = changed_settings(self.description.settings, description.settings)
        if changes:
            raise ParameterError(
                f"{place}: images are done with other settings ({changes}); expected the same; choose another --output"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored."""
        return {
            "format": FORMAT,
            "version": __version__,
            "source": self.source,
            "model": self.description.model,
            "settings": dict(self.description.settings),
            "settings_sha256": self.description.settings_sha256,
            "class_names": list(self.description.class_names),
            "images": self.images,
            "generations": [asdict(generation) for generation in self.generations],
        }


def write_plan(store: Store, plan: Plan) -> None:
    """Write the plan. Raises FastSamError if it cannot be written.

    Example:
        >>> write_plan(Store("out"), plan)  # doctest: +SKIP
    """
    store.write(PLAN, (dump(plan.to_json(), indent=2) + "\n").encode())


def read_plan(store: Store) -> Plan | None:
    """The plan of an output; None if it has none yet.

    Raises:
        FastSamError: the file is damaged, or of another version.

    Example:
        >>> read_plan(Store("no-such-folder")) is None
        True
    """
    try:
        content = store.read(PLAN)
    except FileNotFoundError:
        return None
    try:
        fields = Fields(parse(content), "the plan")
        if fields.text("format") != FORMAT:
            raise ValueError(f"format is {fields.text('format')}, expected {FORMAT}")
        description = Description(
            fields.text("model"), dict(fields.value("settings")), tuple(fields.texts("class_names", _MOST))
        )
        generations: list[Generation] = []
        for item in fields.items("generations", _MOST):
            values = Fields(item, "a generation")
            generations.append(
                Generation(
                    values.whole("first_chunk", 0, _MOST),
                    values.whole("images", 1, _MOST),
                    values.whole("chunk_images", 1, _MOST),
                )
            )
        firsts = [generation.first_chunk for generation in generations]
        if firsts != list(accumulate((generation.chunks for generation in generations), initial=0))[:-1]:
            raise ValueError(f"chunks of generations begin at {firsts}")
        return Plan(fields.text("source"), description, tuple(generations))
    except (TypeError, ValueError) as error:
        raise FastSamError(
            f"{store.place(PLAN)}: is no plan of `fastsam batch` ({error}); choose another --output"
        ) from error


def existing_plan(store: Store) -> Plan:
    """The plan of an output that must have one.

    Raises:
        FastSamError: it has none, or it is damaged.

    Example:
        >>> existing_plan(Store("no-such-folder"))
        Traceback (most recent call last):
        fastsam_deploy.runtime.errors.FastSamError: no-such-folder: has no plan.json; expected the output of \
`fastsam batch`; check the path
    """
    plan = read_plan(store)
    if plan is None:
        raise FastSamError(f"{store.target}: has no {PLAN}; expected the output of `fastsam batch`; check the path")
    return plan
