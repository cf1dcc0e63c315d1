"""Files of segments, and the masks in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fastsam_deploy.runtime import Masks, Segments
from fastsam_deploy.runtime.errors import FastSamError
from fastsam_deploy.runtime.formats import json as json_format
from fastsam_deploy.runtime.formats import npz
from fastsam_deploy.runtime.system.scratch import scratch_folder
from tests.hostile.boundary import Boundary

MOST_PIXELS = 4_000_000


def sample(count: int = 3) -> Segments:
    """Segments of an image of 40 × 60 pixels."""
    chance = np.random.default_rng(count)
    crops = tuple(chance.random((9 + i, 12)) > 0.4 for i in range(count))
    corners = np.array([(i, 2 * i) for i in range(count)], np.int64).reshape(-1, 2)
    segments = Segments.unprompted(
        np.array([(i, 2 * i, i + 12, 2 * i + 9 + i) for i in range(count)], np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.zeros(count, np.int64),
        Masks.from_crops((40, 60), crops, corners),
    )
    return segments.answering(np.arange(count), np.linspace(0.5, 1, count)) if count else segments


def _npz_seeds() -> list[bytes]:
    return [npz.encode(sample(count)) for count in (0, 1, 5)]


def _json_seeds() -> list[bytes]:
    return [json_format.encode(sample(count)) for count in (0, 1, 3)]


def _loaded(content: bytes, suffix: str) -> None:
    with scratch_folder() as folder:
        path = Path(folder, f"x{suffix}")
        path.write_bytes(content)
        segments = Segments.load(path)
    json.dumps(segments.to_json(), allow_nan=False)
    assert segments.masks.areas.min(initial=0) >= 0
    height, width = segments.image_hw
    if height * width * max(1, len(segments)) < MOST_PIXELS:
        assert segments.masks.dense().shape == (len(segments), height, width)
    npz.decode(npz.encode(segments))


def _read_npz(content: bytes) -> None:
    _loaded(content, ".npz")


def _read_json(content: bytes) -> None:
    _loaded(content, ".json")


def _rle_seeds() -> list[bytes]:
    masks = sample(2).masks.rle()
    plain = [{"size": [4, 5], "counts": [3, 4, 13]}, {"size": [0, 0], "counts": []}]
    return [json.dumps({"rles": rles, "hw": list(rles[0]["size"])}).encode() for rles in (masks, plain[:1], plain[1:])]


def _read_rle(content: bytes) -> None:
    try:
        document = json.loads(content)
        rles, image_hw = document["rles"], tuple(document["hw"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return
    if len(image_hw) != 2 or not all(type(side) is int and 0 <= side < 10**9 for side in image_hw):
        return  # an argument of the programmer's, not of a stranger
    try:
        masks = Masks.from_rle(rles, image_hw)
    except (TypeError, FastSamError):
        if isinstance(rles, list):
            raise
        return
    assert masks.areas.min(initial=0) >= 0


BOUNDARIES = [
    Boundary("segments-npz", _npz_seeds, _read_npz),
    Boundary("segments-json", _json_seeds, _read_json, text=True, share=2.0),
    Boundary("masks-rle", _rle_seeds, _read_rle, text=True),
]
