"""Video files."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from fastsam_deploy.runtime.batch.frame_rate import constant_rate, mpeg4_rate
from fastsam_deploy.runtime.sources.video import Video
from fastsam_deploy.runtime.system.scratch import scratch_folder
from tests.hostile.boundary import MB, Boundary

_FRAMES = 8


def _seeds() -> list[bytes]:
    import cv2

    seeds = []
    with scratch_folder() as folder:
        for suffix, codec in ((".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "MJPG"), (".avi", "XVID")):
            path = Path(folder, f"x{suffix}")
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
            for i in range(_FRAMES):
                writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
            writer.release()
            if path.is_file() and path.stat().st_size:
                seeds.append(path.read_bytes())
    return seeds


def _read(content: bytes) -> None:
    with scratch_folder() as folder:
        path = Path(folder, "x.mp4")
        path.write_bytes(content)
        with Video(path) as video:
            rate = constant_rate(video.timestamps.times_s, video.info.fps)
            assert 0 < mpeg4_rate(rate) < 1001
            for frame in islice(video.frames(), 3 * _FRAMES):
                assert frame.image.ndim == 3
            str(video.missing)


BOUNDARIES = [Boundary("video", _seeds, _read, seconds=20.0, memory_bytes=600 * MB, share=0.3)]
