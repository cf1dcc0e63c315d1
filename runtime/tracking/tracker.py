"""Gives the segments of a video's frames the numbers of their objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from ..masks.overlap import mask_ious, shared_pixels
from ..masks.store import Masks, PackedMasks, concatenate
from ..segments import NO_TRACK, Segments
from .matching import Pair, alike, hidden_part, overlapping, partly_hidden
from .motion import Track

_SLACK_PX = 0.5
"""How much less sure the place of a hidden object becomes with each frame, pixels."""

_MISSED_FRAMES = 3
"""An object that the network misses for so long is still taken to hide what is behind it."""

_SAME = 0.7
"""IoU from which on two masks are of the same object."""

_DOUBLE = NO_TRACK - 1
"""In place of the number of a track that has ended."""

_PART = 0.8
"""Share of a part that lies within the whole."""


class FrameTracker(Protocol):
    """Whatever gives segments `track_ids`, frame after frame.

    Example:
        >>> tracker: FrameTracker = Tracker()
    """

    def update(self, segments: Segments, number: float | None = None) -> Segments:
        """The segments of the next frame, with `track_ids`. Some may be left out.

        Args:
            segments: of the frame.
            number: of the frame, higher than that of the one before; None: the next one.
        """
        ...


class Tracker:
    """Follows objects from frame to frame by their masks. It runs no network, and looks at no pixels of the images.

    An object keeps its number while it is hidden for up to `lost_frames`. Numbers begin with 1 and are not used again.

    Example:
        >>> tracker = Tracker()
        >>> masks = Masks.from_dense([[[1, 1, 0, 0]]])
        >>> one, zero = np.ones(1, np.float32), np.zeros(1, np.int64)
        >>> first = tracker.update(Segments.unprompted(masks.boxes_xyxy(), one, zero, masks))
        >>> masks = Masks.from_dense([[[0, 1, 1, 0]]])
        >>> second = tracker.update(Segments.unprompted(masks.boxes_xyxy(), one, zero, masks))
        >>> first.track_ids.tolist(), second.track_ids.tolist()
        ([1], [1])
    """

    def __init__(self, *, lost_frames: float = 30, start_score: float = 0.0) -> None:
        """
        Args:
            lost_frames: how long an object is remembered after it was last seen.
            start_score: segments with a lower score are kept if they belong to an object, and left out if not.

        Raises:
            ParameterError: a value is negative.
        """
        if not lost_frames >= 0 or not 0 <= start_score <= 1:
            raise ParameterError(
                f"lost_frames is {lost_frames} and start_score {start_score}; expected 0 or more, and 0 … 1"
            )
        self._lost_frames, self._start_score = lost_frames, start_score
        self._tracks: list[Track] = []
        self._count = 0
        self._at = -1.0
        self._image_hw: tuple[int, int] | None = None

    def update(self, segments: Segments, number: float | None = None) -> Segments:
        """See `FrameTracker.update`.

        Raises:
            ParameterError: the number is not higher than the one before, or the size of the frames has changed.
        """
        at = self._at + 1 if number is None else float(number)
        if at <= self._at or self._image_hw not in (None, segments.image_hw):
            raise ParameterError(
                f"frame {at:g} of {segments.image_hw} after frame {self._at:g} of {self._image_hw}; expected a higher "
                "number and the same size; make a new Tracker for another video"
            )
        self._at, self._image_hw = at, segments.image_hw
        masks = segments.masks.in_host_memory()
        ids = np.full(len(segments), NO_TRACK, np.int64)
        tracks = self._tracks = [track for track in self._tracks if at - track.at <= self._lost_frames + 1]
        if tracks and len(masks):
            pairs = _pairs(tracks, masks, at)
            there = _with_missed(tracks, masks, at, {i for i, *_ in pairs})
            for i, j, whole in pairs:
                part = hidden_part(whole, there, j)
                hidden = Masks.from_crops(masks.image_hw, [part], whole.corners_xy) if part.any() else None
                tracks[i].see(masks[[j]], at, hidden)
                ids[j] = tracks[i].number
        self._end_doubles(masks, ids)
        for j in self._first_seen(segments, masks, ids):
            self._count += 1
            self._tracks.append(Track.started(self._count, masks[[j]], at))
            ids[j] = self._count
        return replace(segments, track_ids=ids)[ids > NO_TRACK]

    def _end_doubles(self, masks: PackedMasks, ids: NDArray[np.int64]) -> None:
        """Of two tracks that have come to the same object, the older one stays."""
        rows = np.flatnonzero(ids != NO_TRACK)
        rows = rows[np.argsort(ids[rows])]
        same = mask_ious(masks[rows], masks[rows], _SAME) > 0
        ended: set[int] = set()
        for k in range(len(rows)):
            if any(same[k, before] and before not in ended for before in range(k)):
                ended.add(k)
        numbers = {int(ids[rows[k]]) for k in ended}
        self._tracks = [track for track in self._tracks if track.number not in numbers]
        ids[rows[sorted(ended)]] = _DOUBLE

    def _first_seen(self, segments: Segments, masks: PackedMasks, ids: NDArray[np.int64]) -> list[int]:
        """Rows of new objects, the best score first: no second mask of one that is there."""
        candidates = np.flatnonzero((ids == NO_TRACK) & (segments.scores >= self._start_score) & (masks.areas > 0))
        there = np.flatnonzero(ids > NO_TRACK).tolist()
        rows: list[int] = []
        for j in candidates[np.argsort(-segments.scores[candidates], kind="stable")].tolist():
            if not there or mask_ious(masks[[j]], masks[there], _SAME).max() == 0:
                there.append(j)
                rows.append(j)
        return rows


def _pairs(tracks: Sequence[Track], masks: PackedMasks, at: float) -> list[tuple[int, int, PackedMasks]]:
    """Rows of tracks and masks that belong together, and the mask that was expected of each track."""
    expected = concatenate([track.expected(at) for track in tracks], masks.image_hw).in_host_memory()
    lost, free = list(range(len(expected))), list(range(len(masks)))
    taken: dict[int, int] = {}
    wholes: dict[int, PackedMasks] = {}

    def take(pairs: Iterable[Pair]) -> None:
        for i, j in pairs:
            taken[i] = j
            lost.remove(i)
            free.remove(j)

    def parts(i: int) -> list[int]:
        """Rows of masks of those tracks that lay within track `i` when both were seen last."""
        whole = tracks[i].visible
        return [j for k, j in taken.items() if _lies_within(tracks[k].visible, whole)]

    take(overlapping(expected, masks))
    slack_px = np.array([1 + _SLACK_PX * (at - track.at) for track in tracks])
    fitting = partly_hidden(expected, masks, lost, free, slack_px, parts)
    wholes.update((i, whole) for i, _, whole in fitting)
    take((i, j) for i, j, _ in fitting)
    take(alike(expected, masks, lost, free))
    return [(i, j, wholes.get(i, expected[[i]])) for i, j in taken.items()]


def _with_missed(tracks: Sequence[Track], masks: PackedMasks, at: float, seen: Set[int]) -> PackedMasks:
    """The masks of a frame, and the expected ones of objects that are not among them and were seen just before."""
    missed = [track.expected(at) for i, track in enumerate(tracks) if i not in seen and at - track.at <= _MISSED_FRAMES]
    return concatenate([masks, *missed], masks.image_hw).in_host_memory()


def _lies_within(part: PackedMasks, whole: PackedMasks) -> bool:
    shared = shared_pixels(part.crops[0], part.corners_xy[0], whole.crops[0], whole.corners_xy[0])
    return bool(shared >= _PART * part.areas[0])
