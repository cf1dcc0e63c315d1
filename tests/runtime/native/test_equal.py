"""The compiled functions against their NumPy twins, on photographs and on random inputs, at every instruction set."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from fastsam_deploy.runtime import FastSAM, Thresholds, load_image
from fastsam_deploy.runtime.native.calls import CropWords, count_inside, count_shared, write_masks, write_planes
from fastsam_deploy.runtime.native.library import LEVELS, PATH, Library, _loaded
from fastsam_deploy.runtime.stages.decode import decode
from fastsam_deploy.runtime.stages.letterbox import fit_model, letterbox

from .cases import (
    check_boxes,
    check_decoded,
    check_overlaps,
    check_planes,
    check_resized,
    check_runs,
    masks_equal,
    random_masks,
)

if not PATH.is_file():
    pytest.skip("the compiled code was not built", allow_module_level=True)
FUNCTIONS = _loaded(PATH)
HERE = [name for level, name in enumerate(LEVELS) if FUNCTIONS.fastsam_has_level(level)]
ROOT = Path(__file__).resolve().parents[3]
PHOTOGRAPHS = sorted([*ROOT.glob("examples/images/*.jpg"), *ROOT.glob("export/photographs/*.jpg")])


@pytest.fixture(params=HERE)
def library(request: pytest.FixtureRequest) -> Library:
    return Library(FUNCTIONS, LEVELS.index(request.param))


@pytest.fixture(scope="module")
def network(demo_onnx: Path) -> FastSAM:
    with FastSAM(demo_onnx, imgsz=640) as model:
        yield model


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_photographs_have_the_twins_masks(network: FastSAM, path: Path) -> None:
    """All photographs that fidelity is measured on, as they are and at 3 MP; 300 masks each, down to the faint ones."""
    import cv2

    photograph = load_image(path)
    for image in (photograph, cv2.resize(photograph, (2000, 1500))):
        place = fit_model(image.shape[:2], network.spec, 640)
        raw = network._segmenter.engine.run(letterbox(image, place)[None])
        detections = decode(raw["detections"][0], network.spec, Thresholds(conf=0.05))
        boxes = place.boxes_to_image(detections.boxes_xyxy)
        for level, name in enumerate(LEVELS):
            if name in HERE:
                library = Library(FUNCTIONS, level)
                differing, pixels = masks_equal(library, detections.coefficients, raw["prototypes"][0], boxes, place)
                assert pixels > 1_000_000
                # What differs was checked to be rounding; more than a pixel in two million would not be.
                assert differing <= pixels / 2_000_000, name


@pytest.mark.parametrize("seed", range(60))
def test_any_shape_has_the_twins_masks(library: Library, seed: int) -> None:
    masks_equal(library, *random_masks(np.random.default_rng(seed)))


@pytest.mark.parametrize("seed", range(10))
def test_large_images_have_the_twins_masks(library: Library, seed: int) -> None:
    """Words that are decided without a calculation."""
    masks_equal(library, *random_masks(np.random.default_rng((1, seed)), largest=3000))


@pytest.mark.parametrize("check", [check_boxes, check_decoded, check_planes, check_resized, check_runs, check_overlaps])
def test_other_functions_have_the_twins_answers(library: Library, check) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        check(library, rng)


def test_every_value_of_a_pixel_is_divided_as_numpy_divides_it(library: Library) -> None:
    pixels = np.arange(256 * 3, dtype=np.int64).reshape(1, -1, 3) // 3
    planes = np.empty((3, 1, 256), np.float32)
    write_planes(library, pixels.astype(np.uint8), planes)
    np.testing.assert_array_equal(
        planes, np.broadcast_to(np.arange(256, dtype=np.float32) / np.float32(255), (3, 1, 256))
    )


def _small() -> dict:
    """Arguments of `write_masks` for one mask of 8 × 8 pixels."""
    axis = np.arange(8, dtype=np.int32).clip(0, 5), np.full((8, 3), 1 / 3, np.float32)
    return {
        "coefficients": np.ones((1, 2), np.float32),
        "prototypes": np.ones((2, 8, 8), np.float32),
        "corners_xyxy": np.array([[0, 0, 8, 8]]),
        "axes": (axis, axis),
        "threshold": 0.0,
        "words": np.zeros(8, np.uint32),
        "starts": np.zeros(1, np.int64),
        "areas": np.zeros(1, np.int64),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"corners_xyxy": np.array([[0, 0, 9, 8]])}, id="a crop beyond the image"),
        pytest.param({"corners_xyxy": np.array([[-1, 0, 8, 8]])}, id="a crop before the image"),
        pytest.param({"words": np.zeros(7, np.uint32)}, id="too few words"),
        pytest.param({"starts": np.array([1])}, id="a start too far"),
        pytest.param({"starts": np.array([-1])}, id="a start before the words"),
        pytest.param({"areas": np.zeros(2, np.int64)}, id="other areas"),
        pytest.param({"prototypes": np.ones((3, 8, 8), np.float32)}, id="another depth"),
        pytest.param({"prototypes": np.ones((2, 8, 7), np.float32)}, id="prototypes too narrow"),
        pytest.param({"words": np.zeros(8, np.int64)}, id="words of another type"),
    ],
)
def test_what_does_not_fit_never_reaches_the_library(library: Library, wrong: dict) -> None:
    assert write_masks(library, **_small())
    with pytest.raises(ValueError, match=r"\d"):
        write_masks(library, **{**_small(), **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"words": np.zeros(7, np.uint32)}, id="too few words"),
        pytest.param({"words": np.zeros(8, np.int64)}, id="words of another type"),
        pytest.param({"starts": np.array([1])}, id="a start too far"),
        pytest.param({"starts": np.array([-1])}, id="a start before the words"),
        pytest.param({"starts": np.zeros(2, np.int64)}, id="more starts than places"),
        pytest.param({"places_xyxy": np.array([[8, 0, 0, 8]])}, id="a crop of negative width"),
    ],
)
def test_crops_that_do_not_fit_never_reach_the_library(library: Library, wrong: dict) -> None:
    crops = CropWords(np.ones(8, np.uint32), np.zeros(1, np.int64), np.array([[0, 0, 8, 8]]))
    box = np.array([0, 0, 8, 8])
    pairs = np.array([[0, 0]])
    assert count_inside(library, crops, box[None]) == count_shared(library, crops, crops, pairs, box) == 8
    bad = crops._replace(**wrong)
    calls = [
        lambda: count_inside(library, bad, box[None]),
        lambda: count_shared(library, bad, crops, pairs, box),
        lambda: count_shared(library, crops, bad, pairs, box),
        lambda: count_shared(library, crops, crops, np.array([[0, 1]]), box),
        lambda: count_shared(library, crops, crops, np.array([[-1, 0]]), box),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"\d"):
            call()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (1, 7, 7), (1, 0, 4)])
def test_a_prototype_that_is_no_number_is_told(library: Library, bad: float, place: tuple[int, int, int]) -> None:
    arguments = _small()
    arguments["prototypes"][place] = bad
    assert not write_masks(library, **arguments)


def test_other_threads_run_during_a_call() -> None:
    """ctypes gives up the interpreter's lock: a thread counts on while another is in the library."""
    rng = np.random.default_rng(0)
    boxes = (rng.random((30_000, 4)) * 5000).astype(np.float32)
    boxes[:, 2:] = boxes[:, :2] + 1
    library, counted, ended = Library(FUNCTIONS, 0), 0, threading.Event()

    def suppress() -> None:
        from fastsam_deploy.runtime.native.calls import kept_rows

        kept_rows(library, boxes, 0.5, 30_000)
        ended.set()

    thread = threading.Thread(target=suppress)
    thread.start()
    while not ended.is_set():
        counted += 1
    thread.join()
    assert counted > 100
