"""The benchmark of tiles: its mosaic, its counting, and that its figures are those of the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.photographs import RESULTS
from benchmarks.tiles import Judge, build, markdown, reach_an_edge
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


def _segments(dense: np.ndarray, scores: list[float]) -> Segments:
    masks = Masks.from_dense(dense)
    return Segments.unprompted(masks.boxes_xyxy(), np.array(scores, np.float32), np.zeros(len(dense), np.int64), masks)


def test_found_is_the_best_iou_within_a_photograph():
    cells = np.array([[0, 0, 10, 10], [10, 0, 20, 10]])
    dense = np.zeros((4, 10, 20), np.bool_)
    dense[0, :, :4] = dense[1, :, 10:16] = dense[2, 2:4, 5:7] = dense[3, 7:9, 17:19] = True
    judge = Judge(_segments(dense, [0.9, 0.8, 0.7, 0.3]), 0.4, cells)
    assert len(judge.alone) == 3 and reach_an_edge(judge.alone, cells).tolist() == [True, True, True]
    dense[1, :, 1:10] = True  # it goes on in the photograph to the left
    dense[2] = False
    dense[2, 7:9, 8:9] = True
    answer = judge.of(_segments(dense, [0.9, 0.8, 0.7, 0.6]))
    assert answer["found"] == {"0.5": round(2 / 3, 4), "0.75": round(2 / 3, 4)}
    assert answer["found_comparing_whole_masks"] == round(1 / 3, 4)
    assert answer["not_in_photographs"] == 0.5 and answer["not_in_photographs_at_half_conf"] == 0.25


def test_the_kept_figures_show_what_the_documents_say():
    report = json.loads((RESULTS / "tiles.json").read_text(encoding="utf-8"))
    assert markdown(report) == Path(RESULTS / "tiles.md").read_text(encoding="utf-8")
