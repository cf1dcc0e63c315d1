"""How many objects of made videos keep their number: this project's tracker, and ByteTrack of the package `trackers`.

    python -m benchmarks.tracking --out benchmarks/results/tracking.json

Scenes and share are those of `tests/runtime/tracking/scenes.py`. "masks": the visible masks of the objects, all
of them, or nine in ten with uneven edges. "network": what the demo model finds. Both trackers get the same segments;
ByteTrack works on their boxes. It needs: pip install --no-deps trackers pydeprecate (its requirements bring a second
OpenCV).
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fastsam_deploy.runtime import FastSAM, Segments, Tracker
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.tracking.foreign import ForeignTracker
from fastsam_deploy.runtime.tracking.tracker import FrameTracker
from tests.runtime.tracking.scenes import SCENES, detected, frames_of, share_kept, shifted

from .suite.machine import demo_model

SEEDS, FRAMES, CONF = 8, 50, 0.4


def byte_track() -> FrameTracker:
    """ByteTrack that begins a track with each new box above the threshold, as `Tracker` does."""
    from trackers import ByteTrackTracker

    return ForeignTracker(
        ByteTrackTracker(minimum_consecutive_frames=1, track_activation_threshold=CONF, high_conf_det_threshold=CONF)
    )


def on_masks(make: Callable[[], FrameTracker], name: str, drop: float) -> list[float]:
    """Share kept for each seed."""
    shares = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        tracker, observed = make(), []
        for seen in frames_of(shifted(SCENES[name], rng) if seed else SCENES[name], FRAMES):
            segments, numbers = detected(seen, rng, drop, noise=drop > 0)
            tracked = tracker.update(replace(segments, prompts=np.array(numbers, np.int64)))
            observed += zip(tracked.prompts.tolist(), tracked.track_ids.tolist(), strict=True)
        shares.append(round(share_kept(observed), 3))
    return shares


def on_network(make: Callable[[], FrameTracker], name: str, frames: list[Segments]) -> tuple[float, int]:
    """Share kept of the objects that a segment overlaps by more than half, and how often one does."""
    tracker, observed = make(), []
    for seen, segments in zip(frames_of(SCENES[name], FRAMES), frames, strict=True):
        tracked = tracker.update(segments)
        dense = tracked.masks.dense()
        for number, mask in zip(seen.numbers, seen.masks, strict=True):
            ious = [(part & mask).sum() / max((part | mask).sum(), 1) for part in dense]
            if ious and max(ious) > 0.5:
                observed.append((int(number), int(tracked.track_ids[int(np.argmax(ious))])))
    return round(share_kept(observed), 3), len(observed)


def measure() -> dict[str, Any]:
    """The report."""
    makers: dict[str, Callable[[], FrameTracker]] = {
        "fastsam": lambda: Tracker(start_score=CONF),
        "bytetrack": byte_track,
    }
    rows = []
    with FastSAM(imgsz=320) as model:
        low = Thresholds(conf=CONF / 2)
        for name in SCENES:
            images = [seen.image for seen in frames_of(SCENES[name], FRAMES)]
            frames = [item.result() for item in model.segment_stream(images, thresholds=low)]
            for maker, make in makers.items():
                whole, noisy = on_masks(make, name, 0.0), on_masks(make, name, 0.1)
                share, observations = on_network(make, name, frames)
                rows.append(
                    {
                        "scene": name,
                        "tracker": maker,
                        "masks": round(float(np.mean(whole)), 3),
                        "masks_least": min(whole),
                        "masks_noisy": round(float(np.mean(noisy)), 3),
                        "masks_noisy_least": min(noisy),
                        "network": share,
                        "network_observations": observations,
                    }
                )
    return {
        "machine": platform.processor() or platform.machine(),
        "system": platform.platform(),
        "versions": {name: version(name) for name in ("numpy", "supervision", "trackers")},
        "demo_model": demo_model(),
        "seeds": SEEDS,
        "frames": FRAMES,
        "rows": rows,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tracking.json"))
    report = measure()
    out: Path = parser.parse_args().out
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for row in report["rows"]:
        print(row)


if __name__ == "__main__":
    main()
