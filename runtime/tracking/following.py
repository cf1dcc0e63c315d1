"""Prompts that are given for the first frame and follow their objects through a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..masks.overlap import mask_ious
from ..prompts.base import listed
from ..prompts.everything import Everything
from ..segments import NO_TRACK, Prompt, Segments, join
from ..settings import Thresholds
from .foreign import DetectionsTracker, ForeignTracker
from .tracker import FrameTracker, Tracker

_SAME = 0.95
_WITHIN = 0.9


@dataclass(frozen=True)
class _Followed:
    """Prompt number, the id that its answer has, and the ids of the tracks that it consists of."""

    prompt: int
    number: int
    parts: frozenset[int]


class Follower:
    """A tracker and a prompt. The prompt is answered once, on the first frame where it matches anything.

    Example:
        >>> follower = Follower(Tracker(), Points([[320, 180]]))  # doctest: +SKIP
        >>> cups = [follower.update(model.segment(frame)) for frame in frames]  # doctest: +SKIP
    """

    def __init__(self, tracker: FrameTracker, prompt: Prompt | Sequence[Prompt] | None = None) -> None:
        """
        Args:
            tracker: of one video.
            prompt: for its first frame; None for everything, in every frame.
        """
        self._tracker = tracker
        self._prompt = None if all(isinstance(part, Everything) for part in listed(prompt)) else prompt
        self._followed: tuple[_Followed, ...] = ()

    def update(self, segments: Segments, number: float | None = None) -> Segments:
        """The segments of the next frame that are to be shown, with `track_ids`.

        Of the first frame, these are the answers to the prompt, as `Segments.select` gives them. Later ones have the
        same `prompts`, and no `fits`. An answer of several segments (points in the mode "merge") stays one segment.

        Args:
            segments: everything in the frame.
            number: see `FrameTracker.update`.

        Raises:
            PromptError: the prompt does not fit the frame.
        """
        tracked = self._tracker.update(segments, number)
        if self._prompt is None:
            return tracked
        if not self._followed:
            answers = tracked.select(self._prompt)
            self._followed = tuple(_followed(answers, j, tracked) for j in range(len(answers)))
            return answers
        shown = [part for wanted in self._followed if len(part := _shown(wanted, tracked))]
        return join(shown) if shown else tracked[[]]


def start_following(
    prompt: Prompt | Sequence[Prompt] | None, tracker: Tracker | DetectionsTracker | None, thresholds: Thresholds
) -> tuple[Thresholds, Follower]:
    """What follows the network in `FastSAM.track`, and the thresholds of the network for it.

    Args:
        prompt, tracker: see `FastSAM.track`.
        thresholds: that segments must pass to begin a track.

    Example:
        >>> start_following(None, None, Thresholds(conf=0.4))[0].conf
        0.2
    """
    if tracker is None:
        return replace(thresholds, conf=thresholds.conf / 2), Follower(Tracker(start_score=thresholds.conf), prompt)
    return thresholds, Follower(tracker if isinstance(tracker, Tracker) else ForeignTracker(tracker), prompt)


def _followed(answers: Segments, j: int, tracked: Segments) -> _Followed:
    """What to follow for answer `j`."""
    prompt, number = int(answers.prompts[j]), int(answers.track_ids[j])
    answer = answers.masks[[j]]
    ious = mask_ious(answer, tracked.masks)[0]
    parts = [number]
    if ious.max(initial=0) < _SAME:  # a union
        shared = ious * (answer.areas[0] + tracked.areas) / (1 + ious)
        parts += tracked.track_ids[shared >= _WITHIN * np.maximum(tracked.areas, 1)].tolist()
    return _Followed(prompt, number, frozenset(parts) - {NO_TRACK})


def _shown(wanted: _Followed, tracked: Segments) -> Segments:
    """One segment, or none if nothing of the answer is seen."""
    rows = np.flatnonzero(np.isin(tracked.track_ids, sorted(wanted.parts)))
    if not len(rows):
        return tracked[[]]
    best = tracked[[rows[tracked.scores[rows].argmax()]]]
    if len(rows) > 1:
        union = tracked.masks[rows].merged(clean=True)
        best = replace(best, masks=union, boxes_xyxy=union.boxes_xyxy())
    answer = best.answering([wanted.prompt], [np.nan])
    return replace(answer, track_ids=np.array([wanted.number], np.int64))
