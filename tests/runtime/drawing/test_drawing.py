"""Segments drawn with every option, kept with their image, and shown in a notebook. Pictures of a real photograph."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageShow

from fastsam_deploy.runtime import Boxes, FastSAM, FastSamError, ParameterError, Points, Segments, load_image
from fastsam_deploy.runtime.drawing.colors import distinct_colors, segment_colors
from fastsam_deploy.runtime.drawing.layer import layer_png
from fastsam_deploy.runtime.native.library import state
from fastsam_deploy.runtime.render import draw_segments
from tests.data.segments import make


@pytest.fixture(scope="module")
def image(coffee: Path) -> NDArray[np.uint8]:
    return load_image(coffee)


@pytest.fixture(scope="module")
def everything(coffee: Path) -> Segments:
    with FastSAM() as model:
        return model.segment(coffee)


@pytest.fixture(scope="module")
def prompted(everything: Segments) -> Segments:
    return everything.select([Points([[300, 200], [90, 60]], mode="each"), Boxes([[150, 150, 450, 380]])])


def test_overlays_without_new_options_are_those_of_earlier_versions_to_the_byte():
    segments = make.segments()
    y, x = np.mgrid[:37, :53]
    plain = np.stack([x * 4, y * 6, (x + y) * 2], 2).astype(np.uint8)
    pictures = (
        draw_segments(plain, segments),
        draw_segments(plain, segments, alpha=0.7, contours=False),
        draw_segments(plain, segments, colors=(200, 30, 99)),
    )
    digests = [hashlib.sha256(picture.tobytes()).hexdigest()[:16] for picture in pictures]
    assert digests == ["b7be885cb4996645", "fa969f6e5a57e6ab", "1a58cbe9dc1e3e31"]


def test_contours_alone_leave_the_inside(everything: Segments, image: NDArray[np.uint8]):
    full, only = everything.plot(image), everything.plot(image, contours="only")
    np.testing.assert_array_equal(only, everything.plot(image, alpha=0))
    changed = (only != image).any(2)
    assert 0 < changed.mean() < 0.2 < (full != image).any(2).mean()
    with pytest.raises(ParameterError, match="contours is 'all', expected True, False or 'only'"):
        everything.plot(image, contours="all")  # type: ignore[arg-type]


def test_boxes_are_drawn_at_the_boxes_in_the_colours_of_their_segments(prompted: Segments, image: NDArray[np.uint8]):
    drawn = prompted.plot(image, boxes=True, alpha=0, contours=False)
    colors = segment_colors(prompted)
    for i in np.argsort(prompted.areas)[:1]:
        left, top, right, bottom = np.rint(prompted.boxes_xyxy[i]).astype(int)
        assert (drawn[top, left:right] == colors[i]).all() and (drawn[bottom - 1, left:right] == colors[i]).all()
        assert (drawn[top:bottom, left] == colors[i]).all() and (drawn[top:bottom, right - 1] == colors[i]).all()
    outside = np.ones(image.shape[:2], np.bool_)
    for left, top, right, bottom in np.rint(prompted.boxes_xyxy).astype(int):
        outside[top:bottom, left:right] = False
    np.testing.assert_array_equal(drawn[outside], image[outside])


@pytest.mark.parametrize("options", [{"labels": True}, {"scores": True}, {"labels": True, "scores": True}])
def test_labels_lie_within_the_picture_and_beside_one_another(options: dict[str, bool], image: NDArray[np.uint8]):
    segments = make.segments()[[0, 1]]
    height, width = segments.image_hw
    plain = np.zeros((height, width, 3), np.uint8)
    drawn = segments.plot(plain, alpha=0, contours=False, **options)
    assert drawn.shape == plain.shape and drawn.any()
    wide = Segments.from_json({**segments.to_json(), "class_names": ["a name much wider than the picture", "ü"]})
    assert wide.plot(plain, **options).shape == plain.shape
    nothing = Segments.empty(image.shape[:2])
    np.testing.assert_array_equal(nothing.plot(image, boxes=True, **options), image)


def test_text_of_labels_can_be_read_on_light_and_dark_colours(everything: Segments, image: NDArray[np.uint8]):
    one = everything[:1]
    for color, text in (((255, 255, 0), (0, 0, 0)), ((0, 0, 128), (255, 255, 255))):
        drawn = one.plot(image, labels=True, alpha=0, contours=False, colors=color)
        changed = drawn[(drawn != image).any(2)]
        assert (changed == color).all(1).sum() > 100 and (
            np.abs(changed.astype(int) - text).max(1) < 60
        ).sum() > 10  # its edges are soft


def test_what_chooses_colours(prompted: Segments):
    n = len(prompted)
    np.testing.assert_array_equal(segment_colors(prompted), distinct_colors(n))
    assert prompted.prompts.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(segment_colors(prompted[::-1], "prompt"), distinct_colors(3)[::-1])
    assert len(np.unique(segment_colors(prompted, "class"), axis=0)) == 1
    np.testing.assert_array_equal(segment_colors(prompted, [7, 2, 7]), distinct_colors(8)[[7, 2, 7]])
    unprompted = make.segments()
    assert segment_colors(unprompted, "prompt")[1].tolist() == [128, 128, 128]
    for wrong in ("score", [1, 2], [0.5, 1, 2], [-1, 0, 1]):
        with pytest.raises(ParameterError, match="color_by is "):
            segment_colors(prompted, wrong)


def test_the_image_is_kept_only_when_asked(everything: Segments, image: NDArray[np.uint8], coffee: Path):
    assert everything.image is None
    kept = everything.on(image)
    assert kept.image is image and kept == everything
    selected = kept.select(Points([[300, 200]]))
    assert selected.image is image and kept[:3].image is image
    np.testing.assert_array_equal(selected.plot(), selected.plot(image))
    with Image.open(coffee) as photo:
        np.testing.assert_array_equal(everything.on(photo).plot(), everything.plot(image))
    assert pickle.loads(pickle.dumps(kept)).image is None
    with pytest.raises(ParameterError, match=r"image is uint8 \(10, 10, 3\), the segments are of an image of"):
        everything.on(np.zeros((10, 10, 3), np.uint8))
    plain = everything.plot()
    assert plain.shape == image.shape and not np.array_equal(plain, everything.plot(image))


def test_a_model_keeps_the_image_that_it_was_given(coffee: Path, image: NDArray[np.uint8]):
    with FastSAM() as model:
        kept = model.segment(coffee, Points([[300, 200]]), keep_image=True)
        bgr = model.segment(image[..., ::-1].copy(), Points([[300, 200]]), color="BGR", keep_image=True)
        plain = model.segment(coffee, Points([[300, 200]]))
    assert kept == bgr == plain and plain.image is None
    assert kept.image is not None and bgr.image is not None
    np.testing.assert_array_equal(kept.image, image)
    np.testing.assert_array_equal(bgr.image, image)
    assert kept.timing_ms["load"] > 0 and set(kept.timing_ms) == set(plain.timing_ms)


def test_repr_is_one_line(everything: Segments, prompted: Segments):
    low, high = everything.scores.min(), everything.scores.max()
    assert repr(everything) == f"Segments({len(everything)} in 400×600, scores {low:.2f}–{high:.2f})"
    assert repr(everything[:1]) == f"Segments(1 in 400×600, score {everything.scores[0]:.2f})"
    assert repr(Segments.empty((3, 4))) == "Segments(0 in 3×4)"
    assert "\n" not in repr(prompted)


def test_repr_of_a_model_says_what_runs_where():
    with FastSAM() as model:
        network = "model='fastsam-demo.onnx', engine='onnxruntime', precision='fp32', device='cpu'"
        expected = f"FastSAM({network}, masks='{state()}')"
        assert repr(model) == expected
    assert repr(model) == expected  # closed


def test_a_notebook_gets_a_picture_and_a_table(everything: Segments, image: NDArray[np.uint8]):
    html = everything.on(image)._repr_html_()
    assert html.count("<tr>") == 9 and f"and {len(everything) - 8} more" in html
    assert "data:image/png;base64," in html and "400×600" in html
    with Image.open(io.BytesIO(everything.on(image)._repr_png_())) as shown:
        np.testing.assert_array_equal(np.asarray(shown), everything.plot(image))
    evil = Segments.from_json({**make.segments().to_json(), "class_names": ["<script>", "b"]})
    assert "<script>" not in evil._repr_html_() and "&lt;script&gt;" in evil._repr_html_()
    assert Segments.empty((2000, 30))._repr_html_().count("<img") == 1
    with Image.open(io.BytesIO(Segments.empty((2000, 3000))._repr_png_())) as shown:
        assert shown.size == (720, 480)


def test_ipython_finds_both(everything: Segments):
    formatters = pytest.importorskip("IPython.core.formatters")
    shown, _ = formatters.DisplayFormatter().format(everything)
    assert {"text/plain", "text/html", "image/png"} <= set(shown)
    assert shown["text/plain"] == repr(everything)


def test_show_opens_a_viewer_or_says_that_there_is_none(
    everything: Segments, image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
):
    class Kept(ImageShow.Viewer):
        pictures: list[NDArray[np.uint8]] = []  # noqa: RUF012

        def show(self, image: Image.Image, **_: object) -> int:
            self.pictures.append(np.asarray(image))
            return 1

    monkeypatch.setattr(ImageShow, "_viewers", [Kept()])
    everything.show(image, boxes=True)
    np.testing.assert_array_equal(Kept.pictures[0], everything.plot(image, boxes=True))
    monkeypatch.setattr(ImageShow, "_viewers", [])
    with pytest.raises(FastSamError, match="no program that shows pictures was found"):
        everything.show(image)


@pytest.mark.parametrize("contours", [True, False])
def test_a_layer_over_the_image_is_the_overlay(everything: Segments, image: NDArray[np.uint8], contours: bool):
    layer = np.asarray(Image.open(io.BytesIO(layer_png(everything, contours=contours))).convert("RGBA")).astype(float)
    opacity = layer[..., 3:] / 255
    over = image * (1 - opacity) + layer[..., :3] * opacity
    assert np.abs(over - draw_segments(image, everything, contours=contours)).max() <= 1.5  # rounding


def test_a_small_layer_has_the_labels_of_the_large_one(everything: Segments):
    small = np.asarray(Image.open(io.BytesIO(layer_png(everything, 300, contours=False))).convert("RGBA"))
    large = np.asarray(Image.open(io.BytesIO(layer_png(everything, contours=False))).convert("RGBA"))
    assert small.shape == (200, 300, 4)
    np.testing.assert_array_equal(small, large[::2, ::2])


def test_a_layer_has_room_for_many_segments(everything: Segments):
    many = everything[[0] * 300]
    with Image.open(io.BytesIO(layer_png(many, contours=False))) as picture:
        opaque = np.asarray(picture.convert("RGBA"))[..., 3] > 0
    np.testing.assert_array_equal(opaque, everything.masks.full(0))
    with pytest.raises(ParameterError, match="alpha is 2"):
        layer_png(everything, alpha=2)
