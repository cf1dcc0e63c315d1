"""Trackers of other libraries, which work on `supervision.Detections`: boxes and scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import MissingDependencyError, pip_install
from ..segments import NO_TRACK, Segments

if TYPE_CHECKING:
    from supervision import Detections

_ROW = "row"


class DetectionsTracker(Protocol):
    """A tracker such as `trackers.ByteTrackTracker`.

    Example:
        >>> tracker: DetectionsTracker = trackers.ByteTrackTracker()  # doctest: +SKIP
    """

    def update(self, detections: Detections) -> Detections:
        """The detections with `tracker_id`, in any order; -1 for those without a track."""
        ...


class ForeignTracker:
    """A `FrameTracker` that asks another library.

    Example:
        >>> ForeignTracker(trackers.ByteTrackTracker()).update(segments).track_ids  # doctest: +SKIP
        array([ 0,  1, -1])
    """

    def __init__(self, tracker: DetectionsTracker) -> None:
        """
        Args:
            tracker: of one video.
        """
        self._tracker = tracker

    def update(self, segments: Segments, number: float | None = None) -> Segments:
        """See `FrameTracker.update`; the number is not passed on. All segments are kept.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise MissingDependencyError(
                f"a tracker of detections: {error}; run: {pip_install('supervision')}"
            ) from error
        rows: Any = np.arange(len(segments))
        tracked = self._tracker.update(
            Detections(
                xyxy=segments.boxes_xyxy.copy(),
                confidence=segments.scores.copy(),
                class_id=segments.classes.copy(),
                data={_ROW: rows},
            )
        )
        ids = np.full(len(segments), NO_TRACK, np.int64)
        if len(tracked) and tracked.tracker_id is not None:
            ids[tracked.data[_ROW]] = tracked.tracker_id
        return replace(segments, track_ids=ids)
