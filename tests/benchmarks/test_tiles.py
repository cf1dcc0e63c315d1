"""The benchmark of tiles: its mosaic, its counting, and that its figures are those of the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.photographs import RESULTS
from benchmarks.tiles import best_ious, build, markdown
from fastsam_deploy.runtime import Masks, Segments


def test_a_mosaic_is_filled_with_photographs_of_one_size():
    rng = np.random.default_rng(0)
    images = [rng.integers(1, 255, size, np.uint8) for size in ((20, 30, 3), (30, 20, 3), (20, 30, 3))]
    mosaic, cells = build(images, 0.01)
    assert mosaic.shape[0] % 20 == 0 and mosaic.shape[1] % 30 == 0
    assert 0.5 * 0.01e6 < mosaic.shape[0] * mosaic.shape[1] < 2 * 0.01e6
    for i, (left, top, right, bottom) in enumerate(cells.tolist()):
        photo = (images[0], images[2][:, :])[i % 2]
        np.testing.assert_array_equal(mosaic[top:bottom, left:right], photo[:, :: -1 if i // 2 % 2 else 1])
    assert (mosaic > 0).all()


def test_of_photographs_of_different_sizes_a_part_is_taken():
    mosaic, cells = build([np.full((20, 30, 3), 1, np.uint8), np.full((40, 25, 3), 2, np.uint8)], 0.002)
    assert (cells[0] == (0, 0, 25, 20)).all() and set(np.unique(mosaic)) == {1, 2}


def test_found_is_the_best_iou_within_a_photograph():
    dense = np.zeros((3, 10, 20), np.bool_)
    dense[0, :, :5] = dense[1, :, 10:16] = dense[2, 2:4, 2:4] = True
    masks = Masks.from_dense(dense)
    alone = Segments.unprompted(masks.boxes_xyxy(), np.ones(3, np.float32), np.zeros(3, np.int64), masks)
    dense[1, :, 16:20] = True
    masks = Masks.from_dense(dense[:2])
    answer = Segments.unprompted(masks.boxes_xyxy(), np.ones(2, np.float32), np.zeros(2, np.int64), masks)
    cells = np.array([[0, 0, 10, 10], [10, 0, 20, 10]])
    np.testing.assert_allclose(best_ious(alone, answer, cells), [1, 0.6, 0])


def test_the_kept_figures_show_what_the_documents_say():
    report = json.loads((RESULTS / "tiles.json").read_text(encoding="utf-8"))
    assert markdown(report) == Path(RESULTS / "tiles.md").read_text(encoding="utf-8")
