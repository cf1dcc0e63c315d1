"""The shipped demo model on real photographs, and what users of the peers run into."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime import (
    Boxes,
    DeviceError,
    FastSAM,
    ImageError,
    ModelError,
    ParameterError,
    Points,
    PromptError,
    Segments,
    load_image,
)
from fastsam_deploy.runtime.engines import open_engine


@pytest.fixture(scope="module")
def engine(demo_onnx):
    with open_engine(demo_onnx) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(engine):
    with FastSAM(engine, imgsz=640, conf=0.25) as opened:
        yield opened


def _same(a: Segments, b: Segments) -> None:
    np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(a.masks.dense(), b.masks.dense())


def _nearly_same(a: Segments, b: Segments) -> None:
    """Another batch size can change the order of a sum: the same detections, masks equal but for stray pixels."""
    assert len(a) == len(b)
    np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=0.05)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
    for one, other in zip(a.masks, b.masks, strict=True):
        assert (one & other).sum() >= 0.99 * (one | other).sum()


def test_finds_segments_and_says_how_long_it_took(model, coffee):
    found = model.segment(coffee)
    assert len(found) >= 3 and found.image_hw == (400, 600)
    assert (np.diff(found.scores) <= 0).all() and (found.scores > 0.25).all() and (found.areas > 0).all()
    assert set(found.timing_ms) == {"load", "letterbox", "engine", "decode", "masks", "prompt"}
    assert all(ms >= 0 for ms in found.timing_ms.values())


def test_every_kind_of_source_gives_the_same(model, coffee):
    array = load_image(coffee)
    expected = model.segment(array)
    png = BytesIO()
    Image.fromarray(array).save(png, "PNG")
    for source in (coffee, str(coffee), coffee.read_bytes(), png.getvalue(), Image.open(coffee)):
        _same(model.segment(source), expected)
    _same(model.segment(array[..., ::-1], color="BGR"), expected)


def test_batches_of_different_sizes_keep_their_own_geometry(model, coffee, cat):
    """Only image 0 handled, every image scaled with image 0's shape, batch 3 fails: ul#2503, ul#23425."""
    images = [
        load_image(coffee),
        load_image(cat),
        load_image(coffee)[:, ::-1].copy(),
        load_image(cat).swapaxes(0, 1).copy(),
    ]
    together = model.segment_batch(images)
    assert [found.image_hw for found in together] == [image.shape[:2] for image in images]
    for image, found in zip(images, together, strict=True):
        _nearly_same(found, model.segment(image))
    assert model.segment_batch([]) == []


def test_a_prompt_after_is_a_prompt_before(model, coffee):
    prompt = [Points([[300, 200]], mode="each"), Boxes([[100, 50, 500, 350]])]
    everything = model.segment(coffee)
    _same(model.segment(coffee, prompt), everything.select(prompt))


def test_prompts_are_checked_against_the_image(model, coffee):
    with pytest.raises(PromptError, match="point 0"):
        model.segment(coffee, Points([[601, 10]]))


def test_many_threads_share_one_model(model, coffee, cat):
    """No currently active context, crashes when one context is shared: NVIDIA/TensorRT#475, YOLOv8-TensorRT#162."""
    images = [load_image(coffee), load_image(cat)] * 6
    expected = [model.segment(images[0]), model.segment(images[1])] * 6
    with ThreadPoolExecutor(6) as pool:
        for found, wanted in zip(pool.map(model.segment, images), expected, strict=True):
            _same(found, wanted)


def test_no_detection_is_an_empty_answer(model, engine):
    """No detection → crash: CASIA#80, ul#17623."""
    flat = np.full((120, 200, 3), 114, np.uint8)
    with FastSAM(engine, conf=0.9999) as strict:
        nothing = strict.segment(flat)
        assert len(nothing) == 0 and nothing.masks.dense().shape == (0, 120, 200)
        assert len(nothing.select(Points([[5, 5]]))) == 0 and len(nothing.select(Boxes([0, 0, 9, 9]))) == 0
    assert len(model.segment(flat)) >= 0, "an engine that was handed in stays open"


