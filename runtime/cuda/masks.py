"""Masks that lie on the device: prompts look at them there, and only those that were chosen are downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..masks.bits import words_per_row
from ..masks.cleaning import MARGIN_PX, STEPS
from ..masks.packed import PackedCrops
from ..masks.rows import Rows, row_numbers
from ..masks.store import Masks, PackedMasks
from ..system.fork import cached_property
from . import launchers
from .driver.stream import Stream
from .loading import Kernels
from .records import DETECTION_DTYPE, offset_of
from .workspace import Workspace

_AREA = offset_of(DETECTION_DTYPE, "area") // 4


@dataclass(frozen=True, eq=False)
class DeviceAnswer:
    """Where the detections of one image lie until their run is released.

    Attributes:
        kernels: of the pipeline.
        stream: of the run's slot, on which the answer was downloaded.
        workspace: for questions and replies.
        detections: address of the image's (max_det,) DETECTION_DTYPE.
        words: address of the answer's words.
        download: parts of the words, (first, count) each → uint32, one after the other, an array that the caller may
            keep.

    Example:
        >>> answer.download([(0, 32)])  # the first 32 words of the masks  # doctest: +SKIP
    """

    kernels: Kernels
    stream: Stream
    workspace: Workspace
    detections: int
    words: int
    download: Callable[[Sequence[tuple[int, int]]], NDArray[np.uint32]]


class DeviceMasks(Masks):
    """Masks of one image on the device, good until their run is released.

    `contain` and `box_overlap` are answered there. Whatever else needs pixels downloads them once: see
    `in_host_memory`, which gives masks that last.

    Example:
        >>> masks = DeviceMasks((480, 640), answer, *rows_of(detections, kept))  # doctest: +SKIP
        >>> masks[masks.contain(np.array([[320, 240]]))[:, 0]].in_host_memory()  # doctest: +SKIP
    """

    def __init__(
        self, image_hw: tuple[int, int], answer: DeviceAnswer, rows: NDArray[Any], numbers: NDArray[np.int64]
    ) -> None:
        """
        Args:
            image_hw: (h, w) of the image, pixels.
            rows: (n,) DETECTION_DTYPE.
            numbers: (n,) int64, their places in the image's detections.
        """
        super().__init__(image_hw, *_geometry(rows))
        self._answer = answer
        self._rows = rows
        self._numbers = numbers

    @property
    def crops(self) -> PackedCrops:
        """See `Masks.crops`; downloaded when they are first asked for."""
        return self._downloaded

    def __getitem__(self, rows: Rows) -> DeviceMasks:
        """See `Masks`; stays on the device."""
        numbers = row_numbers(rows, len(self))
        return DeviceMasks(self.image_hw, self._answer, self._rows[numbers], self._numbers[numbers])

    def contain(self, points_xy: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `Masks.contain`."""
        held = self._ask(launchers.contain, points_xy.astype(np.int32), np.uint8)
        return held.astype(np.bool_)

    def box_overlap(self, boxes_xyxy: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Masks.box_overlap`."""
        height, width = self.image_hw
        boxes = boxes_xyxy.clip(0, (width, height, width, height)).astype(np.int32)
        return self._ask(launchers.box_overlap, boxes, np.int32).astype(np.int64)

    def merged(self, clean: bool) -> PackedMasks:
        """See `Masks.merged`; joined and cleaned on the device, where only the result is downloaded."""
        if not len(self):
            return super().merged(clean)
        margin = MARGIN_PX if clean else 0
        left, top = np.maximum(self.corners_xy.min(0) - margin, 0).tolist()
        ends = np.minimum((self.corners_xy + self.sizes_wh).max(0) + margin, self.image_hw[::-1])
        size_wh: tuple[int, int] = int(ends[0]) - left, int(ends[1]) - top
        areas, words = self._joined(left, top, size_wh, STEPS if clean else ())
        crops = PackedCrops(np.array([size_wh], np.int64), areas, words)
        return PackedMasks(self.image_hw, crops, np.array([[left, top]], np.int64))

    def _joined(
        self, left: int, top: int, size_wh: tuple[int, int], steps: Sequence[tuple[bool, tuple[int, int]]]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Area and words of all masks as one, after the steps; before them if nothing would be left."""
        answer, chosen = self._answer, self._numbers.astype(np.int32)
        space, stream, kernels = answer.workspace, answer.stream, answer.kernels
        nbytes = int(words_per_row(np.int64(size_wh[0]))) * size_wh[1] * 4
        places = [f"joined {i}" for i in range(min(len(steps), 2) + 1)]
        area_nbytes = 4 * (1 + len(steps))
        space.reserve({**dict.fromkeys(places, nbytes), "questions": chosen.nbytes, "areas": area_nbytes})
        host = space.host("questions", chosen.nbytes).view(np.int32)
        host[:] = chosen
        stream.copy_in(space["questions"], host)
        stream.fill(space["areas"], 0, area_nbytes)
        source, area = space[places[0]], space["areas"]
        on_device = answer.detections, answer.words, space["questions"], source, area
        launchers.join_masks(kernels, *on_device, len(chosen), (left, top, *size_wh), stream)
        for i, (grows, around) in enumerate(steps):
            target = space[places[1 + i % 2]]  # the first one stays as it is
            launchers.morph(kernels, source, target, area + 4 * (i + 1), size_wh, around, grows, stream)
            source = target
        counted, words = space.host("areas", area_nbytes), space.host("words", nbytes)
        stream.copy_out(counted, area)
        stream.copy_out(words, source)
        stream.synchronize()
        areas = counted.view(np.int32)
        if not areas[-1]:
            stream.copy_out(words, space[places[0]])
            stream.synchronize()
        return areas[-1:].astype(np.int64) if areas[-1] else areas[:1].astype(np.int64), np.array(words).view(np.uint32)

    @cached_property
    def _downloaded(self) -> PackedCrops:
        rows = self._rows
        counts = rows["pitch"].astype(np.int64) * rows["height"]
        # Each crop once, however many rows show it; neighbours in one copy.
        firsts, where = np.unique(rows["first_word"], return_inverse=True)
        lengths = np.zeros(len(firsts), np.int64)
        lengths[where] = counts
        starts = np.cumsum(lengths) - lengths
        words = self._answer.download(_runs(firsts, lengths))
        return PackedCrops(self.sizes_wh, self.areas, words, starts[where])

    def _ask(self, launch: Callable[..., None], questions: NDArray[np.int32], dtype: type) -> NDArray[Any]:
        """(n, m) answers of a kernel that compares each mask with each of m questions."""
        if not len(self):
            return np.zeros((0, len(questions)), dtype)
        answer = self._answer
        count = int(self._numbers.max()) + 1  # the kernel takes the image's rows as they lie
        shape = (count, len(questions))
        nbytes = count * len(questions) * np.dtype(dtype).itemsize
        space, stream = answer.workspace, answer.stream
        space.reserve({"questions": questions.nbytes, "replies": nbytes})
        host = space.host("questions", questions.nbytes).view(np.int32)
        host[:] = questions.ravel()
        stream.copy_in(space["questions"], host)
        places = answer.detections, answer.words, space["questions"], space["replies"]
        launch(answer.kernels, *places, *shape, stream)
        replies = space.host("replies", nbytes)
        stream.copy_out(replies, space["replies"])
        stream.synchronize()
        copied: NDArray[Any] = replies.view(dtype).reshape(shape)[self._numbers]  # the memory is used again
        return copied


def packed_masks(
    image_hw: tuple[int, int], rows: NDArray[Any], words: NDArray[np.uint32], batch: int = 1
) -> PackedMasks:
    """Masks in host memory, of (n,) DETECTION_DTYPE of one image and all words of the answer, which they share.

    Args:
        batch: images of the answer.

    Example:
        >>> packed_masks((480, 640), rows, answer.words).areas  # doctest: +SKIP
    """
    corners, sizes, areas = _geometry(rows)
    starts = rows["first_word"].copy()
    if batch > 1 and len(starts):  # an image's words lie together
        first = int(starts[0])
        end = int(starts[-1]) + int(rows["pitch"][-1]) * int(rows["height"][-1])
        words, starts = words[first:end], starts - first
    return PackedMasks(image_hw, PackedCrops(sizes, areas, words, starts), corners)


def rows_of(answer: NDArray[Any], kept: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The kept detections of one image that have a pixel, and their numbers.

    Args:
        answer: (kept or more,) DETECTION_DTYPE.

    Example:
        >>> answer = np.zeros(300, DETECTION_DTYPE)
        >>> answer["area"][:3] = 7, 0, 9
        >>> rows, numbers = rows_of(answer, 3)
        >>> rows["area"].tolist(), numbers.tolist()
        ([7, 9], [0, 2])
    """
    assert answer.dtype == DETECTION_DTYPE
    rows = answer[:kept]
    numbers = rows["area"].nonzero()[0]
    return (rows if len(numbers) == kept else rows[numbers]), numbers


def _geometry(rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Corners, sizes and areas of masks, as `Masks` has them."""
    columns = np.ndarray((len(rows), DETECTION_DTYPE.itemsize // 4), np.int32, np.ascontiguousarray(rows).data)
    numbers: NDArray[np.int64] = columns[:, _AREA : _AREA + 5].astype(np.int64)  # area, left, top, width, height
    return numbers[:, 1:3], numbers[:, 3:5], numbers[:, 0]


def _runs(firsts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(first, count) of ranges, ascending, that touch each other joined to one."""
    if not len(firsts):
        return []
    begins = np.flatnonzero(np.concatenate(([True], firsts[1:] != firsts[:-1] + lengths[:-1])))
    ends = np.concatenate((begins[1:], [len(firsts)])) - 1
    counts = firsts[ends] + lengths[ends] - firsts[begins]
    return list(zip(firsts[begins].tolist(), counts.tolist(), strict=True))
