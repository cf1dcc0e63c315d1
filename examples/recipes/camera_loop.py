"""A loop for robots without ROS: the newest frame of a camera, one object that is followed, and where it is.

    python examples/recipes/camera_loop.py 0 --point 320,240

Prints one line of JSON for each frame: pipe it to whatever steers. "age_ms" is the time from taking the newest frame to
its line; a slow network makes lines rarer, and not later.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from fastsam_deploy import FastSAM, Points, open_frames


def follow(
    model: FastSAM, source: Any, point_xy: list[float], act: Callable[[dict[str, Any]], None], most: int | None
) -> None:
    """Call a function with the place of an object in each frame.

    Args:
        model: open.
        source: of `open_frames`.
        point_xy: on the object in the first frame, pixels.
        act: gets frame, time_s, age_ms and, while the object is seen, its center_xy (-1 … 1 from the middle of the
            frame) and its share of the frame.
        most: end after so many frames; None: with the source.
    """
    taken: deque[tuple[Any, float]] = deque()

    def images() -> Iterator[Any]:
        for frame in islice(source.frames(), most):
            taken.append((frame, time.monotonic()))
            yield frame.image

    for item in model.track(images(), Points([point_xy]), color="BGR", prefetch=1):  # no frame waits for another one
        segments, (frame, taken_s) = item.result(), taken.popleft()
        message: dict[str, Any] = {"frame": frame.number, "time_s": round(frame.time_s, 3)}
        message["age_ms"] = round(1000 * (time.monotonic() - taken_s))
        if len(segments):
            height, width = segments.image_hw
            left, top, right, bottom = segments.masks.boxes_xyxy()[0].tolist()
            message["center_xy"] = [round((left + right) / width - 1, 3), round((top + bottom) / height - 1, 3)]
            message["share"] = round(int(segments.areas[0]) / (height * width), 4)
        act(message)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Follow an object with a camera.")
    parser.add_argument("source", help="number of a camera, address, video or folder")
    parser.add_argument("--point", required=True, metavar="X,Y", help="on the object in the first frame")
    parser.add_argument("--model", help="default: the demo model")
    parser.add_argument("--imgsz", type=int, default=320, help="smaller is faster")
    parser.add_argument("--frames", type=int, help="end after so many")
    given = parser.parse_args()
    point = [float(part) for part in given.point.split(",")]
    with FastSAM(given.model, imgsz=given.imgsz) as model, open_frames(given.source) as source:
        follow(model, source, point, lambda message: print(json.dumps(message), flush=True), given.frames)


if __name__ == "__main__":
    main()
