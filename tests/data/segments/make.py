"""Made `old.npz` and `old.json`, with the code of version 0.1.0 before masks were packed in memory (commit 4fb9f15).

The files stay as they are: what that version wrote has to be read, and JSON has to come out the same to the byte. The
test makes the same segments with the present code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastsam_deploy.runtime import Masks, Segments


def segments() -> Segments:
    """Four rows: a blob, a mask in a far corner, one without a pixel, one over the whole image."""
    dense = np.zeros((4, 37, 53), np.bool_)
    y, x = np.mgrid[:37, :53]
    dense[0] = (x - 20) ** 2 + (y - 11) ** 2 < 90
    dense[1, 36, 50:] = True
    dense[3] = (x + y) % 3 > 0
    boxes = np.array([[10.5, 1.25, 30, 21], [50, 36, 53, 37], [4, 4, 5, 5], [0, 0, 53, 37]], np.float32)
    scores = np.array([0.9, 0.75, 0.5, 0.123456789], np.float32)
    plain = Segments.unprompted(boxes, scores, np.array([0, 1, 1, 0]), Masks.from_dense(dense), ("Katze", "Hündin"))
    return plain.answering([0, -1, 2, 1], [0.25, np.nan, 1, 0.333333], [np.nan, np.nan, 0.5, 0.000001])


if __name__ == "__main__":
    for suffix in (".npz", ".json"):
        segments().save(Path(__file__).with_name(f"old{suffix}"))
