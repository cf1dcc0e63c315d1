"""Cut-outs and photographed textures in synthetic scenes: labels are the alpha of what is pasted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
pytest.importorskip("skimage", reason="parts of cut-outs are numbered by scikit-image")

from scripts.demo_model import collect  # noqa: E402
from scripts.demo_model.scenes import arrangements, library, looks  # noqa: E402
from scripts.demo_model.scenes import scene as dead_leaves  # noqa: E402
from scripts.demo_model.scenes.painter import Painter  # noqa: E402
from scripts.demo_model.scenes.textures import MAP_SIZE  # noqa: E402

SMALL = (160, 240)


def disc() -> np.ndarray:
    """A red disc with a blue one inside, on a transparent ground; uint8 (100, 120, 4) BGRA."""
    picture = np.zeros((100, 120, 4), np.uint8)
    cv2.circle(picture, (60, 50), 40, (0, 0, 255, 255), -1)
    cv2.circle(picture, (60, 50), 20, (255, 0, 0, 255), -1)
    return picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library of one cut-out and one texture, as `collect` makes it."""
    source = tmp_path / "things"
    source.mkdir()
    cv2.imwrite(str(source / "disc.png"), disc())
    for name in ("cutouts", "textures"):
        (tmp_path / "library" / name).mkdir(parents=True)
    assert collect.collect_cutouts(tmp_path / "library/cutouts", source, 5) == 1
    noise = np.random.default_rng(0).integers(60, 200, (MAP_SIZE, MAP_SIZE, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "library/textures/noise.jpg"), noise)
    return tmp_path / "library"


@pytest.fixture
def opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> library.Library:
    """The library in use."""
    shared = library.Library.open(folder)
    monkeypatch.setattr(library, "_SHARED", [shared])
    return shared


def test_a_cutout_is_cropped_to_its_object_and_its_parts_are_numbered(opened: library.Library) -> None:
    cutout = opened.draw_cutout(np.random.default_rng(0))
    assert cutout.pixels.shape == (81, 81, 4)
    centre, edge, corner = cutout.parts[40, 40], cutout.parts[40, 10], cutout.parts[0, 0]
    assert (corner, len({centre, edge, corner})) == (0, 3)
    assert cutout.pixels[0, 0].tolist() == [255, 0, 0, 0]  # transparent, but no fringe when it is resampled


def test_what_is_pasted_is_labelled_as_a_whole_and_by_its_parts(opened: library.Library) -> None:
    painter = Painter.blank((200, 200))
    cutout = opened.draw_cutout(np.random.default_rng(0))
    arrangements.put(np.random.default_rng(3), painter, cutout, np.array([100.0, 100.0]), 60)
    masks, parents = painter.regions(0.004)
    whole = masks[parents == -1]
    assert len(whole) == 1
    assert whole[0].sum() == pytest.approx(np.pi * 60**2, rel=0.35)  # it is stretched by chance
    assert len(masks) == 3
    assert (masks & whole[0]).sum() == masks.sum()


def test_scenes_with_a_library_are_the_same_for_the_same_seed(opened: library.Library) -> None:
    first, again = (dead_leaves.scene(3, SMALL) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.masks, again.masks)


def test_a_photographed_texture_keeps_or_moves_its_colours(opened: library.Library) -> None:
    painted = [looks.new_look(np.random.default_rng(seed), mixed=0).render(0, 0, 40, 30) for seed in range(8)]
    assert {picture.shape for picture in painted} == {(30, 40, 3)}
    assert len({picture.tobytes() for picture in painted}) == 8


@pytest.mark.parametrize("alpha", ["all", "none", "two things"])
def test_pictures_that_are_no_single_thing_are_left_out(alpha: str, tmp_path: Path) -> None:
    picture = np.full((120, 120, 4), 200, np.uint8)
    if alpha != "all":
        picture[..., 3] = 0
    if alpha == "two things":
        picture[10:50, 10:110, 3] = picture[70:110, 10:110, 3] = 255
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    assert collect.cutout_of(tmp_path / "picture.png") is None


def test_a_texture_shows_one_material() -> None:
    noise = np.random.default_rng(0).integers(60, 200, (128, 128, 3), np.uint8)
    two = noise.copy()
    two[:, :64] //= 4
    assert collect.uniform(noise)
    assert not collect.uniform(two)


def test_an_empty_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found 0 cut-outs and 0 textures"):
        library.Library.open(tmp_path)
