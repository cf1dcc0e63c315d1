"""letterbox.cu against the CPU runtime's letterbox, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastsam_deploy.runtime import load_image
from fastsam_deploy.runtime.cuda import records
from fastsam_deploy.runtime.cuda.tables import Tables
from fastsam_deploy.runtime.cuda.upload import pack
from fastsam_deploy.runtime.errors import ImageError
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages.letterbox import Letterbox, fit, fit_rectangle, letterbox


def _noise(hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def _batch(host: Any, images: list[np.ndarray], places: list[Letterbox], size: int | None = None) -> Any:
    return host.Batch(host.library.kernels(), ModelSpec(), images, places, Thresholds(), size)


@pytest.mark.parametrize("imgsz", [96, 320, 640, 1024])
def test_photographs(host: Any, coffee: Path, cat: Path, imgsz: int):
    for path in (coffee, cat):
        image = load_image(path)
        for place in (fit_rectangle(image.shape[:2], imgsz), fit(image.shape[:2], (imgsz, imgsz))):
            batch = _batch(host, [image], [place])
            expected = letterbox(image, place)
            np.testing.assert_array_equal(batch.letterbox()[0], expected)
            np.testing.assert_array_equal(batch.letterbox("float16")[0], expected.astype(np.float16))


@pytest.mark.parametrize(
    "hw", [(1, 1), (1, 90), (90, 1), (31, 33), (33, 31), (64, 64), (65, 1), (128, 96), (2, 400), (301, 7)], ids=str
)
def test_edge_sizes(host: Any, hw: tuple[int, int]):
    image = _noise(hw)
    for place in (fit(hw, (64, 96)), fit(hw, (64, 64)), fit_rectangle(hw, 64)):
        np.testing.assert_array_equal(_batch(host, [image], [place]).letterbox()[0], letterbox(image, place))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([32, 64, 96, 160]), st.booleans(), st.integers(0, 99))
def test_random_sizes(host: Any, h: int, w: int, imgsz: int, rect: bool, seed: int):
    image = _noise((h, w), seed)
    place = fit_rectangle((h, w), imgsz) if rect else fit((h, w), (imgsz, imgsz))
    np.testing.assert_array_equal(_batch(host, [image], [place]).letterbox()[0], letterbox(image, place))


def test_a_batch_of_different_sizes_with_rows_past_the_group(host: Any, order: int):
    images = [_noise((50, 70), 1), _noise((33, 64), 2)[:, ::-1], _noise((200, 3), 3)]
    places = [fit(image.shape[:2], (64, 64)) for image in images]
    blob = _batch(host, images, places, size=5).letterbox()
    for row, image, place in zip(blob, images, places, strict=False):
        np.testing.assert_array_equal(row, letterbox(np.ascontiguousarray(image), place))
    assert not blob[3:].any()


def test_every_gray_value_is_truly_divided(host: Any):
    """No resize: 0 … 255 through the kernel are the float32 quotients, which a product with 1/255 is not."""
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16), 3).reshape(16, 16, 3)
    image = np.tile(image, (2, 2, 1))
    place = fit((32, 32), (32, 32))
    blob = _batch(host, [image], [place]).letterbox()[0]
    np.testing.assert_array_equal(blob, image.transpose(2, 0, 1) / np.float32(255))
    assert (blob != image.transpose(2, 0, 1) * np.float32(1 / 255)).any()


@pytest.mark.slow
@pytest.mark.parametrize("hw", [(4000, 6000), (6000, 64), (1, 9000)], ids=str)
def test_large_images(host: Any, hw: tuple[int, int]):
    image = _noise(hw)
    place = fit_rectangle(hw, 1024)
    np.testing.assert_array_equal(_batch(host, [image], [place]).letterbox()[0], letterbox(image, place))


def test_an_image_of_another_size_is_refused(host: Any):
    with pytest.raises(ImageError, match=r"\(40, 30, 3\), expected uint8 \(30, 40, 3\)"):
        _batch(host, [_noise((40, 30))], [fit((30, 40), (32, 32))])


def test_an_upload_that_is_too_small_is_refused():
    tables = Tables.of(fit((30, 40), (32, 32)), (8, 8))
    upload = np.zeros(tables.nbytes - 1, np.uint8)
    with pytest.raises(ValueError, match=f"upload of {tables.nbytes - 1} bytes"):
        pack([_noise((30, 40))], [tables], [Thresholds()], upload, np.zeros(1, records.PLACE_DTYPE))


@pytest.mark.parametrize("hw", [(1500, 2000), (700, 933), (2300, 3400)], ids=str)
def test_the_device_is_told_of_every_two_megabytes(hw: tuple[int, int]):
    """While one slice goes up the next one is written. The last has the tables too."""
    tables = Tables.of(fit_rectangle(hw, 1024), (256, 256))
    upload, places, told = np.zeros(tables.nbytes, np.uint8), np.zeros(1, records.PLACE_DTYPE), [0]
    pack([_noise(hw)], [tables], [Thresholds()], upload, places, told.append)
    slices = np.diff(told)
    assert told[-1] == tables.nbytes and (slices[:-1] >= 2_000_000).all() and (slices[:-1] < 2_020_000).all(), slices
    assert slices[-1] < 2_020_000 + tables.packed.nbytes


def test_records_have_the_layout_of_the_header(cpu_home: Any):
    types = {
        "Place": records.PLACE_DTYPE,
        "ResizeTap": records.RESIZE_TAP_DTYPE,
        "MaskTap": records.MASK_TAP_DTYPE,
        "Candidate": records.CANDIDATE_DTYPE,
        "Summary": records.SUMMARY_DTYPE,
        "Detection": records.DETECTION_DTYPE,
    }
    named = set()
    for record, field, offset in cpu_home.library.fields:
        dtype = types[record]
        if field:
            assert dtype.fields[field][1] == offset, (record, field)
            named.add((record, field))
        else:
            assert dtype.itemsize == offset, record
    assert named == {(record, field) for record, dtype in types.items() for field in dtype.names}
