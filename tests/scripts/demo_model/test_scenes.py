"""The scene generator's promises: same seed same scene, and labels that are what one sees."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from scripts.demo_model.scenes import arrangements as scene_arrangements  # noqa: E402
from scripts.demo_model.scenes import looks as scene_looks  # noqa: E402
from scripts.demo_model.scenes import objects as scene_objects  # noqa: E402
from scripts.demo_model.scenes import painter as scene_painter  # noqa: E402
from scripts.demo_model.scenes import scene as dead_leaves  # noqa: E402
from scripts.demo_model.scenes import shapes as scene_shapes  # noqa: E402
from scripts.demo_model.scenes import textures as scene_textures  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
SEEDS = range(24)
SMALL = (160, 240)


@pytest.fixture(scope="module")
def scenes() -> list[dead_leaves.Scene]:
    """A few small scenes."""
    return [dead_leaves.scene(seed, SMALL) for seed in SEEDS]


def square(x0: float, y0: float, x1: float, y1: float) -> list[scene_shapes.Part]:
    """One plain rectangle in object coordinates."""
    return [scene_shapes.Part(scene_shapes.box(x0, y0, x1, y1))]


def test_same_seed_same_scene(scenes: list[dead_leaves.Scene]) -> None:
    # In another order: a scene must not depend on the ones painted before it.
    for seed in (5, 0, 3):
        again = dead_leaves.scene(seed, SMALL)
        np.testing.assert_array_equal(again.image, scenes[seed].image)
        np.testing.assert_array_equal(again.masks, scenes[seed].masks)
        np.testing.assert_array_equal(again.parents, scenes[seed].parents)


def test_same_seed_same_scene_in_another_process(scenes: list[dead_leaves.Scene]) -> None:
    code = (
        "import zlib; from scripts.demo_model.scenes import scene as dead_leaves;"
        f"s = dead_leaves.scene(3, {SMALL}); print(zlib.crc32(s.image.tobytes()), zlib.crc32(s.masks.tobytes()))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert printed == [str(zlib.crc32(part.tobytes())) for part in (scenes[3].image, scenes[3].masks)]


def test_seeds_differ(scenes: list[dead_leaves.Scene]) -> None:
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)


def test_shapes_and_types(scenes: list[dead_leaves.Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (*SMALL, 3)
        assert scene.image.dtype == np.uint8
        assert scene.masks.shape[1:] == SMALL
        assert scene.masks.dtype == bool
        assert scene.parents.shape == (len(scene.masks),)
        assert len(scene.masks) > 0


def test_no_label_below_the_area_limit(scenes: list[dead_leaves.Scene]) -> None:
    for scene in scenes:
        assert (scene.masks.mean((1, 2)) >= scene_painter.MIN_AREA).all()


def test_parts_lie_within_their_wholes(scenes: list[dead_leaves.Scene]) -> None:
    nested = 0
    for scene in scenes:
        for mask, parent in zip(scene.masks, scene.parents, strict=True):
            if parent >= 0:
                nested += 1
                assert not (mask & ~scene.masks[parent]).any()
                assert mask.sum() < scene.masks[parent].sum()
    assert nested > 10, "the scenes hold hardly any parts: the nesting is not tested"


def test_labels_nest_or_stay_apart(scenes: list[dead_leaves.Scene]) -> None:
    for scene in scenes:
        for first in range(len(scene.masks)):
            for second in range(first):
                shared = scene.masks[first] & scene.masks[second]
                sizes = (scene.masks[first].sum(), scene.masks[second].sum())
                assert shared.sum() in (0, min(sizes))


def test_labels_differ_from_each_other(scenes: list[dead_leaves.Scene]) -> None:
    for scene in scenes:
        flat = scene.masks.reshape(len(scene.masks), -1).astype(np.float32)
        shared = flat @ flat.T
        areas = np.diag(shared)
        overlap = shared / (areas[:, None] + areas[None] - shared)
        np.fill_diagonal(overlap, 0)
        assert overlap.max(initial=0) <= scene_painter.SAME_REGION_IOU


def test_an_occluder_splits_a_region_but_not_its_label() -> None:
    rng = np.random.default_rng(0)
    painter = scene_painter.Painter.blank((100, 100))
    wall = painter.node()
    flat = scene_looks.new_look(rng, "stone", contrast=2.0)
    painter.fill(scene_painter.full(painter), flat, wall, rng)
    rect = (40, 0, 60, 100)
    painter.own(rect, np.full((100, 20), 255, np.uint8), painter.node())
    masks, parents = painter.regions(0.01)
    assert [int(mask.sum()) for mask in masks] == [8000, 2000]
    assert list(parents) == [-1, -1]
    count, _ = cv2.connectedComponents(masks[0].astype(np.uint8))
    assert count - 1 == 2


def test_a_label_is_where_its_paint_is() -> None:
    rng = np.random.default_rng(1)
    painter = scene_painter.Painter.blank((80, 120))
    painter.fill(scene_painter.full(painter), scene_looks.new_look(rng, "dark", contrast=1.0), painter.node(), rng)
    before = painter.image.copy()
    alpha = np.zeros((30, 40), np.uint8)
    alpha[5:25, 10:30] = 255
    rect, node = (20, 40, 60, 70), painter.node()
    painter.blend(rect, alpha, np.full((30, 40, 3), 250, np.uint8))
    painter.own(rect, alpha, node)
    changed = (painter.image != before).any(-1)
    np.testing.assert_array_equal(changed, painter.owner == node)
    assert changed.sum() == 400


def test_a_part_and_its_whole_are_both_labelled() -> None:
    rng = np.random.default_rng(2)
    painter = scene_painter.Painter.blank((200, 200))
    parts = [*square(-1, -1, 1, 1), scene_shapes.Part(scene_shapes.box(-0.5, -0.5, 0.5, 0.5), "patch", "patch")]
    scene_arrangements.put(rng, painter, parts, np.array([100.0, 100.0]), 60.0)
    masks, parents = painter.regions(0.01)
    assert len(masks) == 2
    assert parents[0] == -1
    assert parents[1] == 0


def test_a_group_equal_to_its_only_member_is_one_label() -> None:
    rng = np.random.default_rng(3)
    painter = scene_painter.Painter.blank((200, 200))
    scene_arrangements.put(rng, painter, square(-1, -1, 1, 1), np.array([100.0, 100.0]), 50.0, painter.node())
    assert len(painter.regions(0.01)[0]) == 1


@pytest.mark.parametrize("name", list(scene_objects.OBJECTS))
def test_objects_are_finite_polygons(name: str) -> None:
    for seed in range(20):
        parts = scene_objects.OBJECTS[name][0](np.random.default_rng(seed))
        assert parts
        for part in parts:
            assert part.outline.ndim == 2
            assert part.outline.shape[0] >= 3
            assert part.outline.shape[1] == 2
            assert np.isfinite(part.outline).all()
            assert np.abs(part.outline).max() < 4
            assert part.family in scene_looks.FAMILIES


def test_objects_outside_the_frame_leave_no_label() -> None:
    painter = scene_painter.Painter.blank((64, 64))
    scene_arrangements.put(np.random.default_rng(0), painter, square(-1, -1, 1, 1), np.array([-500.0, 900.0]), 20.0)
    assert len(painter.regions(0.0)[0]) == 0


@pytest.mark.parametrize("kind", scene_textures.KINDS)
def test_texture_maps_use_the_grey_range(kind: str) -> None:
    for grey in scene_textures.shared_bank().maps[kind]:
        assert grey.shape == (scene_textures.MAP_SIZE,) * 2
        assert grey.dtype == np.uint8
        assert grey.std() > 15


@pytest.mark.parametrize(
    ("size", "area", "message"), [((16, 240), 0.004, "at least 32"), (SMALL, 1.5, "share of the image")]
)
def test_impossible_scenes_are_refused(size: tuple[int, int], area: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dead_leaves.scene(0, size, area)


def test_contact_sheet_size() -> None:
    assert dead_leaves.contact_sheet(0, 1, 2, (64, 96)).shape == (64, 4 * 96, 3)


@pytest.mark.export
def test_views_keep_labels_and_boxes_together() -> None:
    pytest.importorskip("torch")
    from scripts.demo_model.scenes import pool

    painted = dead_leaves.scene(4, (320, 480))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        image, masks, boxes = pool.cut_view(rng, painted.image, painted.masks.astype(np.uint8), (224, 320), 0.004)
        assert image.shape == (224, 320, 3)
        assert masks.shape[1:] == (56, 80)
        assert len(masks) == len(boxes)
        assert (boxes >= 0).all()
        assert (boxes <= 1).all()
        for mask, (cx, cy, w, h) in zip(masks, boxes, strict=True):
            rows, columns = np.nonzero(mask)
            seen = [columns.min() / 80, rows.min() / 56, (columns.max() + 1) / 80, (rows.max() + 1) / 56]
            # Thin ends vanish at a quarter of the size; a wrong shift or mirror would move whole boxes.
            np.testing.assert_allclose(seen, [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], atol=0.08)


@pytest.mark.export
def test_a_pool_of_another_generator_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from scripts.demo_model.scenes import pool

    (tmp_path / "generator.json").write_text('{"sha256": "0123456789abcdef"}')
    with pytest.raises(ValueError, match="another --pool"):
        pool.fill_pool(tmp_path, 0, 1, 1)


@pytest.mark.export
@pytest.mark.parametrize("sides", [(6, 6, 0, 0), (0, 0, 10, 10)])
def test_padding_is_grey_and_has_no_label(
    scenes: list[dead_leaves.Scene], sides: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from scripts.demo_model.scenes import pool

    monkeypatch.setattr(pool, "padding", lambda rng: sides)
    masks = scenes[0].masks.astype(np.uint8)
    image, small, boxes = pool.cut_view(np.random.default_rng(0), scenes[0].image, masks, (160, 224), 0.004)
    top, bottom, left, right = sides
    padded = np.ones(image.shape[:2], bool)
    padded[top : 160 - bottom, left : 224 - right] = False
    assert (image[padded] == pool.GREY).all() and len(boxes) > 3
    assert not (small.any(0).repeat(4, 0).repeat(4, 1) & cv2.erode(padded.astype(np.uint8), np.ones((5, 5)))).any()
    x, y, width, height = (boxes * [224, 160, 224, 160]).round(3).T
    assert (x - width / 2).min() >= left and (y - height / 2).min() >= top
    assert (x + width / 2).max() <= 224 - right and (y + height / 2).max() <= 160 - bottom


@pytest.mark.export
@pytest.mark.parametrize("text", ["448x640", "448:1", "450x640:1", "448x640:0.5", "x:1"])
def test_bad_stages_are_refused(text: str) -> None:
    pytest.importorskip("ultralytics")
    from scripts.demo_model import train as trainer

    with pytest.raises(SystemExit, match="--stages"):
        trainer.parse_stages(text)


@pytest.mark.export
def test_the_learning_rate_warms_up_and_anneals() -> None:
    pytest.importorskip("ultralytics")
    from scripts.demo_model import train as trainer

    rates = [trainer.learning_rate(progress / 1000, 2.0) for progress in range(1001)]
    peak = int(np.argmax(rates))
    assert 20 <= peak <= 40
    assert max(rates) == pytest.approx(2.0, rel=0.01)
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.02)
    assert (np.diff(rates[peak:]) <= 0).all()


@pytest.mark.export
@pytest.mark.parametrize(("cost", "expected"), [({1: 1.0, 2: 0.6}, 2), ({1: 1.0, 2: 3.0}, 1)])
def test_the_faster_number_of_threads_is_kept(cost: dict[int, float], expected: int) -> None:
    pytest.importorskip("ultralytics")
    from scripts.demo_model import train as trainer

    tuner = trainer.ThreadTuner(most=2)
    chosen = []
    for _ in range(2 * tuner.period):
        chosen.append(tuner.choose())
        tuner.report(chosen[-1], cost[chosen[-1]])
    assert set(chosen[: 2 * tuner.trial]) == {1, 2}
    assert set(chosen[2 * tuner.trial : tuner.period]) == {expected}


@pytest.mark.export
def test_scores_of_perfect_and_missing_masks() -> None:
    pytest.importorskip("ultralytics")
    from scripts.demo_model import evaluate as judge

    segments = np.repeat([[1, 1, 2, 2]], 4, 0)
    halves = np.stack([segments == 1, np.ones_like(segments, bool)])
    assert judge.best_overlaps(halves, segments) == [1.0, 0.5]
    assert judge.best_overlaps(halves[:0], segments) == [0.0, 0.0]


@pytest.mark.export
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("processes", [1, 2])
def test_training_writes_a_loadable_checkpoint(tmp_path: Path, processes: int) -> None:
    pytest.importorskip("ultralytics")
    from scripts.demo_model.train import LICENSE

    out = tmp_path / "demo.pt"
    words = ["--out", str(out), "--pool", str(tmp_path / "pool"), "--scenes", "12", "--minutes", "0.15"]
    words += ["--batch", "2", "--stages", "128x192:0.5,160x224:1", "--workers", "1", "--processes", str(processes)]
    command = [sys.executable, "-m", "scripts.demo_model.train", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob(".*"))
    import torch
    from ultralytics import YOLO

    stored = torch.load(out, weights_only=False)
    assert stored["recipe"]["images"] == stored["recipe"]["steps"] * 2 * processes > 0
    assert stored["license"] == LICENSE
    assert stored["model"].names == {0: "object"}
    assert next(stored["model"].parameters()).dtype == torch.float16
    picture = dead_leaves.scene(1, SMALL).image
    result = YOLO(str(out))(picture, imgsz=160, conf=0.001, device="cpu", verbose=False)[0]
    assert result.names == {0: "object"}
