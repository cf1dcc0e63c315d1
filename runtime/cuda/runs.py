"""A batch on its way through the device: what is asked, what it uses meanwhile, and its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..settings import Thresholds
from .inputs import Input, Room
from .shapes import Shapes
from .slots import Slot
from .tables import Tables


@dataclass(frozen=True, eq=False)
class Job:
    """One batch to run.

    Attributes:
        images: (h, w, 3) uint8 RGB, of any strides.
        tables, thresholds: one for each image.
        batch: rows of the network's input; some may be past the images.
        with_words: download all masks; False: `Stages.words` downloads some of them.

    Example:
        >>> Job([image], [tables_for(place, (160, 160))], [Thresholds()], 1, with_words=True)  # doctest: +SKIP
    """

    images: Sequence[NDArray[np.uint8]]
    tables: Sequence[Tables]
    thresholds: Sequence[Thresholds]
    batch: int
    with_words: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the upload, without the places."""
        return sum(table.nbytes for table in self.tables)

    @property
    def max_det(self) -> int:
        """The largest of the images."""
        return max(int(asked.max_det) for asked in self.thresholds)


@dataclass(eq=False)
class Run:
    """A batch that is under way.

    Attributes:
        job: what it runs.
        slot: for this run alone until `Stages.release`.
        kept: of its input.
        room: for the detections that are asked for.
        turn: number of the run among all that computed, and the generation of the shared buffers then.

    Example:
        >>> run = stages.begin(job)  # doctest: +SKIP
    """

    job: Job
    slot: Slot
    kept: Input
    room: Room
    turn: tuple[int, int] = (0, 0)

    @property
    def shapes(self) -> Shapes:
        """Those of the room."""
        return self.room.shapes

    @property
    def sizes(self) -> Mapping[str, int]:
        """Those of the room."""
        return self.room.sizes


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer of one run.

    Attributes:
        summaries: (batch,) SUMMARY_DTYPE.
        detections: (batch, most that an image kept) DETECTION_DTYPE; rows past an image's `kept` hold anything.
        detections_at: address of the detections on the device, good until the run is released.
        words_at: address of the words, likewise.
        total_words: words of all masks.
        words: (total_words,) uint32, the caller's own; None if the job does not want them, or not all were written.

    Example:
        >>> answer.summaries["kept"]  # doctest: +SKIP
        array([37], dtype=int32)
    """

    summaries: NDArray[Any]
    detections: NDArray[Any]
    detections_at: int
    words_at: int
    total_words: int
    words: NDArray[np.uint32] | None = None
