"""The download of answers: records, and masks as words."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .driver.device import Device
from .driver.memory import PinnedMemory
from .lending import PinnedPool
from .records import DETECTION_DTYPE, SUMMARY_DTYPE
from .runs import Answer, Run

TOTAL = 16
"""Bytes before the records of an answer: the total of its words, and nothing."""

_TOTAL = struct.Struct("<q")

_DECAY = 0.9
"""Words are downloaded together with the records, as many as the largest of the last answers had; an answer counts for
less with every answer after it."""


class Downloads:
    """Downloads of one pipeline. Safe to use from many threads.

    Example:
        >>> answer = downloads.answer(run)  # doctest: +SKIP
    """

    def __init__(self, device: Device) -> None:
        self._pool = PinnedPool(device)
        self._expected = 0

    def answer(self, run: Run) -> Answer:
        """Wait for the answer of a run. One wait, or two if it has more words than was expected.

        Raises:
            DeviceError: the work failed, or there is no memory.
        """
        sizes, space, stream = run.sizes, run.slot.space, run.slot.stream
        at = TOTAL + sizes["summaries"]
        host = space.host("answer", at + sizes["detections"])
        stream.copy_out(host, space["answer"])
        room = space.size("words") // 4
        piece, fetched = None, 0
        if run.job.with_words:
            fetched = min(self._expected, room)
            piece = self._pool.take(fetched * 4)
            stream.copy_out(piece.array[: fetched * 4], space["words"])
        stream.synchronize()
        (total,) = _TOTAL.unpack_from(host.data)
        words = None
        if piece is not None:
            words = self._whole(run, piece, fetched, total if total <= room else 0)
        batch = run.shapes.batch
        summaries = np.ndarray(batch, SUMMARY_DTYPE, host.data, TOTAL).copy()
        detections = np.ndarray((batch, run.shapes.max_det), DETECTION_DTYPE, host.data, at)
        return Answer(
            summaries=summaries,
            detections=detections[:, : max(summaries["kept"].tolist())].copy(),
            detections_at=space["answer"] + at,
            words_at=space["words"],
            total_words=total,
            words=words,
        )

    def words(self, run: Run, parts: Sequence[tuple[int, int]]) -> NDArray[np.uint32]:
        """Parts of the words of a run that is not released, (first, count) each, one after the other in a new array."""
        count = sum(count for _, count in parts)
        piece = self._pool.take(count * 4)
        stream, words_at, at = run.slot.stream, run.slot.space["words"], 0
        for first, length in parts:
            stream.copy_out(piece.array[at : at + length * 4], words_at + first * 4)
            at += length * 4
        stream.synchronize()
        return self._pool.handed_out(piece, count * 4).view(np.uint32)

    def close(self) -> None:
        """Free the memory that no answer shows; nothing may be running."""
        self._pool.close()

    def _whole(self, run: Run, piece: PinnedMemory, fetched: int, total: int) -> NDArray[np.uint32]:
        """(total,) uint32: all words, of which `fetched` are in the piece."""
        if total * 4 > piece.nbytes:
            self._pool.put_back(piece)
            piece, fetched = self._pool.take(total * 4), 0
        if total > fetched:
            run.slot.stream.copy_out(piece.array[fetched * 4 : total * 4], run.slot.space["words"] + fetched * 4)
            run.slot.stream.synchronize()
        self._expected = max(total, int(self._expected * _DECAY))
        return self._pool.handed_out(piece, total * 4).view(np.uint32)
