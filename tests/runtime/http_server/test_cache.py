"""What is kept, for how long, and that it is bounded."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastsam_deploy.runtime import Clip, Masks, Segments
from fastsam_deploy.runtime.clip.features import with_image
from fastsam_deploy.runtime.http_server.cache import SegmentsCache
from fastsam_deploy.runtime.http_server.refusals import UnknownImageError
from tests.runtime.http_server.served import ROOT


def segments(side: int = 100) -> Segments:
    masks = Masks.from_dense(np.ones((1, side, side), bool))
    return Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)


def test_the_one_that_was_not_used_for_longest_goes_first():
    cache = SegmentsCache(2, 1 << 20)
    first, second = cache.add(segments()), cache.add(segments())
    assert cache.get(first) == segments()
    third = cache.add(segments())
    assert len(cache) == 2 and cache.get(first) == cache.get(third)
    with pytest.raises(UnknownImageError, match=rf"no image with the id '{second}' is kept; .*send the image again"):
        cache.get(second)


def test_memory_is_bounded_and_given_back():
    cache = SegmentsCache(1000, 100_000)
    for _ in range(100):
        cache.add(segments(side=400))  # 20 kB each
        assert cache.bytes <= 100_000
    assert 2 <= len(cache) <= 5
    assert cache.add(segments(side=1000)) is None, "larger than all memory"
    assert SegmentsCache(0, 1 << 20).add(segments()) is None


def test_ids_cannot_be_guessed():
    cache = SegmentsCache(1000, 1 << 24, "3-")
    names = {cache.add(segments(10)) for _ in range(500)}
    assert len(names) == 500 and all(re.fullmatch(r"3-[\w-]{22}", name) for name in names)


def test_the_image_of_text_prompts_counts():
    pytest.importorskip("tokenizers", reason="needs the extra [clip]")
    with Clip.open(ROOT / "tests/data/clip-tiny") as clip:
        cache = SegmentsCache(10, 1 << 30)
        cache.add(with_image(segments(300), np.zeros((300, 300, 3), np.uint8), clip))
    assert cache.bytes > 300 * 300 * 3
