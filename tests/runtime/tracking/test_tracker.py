"""Objects keep their numbers: on scenes whose objects are known, in rows of masks, and through the public API."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastsam_deploy.runtime import Boxes, FastSAM, Masks, ParameterError, Points, PromptError, Segments, Tracker
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.tracking.following import Follower, start_following
from tests.runtime.tracking.scenes import SCENES, SIZE_HW, Seen, detected, frames_of, share_kept, shifted

FRAMES = 50


def _share(name: str, seed: int, drop: float, noise: bool) -> float:
    rng = np.random.default_rng(seed)
    tracker, observed = Tracker(), list[tuple[int, int]]()
    for seen in frames_of(shifted(SCENES[name], rng) if seed else SCENES[name], FRAMES):
        segments, numbers = detected(seen, rng, drop, noise)
        tracked = tracker.update(replace(segments, prompts=np.array(numbers, np.int64)))
        observed += zip(tracked.prompts.tolist(), tracked.track_ids.tolist(), strict=True)
    return share_kept(observed)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SCENES)
def test_at_least_95_percent_keep_their_number(name: str, seed: int):
    assert _share(name, seed, 0.0, False) >= 0.95


def test_so_they_do_if_a_tenth_is_not_detected_and_edges_are_uneven():
    shares = [_share(name, seed, 0.1, True) for name in SCENES for seed in range(2)]
    assert np.mean(shares) >= 0.95 and min(shares) >= 0.85, shares


def _segments(*boxes_xyxy: tuple[int, int, int, int], scores: list[float] | None = None) -> Segments:
    dense = np.zeros((len(boxes_xyxy), *SIZE_HW), bool)
    for mask, (left, top, right, bottom) in zip(dense, boxes_xyxy, strict=True):
        mask[top:bottom, left:right] = True
    masks = Masks.from_dense(dense)
    values = np.array([0.9] * len(boxes_xyxy) if scores is None else scores, np.float32)
    return Segments.unprompted(masks.boxes_xyxy(), values, np.zeros(len(boxes_xyxy), np.int64), masks)


def _ids(tracker: Tracker, *frames: Segments) -> list[list[int]]:
    return [tracker.update(frame).track_ids.tolist() for frame in frames]


def test_a_part_and_its_whole_do_not_swap():
    """Their boxes overlap; which of them comes first, or is missing, changes."""
    whole, part = (50, 50, 150, 150), (60, 60, 140, 140)
    tracker = Tracker()
    assert _ids(tracker, _segments(whole, part), _segments(part, whole), _segments(part), _segments(whole, part)) == [
        [1, 2], [2, 1], [2], [1, 2]
    ]  # fmt: skip


def test_numbers_of_frames_count():
    """Of a live source, frames are left out: the object has moved on by as much."""
    tracker = Tracker()
    for number in range(5):
        tracker.update(_segments((10 * number, 50, 10 * number + 30, 80)), number)
    assert tracker.update(_segments((180, 50, 210, 80)), 18).track_ids.tolist() == [1]
    with pytest.raises(ParameterError, match="frame 18 of"):
        tracker.update(_segments(), 18)


def test_an_object_is_forgotten_after_a_while():
    there, nothing = _segments((10, 10, 60, 60)), _segments()
    assert _ids(Tracker(lost_frames=3), there, *[nothing] * 3, there)[-1] == [1]
    assert _ids(Tracker(lost_frames=3), there, *[nothing] * 4, there)[-1] == [2]


def test_a_second_mask_of_the_same_object_is_no_other_object():
    once, twice = (10, 10, 60, 60), (12, 10, 62, 60)
    tracker = Tracker()
    assert _ids(tracker, _segments(once), _segments(twice, once), _segments(once, twice)) == [[1], [1], [1]]


def test_two_tracks_of_one_object_become_the_older_one():
    apart, together = ((10, 10, 60, 60), (26, 10, 76, 60)), ((10, 10, 60, 60), (12, 10, 62, 60))
    assert _ids(Tracker(), _segments(*apart), _segments(*together))[1] == [1]


def test_low_scores_continue_and_begin_nothing():
    first, weak = _segments((10, 10, 60, 60)), _segments((12, 10, 62, 60), (100, 100, 150, 150), scores=[0.3, 0.3])
    assert _ids(Tracker(start_score=0.4), first, weak, weak) == [[1], [1], [1]]


def test_another_size_is_another_video():
    tracker = Tracker()
    tracker.update(_segments())
    with pytest.raises(ParameterError, match="make a new Tracker"):
        tracker.update(Segments.empty((10, 10)))
    with pytest.raises(ParameterError, match="lost_frames is -1"):
        Tracker(lost_frames=-1)


def test_a_point_follows_its_object():
    """Two boxes cross; the one that was pointed at is shown, and nothing else."""
    follower = Follower(Tracker(), [Points([[20, 60]]), Boxes([[200, 100, 260, 130]])])
    for number in range(12):
        moving, other = (10 + 10 * number, 50, 50 + 10 * number, 90), (200 - 10 * number, 100, 260 - 10 * number, 130)
        shown = follower.update(_segments(other, (0, 150, 300, 200), moving))
        assert shown.prompts.tolist() == [0, 1] and shown.track_ids.tolist() == [3, 1]
        assert shown.boxes_xyxy.tolist() == [list(moving), list(other)]
        assert np.isnan(shown.fits).all() == (number > 0)


def test_what_is_out_of_sight_is_not_shown_and_comes_back():
    follower = Follower(Tracker(), Points([[20, 20]], mode="each"))
    there, nothing = _segments((10, 10, 60, 60)), _segments((200, 200, 230, 230))
    assert [len(follower.update(frame)) for frame in (there, nothing, there)] == [1, 0, 1]


def test_an_answer_of_several_segments_stays_one():
    """Points in the mode "merge" join a shirt and a sleeve."""
    follower = Follower(Tracker(), Points([[20, 20], [70, 20]]))
    for number in range(4):
        step = 5 * number
        shown = follower.update(_segments((10 + step, 10, 60 + step, 60), (60 + step, 10, 90 + step, 60)))
        assert shown.boxes_xyxy.tolist() == [[10 + step, 10, 90 + step, 60]] and shown.areas.tolist() == [80 * 50]


def test_a_prompt_waits_for_its_object_and_must_fit():
    follower = Follower(Tracker(), Points([[20, 20]]))
    assert [len(follower.update(frame)) for frame in (_segments(), _segments((10, 10, 60, 60)))] == [0, 1]
    with pytest.raises(PromptError):
        Follower(Tracker(), Points([[900, 20]])).update(_segments())


class TenTimes:
    """Stands for a tracker of another library: it reorders, and leaves out."""

    def update(self, detections):
        kept = detections[np.array([2, 0])]
        kept.tracker_id = np.array([20, -1])
        return kept


def test_trackers_of_other_libraries_are_asked():
    pytest.importorskip("supervision", reason="needs the extra [supervision]")
    _, follower = start_following(None, TenTimes(), Thresholds())
    segments = _segments((0, 0, 9, 9), (20, 0, 29, 9), (40, 0, 49, 9))
    assert follower.update(segments).track_ids.tolist() == [-1, -1, 20]


@pytest.fixture(scope="module")
def model(demo_onnx) -> FastSAM:
    with FastSAM(demo_onnx, imgsz=320) as opened:
        yield opened


def _best(segments: Segments, mask: np.ndarray) -> int | None:
    """The id of the segment that overlaps a mask most, if its IoU is above 0.5."""
    dense = segments.masks.dense()
    ious = [(part & mask).sum() / max((part | mask).sum(), 1) for part in dense]
    return int(segments.track_ids[np.argmax(ious)]) if ious and max(ious) > 0.5 else None


@pytest.mark.parametrize("name", ["hidden", "growing"])
def test_the_network_and_the_tracker_together(model: FastSAM, name: str):
    """In the other scenes the demo model takes objects that touch for one: `benchmarks/results/tracking.json`."""
    scene: list[Seen] = list(frames_of(SCENES[name], 40))
    items = list(model.track((seen.image for seen in scene), keep_images=True))
    assert [item.index for item in items] == list(range(40)) and items[0].image is not None
    observed = [
        (int(number), track)
        for seen, item in zip(scene, items, strict=True)
        for number, mask in zip(seen.numbers, seen.masks, strict=True)
        if (track := _best(item.result(), mask)) is not None
    ]
    assert len(observed) > 50
    assert share_kept(observed) >= 0.95


def test_prompts_of_the_first_frame_follow_with_the_network(model: FastSAM):
    scene = list(frames_of(SCENES["crossing"], 10))
    rows, columns = np.nonzero(scene[0].masks[0])
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    items = list(model.track([seen.image for seen in scene], Boxes([box])))
    assert {tuple(item.result().track_ids.tolist()) for item in items} == {tuple(items[0].result().track_ids.tolist())}
    for seen, item in zip(scene, items, strict=True):
        (mask,) = item.result().masks.dense()
        assert (mask & seen.masks[0]).sum() / (mask | seen.masks[0]).sum() > 0.6