@pytest.mark.parametrize("shape", [(17, 9), (1, 1), (1, 200), (4000, 300), (33, 31)])
def test_odd_sizes(model, cat, shape):
    image = cv2.resize(load_image(cat), shape[::-1])
    found = model.segment(image)
    assert found.image_hw == shape
    boxes = found.boxes_xyxy
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= shape[1]).all() and (boxes[:, [1, 3]] <= shape[0]).all()


@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(lambda rgb: rgb[..., 0], id="gray"),
        pytest.param(lambda rgb: rgb[..., :1], id="(h, w, 1)"),
        pytest.param(lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]), id="RGBA"),
        pytest.param(lambda rgb: rgb.astype(np.uint16) * 257, id="16-bit"),
        pytest.param(np.asfortranarray, id="columns first in memory"),
        pytest.param(lambda rgb: rgb[:, ::-1][:, ::-1], id="negative strides"),
    ],
)
def test_arrays_that_crash_the_peers(model, cat, convert):
    """gray, (H,W,1), RGBA, 16-bit images → crash: ul#24750, #25150."""
    rgb = load_image(cat)
    found = model.segment(convert(rgb))
    assert found.image_hw == rgb.shape[:2] and len(found) > 0


def test_a_bad_image_in_a_batch_is_named(model, coffee):
    with pytest.raises(ImageError, match="image 1 of 2"):
        model.segment_batch([coffee, b"not an image"])


def test_square_and_rectangle_differ_in_input_not_in_size_of_the_answer(engine, coffee):
    with FastSAM(engine, imgsz=640, conf=0.25, rect=False) as square:
        assert square.segment(coffee).image_hw == (400, 600)


@pytest.mark.parametrize(
    "settings",
    [{"conf": 1.0}, {"conf": -0.1}, {"iou": 0}, {"iou": 1.1}, {"max_det": 0}, {"imgsz": 1000}, {"threads": 0}],
)
def test_settings_out_of_range(settings):
    with pytest.raises(ParameterError, match="expected"):
        FastSAM(**settings)


def test_max_det(model, engine, coffee):
    with FastSAM(engine, imgsz=640, conf=0.25, max_det=2) as two:
        found, everything = two.segment(coffee), model.segment(coffee)
    np.testing.assert_array_equal(found.boxes_xyxy, everything[:2].boxes_xyxy)


def test_a_device_is_never_replaced(demo_onnx):
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(DeviceError, match=r"CPUExecutionProvider.*gpu"):
            FastSAM(demo_onnx, device="cuda")
    with pytest.raises(DeviceError, match="expected 'cpu', 'cuda'"):
        FastSAM(demo_onnx, device="tpu")


def test_files_that_are_no_model(tmp_path, demo_onnx):
    content = demo_onnx.read_bytes()
    for name, data in (("empty.onnx", b""), ("cut.onnx", content[: len(content) // 2]), ("text.onnx", b"hello")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=name):
            FastSAM(tmp_path / name)
    for name, says in (
        ("absent.onnx", "no such file"),
        ("FastSAM-s.pt", "fastsam-export onnx"),
        ("m.tflite", "expected"),
    ):
        with pytest.raises(ModelError, match=says):
            FastSAM(tmp_path / name)


def test_an_input_that_the_model_does_not_take(engine):
    for shape in ((1, 3, 100, 128), (3, 64, 64), (1, 1, 64, 64)):
        with pytest.raises(ParameterError, match="network input is"):
            engine.run(np.zeros(shape, np.float32))


def test_a_closed_model_says_so(coffee, demo_onnx):
    engine = open_engine(demo_onnx)
    engine.close()
    engine.close()
    with FastSAM(engine) as closed, pytest.raises(ModelError, match="closed"):
        closed.segment(coffee)
