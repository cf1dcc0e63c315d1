"""The figures of a fidelity run are right, its gate fails when it must, and its report says which and where."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco
from typer.testing import CliRunner, Result

from fastsam_deploy.runtime import FastSAM, Masks, Segments, load_image
from fastsam_deploy.runtime.cli import main as cli
from fastsam_deploy.runtime.cli.bench import bench
from fastsam_deploy.runtime.errors import FastSamError, ImageError, ParameterError
from fastsam_deploy.runtime.masks.overlap import boundary_f, mask_iou, mask_ious
from fastsam_deploy.runtime.masks.store import concatenate
from fastsam_deploy.runtime.measure.fidelity import IOUS, Fidelity, compare, fidelity
from fastsam_deploy.runtime.measure.findings import failures
from fastsam_deploy.runtime.measure.gate import Contender, FidelityLimits, measure
from fastsam_deploy.runtime.measure.gate import Result as GateResult
from fastsam_deploy.runtime.measure.pictures import PANEL_PX, draw_comparison
from fastsam_deploy.runtime.measure.report import Report
from fastsam_deploy.runtime.measure.run import parse_model

HW = (40, 60)
FAST = ("--imgsz", "320", "--threads", "1", "--conf", "0.2")


def blobs(seed: int, count: int, hw: tuple[int, int] = HW) -> NDArray[np.bool_]:
    """(count, h, w) masks with soft, holey outlines; the first is empty, the second is everything."""
    noise = np.random.default_rng(seed).normal(size=(count, *hw)).astype(np.float32)
    dense = np.stack([cv2.GaussianBlur(one, (0, 0), 4) for one in noise]) > 0.03
    dense[0], dense[1] = False, True
    return dense


def answer(
    *rectangles: tuple[int, int, int, int], classes: list[int] | None = None, scores: list[float] | None = None
) -> Segments:
    """Segments that fill rectangles (left, top, right, bottom) of an image of HW."""
    dense = np.zeros((len(rectangles), *HW), np.bool_)
    for mask, (left, top, right, bottom) in zip(dense, rectangles, strict=True):
        mask[top:bottom, left:right] = True
    boxes = np.array(rectangles, np.float32).reshape(-1, 4)
    given = np.array(scores if scores is not None else [0.9] * len(rectangles), np.float32)
    numbers = np.array(classes if classes is not None else [0] * len(rectangles), np.int64)
    return Segments.unprompted(boxes, given, numbers, Masks.from_dense(dense))


def empty() -> Segments:
    return Segments.empty(HW)


@pytest.fixture(scope="module")
def found(coffee: Path, cat: Path) -> list[Segments]:
    with FastSAM(imgsz=320, conf=0.2, threads=1) as model:
        return [model.segment(coffee), model.segment(cat)]


# Masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_iou_of_masks_is_that_of_pycocotools(seed: int) -> None:
    one, two = blobs(seed, 6), blobs(seed + 100, 5)
    expected = coco.iou(*([coco.encode(np.asfortranarray(m.astype(np.uint8))) for m in d] for d in (two, one)), [0] * 6)
    ious = mask_ious(Masks.from_dense(one), Masks.from_dense(two))
    assert ious[0, 0] == 1  # both without a pixel
    ious[0, 0] = expected[0, 0]  # which is 0 / 0 there
    np.testing.assert_allclose(ious, np.nan_to_num(expected).T, rtol=1e-12)


def test_the_iou_of_real_masks_does_not_depend_on_the_width_of_the_crops(found: list[Segments]) -> None:
    masks = found[0].masks
    rles = masks.rle()
    expected = coco.iou(rles, rles, [0] * len(rles))
    assert len(rles) > 20
    for wide in (masks, masks.with_margin(7), masks.trimmed()):
        np.testing.assert_allclose(mask_ious(masks, wide), expected, rtol=1e-12)
    kept = mask_ious(masks, masks, at_least=0.6)
    np.testing.assert_allclose(kept, np.where(expected >= 0.6, expected, 0), rtol=1e-12)
    assert (kept > 0).sum() > len(rles), "some overlap others: or nothing was tried"


@pytest.mark.parametrize("seed", range(3))
def test_the_iou_of_one_pair_is_that_of_all_pairs(seed: int) -> None:
    masks, others = Masks.from_dense(blobs(seed, 6)), Masks.from_dense(blobs(seed + 50, 4)[:, ::-1]).with_margin(3)
    pairs = [[mask_iou(masks, i, others, j) for j in range(len(others))] for i in range(len(masks))]
    np.testing.assert_array_equal(pairs, mask_ious(masks, others))
    apart = answer((0, 0, 5, 5), (50, 30, 60, 40)).masks
    assert mask_iou(apart, 0, apart, 1) == mask_iou(apart, 1, apart, 0) == 0


def test_masks_over_images_of_two_sizes_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"\(40, 60\) and \(4, 6\); expected answers to the same image"):
        mask_ious(Masks.empty(HW), Masks.empty((4, 6)))


def plain_boundary_f(one: NDArray[np.bool_], two: NDArray[np.bool_], tolerance: float) -> float:
    """The definition: no crops, no windows, no distance transform."""

    def outline(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        wide = np.pad(mask, 1)
        inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
        return np.argwhere(mask & ~inner)

    a, b = outline(one), outline(two)
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    distance = np.sqrt(((a[:, None] - b) ** 2).sum(2))
    shares = (distance.min(1) <= tolerance).mean(), (distance.min(0) <= tolerance).mean()
    return 2 * shares[0] * shares[1] / sum(shares) if any(shares) else 0.0


@pytest.mark.parametrize("tolerance", [0.0, 0.54, 1.0, 1.5, 3.0])
def test_the_boundary_f_measure_is_its_definition(tolerance: float) -> None:
    dense = np.concatenate([blobs(1, 5), np.roll(blobs(1, 5), 2, axis=2), blobs(2, 3)])
    masks, values = Masks.from_dense(dense), []
    for i in range(len(dense)):
        for j in range(len(dense)):
            one, two = (masks.crops[i], masks.corners_xy[i]), (masks.crops[j], masks.corners_xy[j])
            values.append(boundary_f(*one, *two, tolerance))
            assert values[-1] == pytest.approx(plain_boundary_f(dense[i], dense[j], tolerance), abs=1e-12), (i, j)
    assert {0.0, 1.0} < set(values), "values between the extremes, too"


def test_a_moved_outline_counts_up_to_the_tolerance() -> None:
    masks = answer((10, 10, 30, 30), (13, 10, 33, 30)).masks
    (one, two), (here, there) = masks.crops, masks.corners_xy
    assert boundary_f(one, here, two, there, 3.0) == 1
    # Moved by three: of the 76 pixels those of the horizontal edges that overlap, and their ends' neighbours, are near.
    assert 0.4 < boundary_f(one, here, two, there, 2.9) < 0.8


# Matching --------------------------------------------------------------------------------------------------------


def test_equal_answers_are_perfect_whatever_the_order(found: list[Segments]) -> None:
    shuffled = [one[np.random.default_rng(0).permutation(len(one))] for one in found]
    measured = fidelity(found, shuffled)
    assert measured.reference_count == measured.candidate_count == measured.matched_count > 50
    assert [measured.recall(iou) for iou in IOUS] == [measured.precision(iou) for iou in IOUS] == [1, 1, 1]
    assert measured.mean_iou == measured.min_iou == measured.mean_boundary_f == measured.min_boundary_f == 1
    assert measured.max_box_px == measured.max_score == measured.max_missed_score == measured.max_extra_score == 0
    assert measured.quality == 1
    for image, one, other in zip(measured.images, found, shuffled, strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy[image.reference_rows], other.boxes_xyxy[image.candidate_rows])


def test_figures_worked_out_by_hand() -> None:
    """10 × 10 pixels each: equal, nine tenths, seven tenths, four tenths, and one that is not there."""
    tops = [0, 10, 20, 30, 0]
    lefts = [0, 0, 0, 0, 40]
    reference = answer(
        *((x, y, x + 10, y + 10) for x, y in zip(lefts, tops, strict=True)), scores=[0.9, 0.8, 0.7, 0.6, 0.5]
    )
    candidate = answer((0, 0, 10, 10), (0, 10, 9, 20), (0, 20, 7, 30), (0, 30, 4, 40), scores=[0.9, 0.7, 0.75, 0.41])
    measured = fidelity([reference], [candidate])
    assert (measured.reference_count, measured.candidate_count, measured.matched_count) == (5, 4, 3)
    assert [measured.recall(iou) for iou in (*IOUS, 0.91)] == pytest.approx([3 / 5, 2 / 5, 2 / 5, 1 / 5])
    assert [measured.precision(iou) for iou in IOUS] == pytest.approx([3 / 4, 2 / 4, 2 / 4])
    assert (measured.mean_iou, measured.min_iou) == pytest.approx((2.6 / 3, 0.7))
    assert (measured.mean_box_px, measured.max_box_px) == pytest.approx((4 / 3, 3))
    assert (measured.mean_score, measured.max_score) == pytest.approx((0.05, 0.1))
    assert (measured.max_missed_score, measured.max_extra_score) == pytest.approx((0.6, 0.41))
    assert measured.quality == pytest.approx(2.6 / 4.5)
    assert measured.min_iou_from(100) == pytest.approx(0.7)
    assert measured.min_iou_from(101) == 1, "no mask is so large"


def test_images_count_by_their_detections() -> None:
    """Three of four in one image and none of one in another are three of five, not the mean of 3/4 and 0."""
    four = answer((0, 0, 9, 9), (10, 0, 19, 9), (20, 0, 29, 9), (30, 0, 39, 9))
    measured = fidelity([four, answer((0, 0, 9, 9))], [four[:3], answer((30, 20, 40, 30))])
    assert measured.recall(0.5) == pytest.approx(3 / 5)
    assert measured.precision(0.5) == pytest.approx(3 / 4)


def test_pairs_are_one_to_one_and_the_best_first() -> None:
    reference = answer((0, 0, 20, 20))
    twice = answer((0, 0, 20, 19), (0, 0, 20, 20), (0, 0, 20, 18))
    pairs = compare(reference, twice)
    assert pairs.candidate_rows.tolist() == [1]
    assert pairs.extra_rows.tolist() == [0, 2]
    assert compare(twice, reference).missed_rows.tolist() == [0, 2]


def test_other_classes_are_no_partners() -> None:
    reference = answer((0, 0, 20, 20), (30, 0, 50, 20), classes=[1, 2])
    same = compare(reference, answer((30, 0, 50, 20), (0, 0, 20, 20), classes=[2, 1]))
    assert same.reference_rows.tolist() == [0, 1] and same.candidate_rows.tolist() == [1, 0]
    assert len(compare(reference, answer((0, 0, 20, 20), classes=[2])).ious) == 0


def test_of_masks_that_are_alike_the_boxes_tell_which_is_which() -> None:
    """Two detections of one thing: rounding makes the mask of each the one that the other had before."""
    whole = answer((0, 0, 20, 20)).masks
    corner = whole.map(lambda crop: crop & (np.arange(crop.size) > 0).reshape(crop.shape))  # all but one pixel
    boxes = np.array([[0, 0, 20, 20], [0, 0, 33, 20]], np.float32)
    rest = np.full(2, 0.9, np.float32), np.zeros(2, np.int64)
    reference = Segments.unprompted(boxes, *rest, concatenate([whole, corner], HW))
    candidate = Segments.unprompted(boxes + np.float32(0.25), *rest, concatenate([corner, whole], HW))
    pairs = compare(reference, candidate)
    assert pairs.reference_rows.tolist() == pairs.candidate_rows.tolist()
    assert pairs.box_px.tolist() == [0.25, 0.25] and pairs.ious.tolist() == [399 / 400, 399 / 400]


@pytest.mark.parametrize(
    ("reference", "candidate", "expected"),
    [
        pytest.param([empty()], [empty()], {"share": 1, "mean_iou": 1, "max_box_px": 0, "quality": 1}, id="both empty"),
        pytest.param([], [], {"share": 1, "mean_iou": 1, "max_box_px": 0, "quality": 1}, id="no image"),
        pytest.param(
            [answer((0, 0, 9, 9))], [empty()], {"share": 0, "mean_iou": 0, "max_box_px": np.nan, "quality": 0},
            id="nothing found",
        ),
        pytest.param(
            [empty()], [answer((0, 0, 9, 9))], {"share": 0, "mean_iou": 0, "max_box_px": np.nan, "quality": 0},
            id="found in nothing",
        ),
        pytest.param(
            [answer((0, 0, 9, 9))], [answer((30, 30, 39, 39))],
            {"share": 0, "mean_iou": 0, "max_box_px": np.nan, "quality": 0}, id="nothing in common",
        ),
    ],
)  # fmt: skip
def test_where_there_is_nothing_to_measure(
    reference: list[Segments], candidate: list[Segments], expected: dict[str, float]
) -> None:
    measured = fidelity(reference, candidate)
    assert (
        [measured.recall(iou) for iou in IOUS] == [measured.precision(iou) for iou in IOUS] == [expected["share"]] * 3
    )
    assert measured.mean_iou == measured.min_iou == measured.mean_boundary_f == expected["mean_iou"]
    assert measured.quality == expected["quality"]
    np.testing.assert_equal(measured.max_box_px, expected["max_box_px"])
    np.testing.assert_equal(measured.max_score, expected["max_box_px"])
    limits = FidelityLimits(recall=0.1, precision=0.1, mean_iou=0.1, min_iou=0.1, boundary_f=0.1, box_px=9, score=1)
    assert {finding.passed for finding in limits.findings(measured)} == {expected["share"] == 1}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ParameterError, match="1 answers for 2 of the reference"):
        fidelity([empty(), empty()], [empty()])
    with pytest.raises(ParameterError, match=r"recall and precision at IoU 0\.3"):
        fidelity([], []).recall(0.3)


# Gate ------------------------------------------------------------------------------------------------------------

LIMIT_VALUES = [
    ("recall", 0.6, 0.61, "recall at IoU 0.5 is 0.6, expected at least 0.61"),
    ("precision", 0.75, 0.76, "precision at IoU 0.5 is 0.75, expected at least 0.76"),
    ("mean_iou", 0.86, 0.87, "mean mask IoU is 0.8667, expected at least 0.87"),
    ("min_iou", 0.7, 0.71, "least mask IoU is 0.7, expected at least 0.71"),
    ("boundary_f", 0.5, 0.99, "expected at least 0.99"),
    ("box_px", 3, 2.99, "largest box deviation (px) is 3, expected at most 2.99"),
    ("score", 0.11, 0.09, "largest score deviation is 0.1, expected at most 0.09"),
]


@pytest.mark.parametrize(("name", "kept", "not_kept", "message"), LIMIT_VALUES, ids=[row[0] for row in LIMIT_VALUES])
def test_each_limit_is_looked_at(name: str, kept: float, not_kept: float, message: str) -> None:
    reference = answer((0, 0, 10, 10), (0, 10, 10, 20), (0, 20, 10, 30), (0, 30, 10, 40), (40, 0, 50, 10))
    candidate = answer((0, 0, 10, 10), (0, 10, 9, 20), (0, 20, 7, 30), (0, 30, 4, 40), scores=[0.9, 0.8, 0.9, 0.9])
    measured = fidelity([reference], [candidate])
    (finding,) = FidelityLimits(**{name: kept}, at_iou=0.5).findings(measured)
    assert finding.passed
    (finding,) = FidelityLimits(**{name: not_kept}, at_iou=0.5).findings(measured)
    assert not finding.passed and message in str(finding)


@pytest.mark.parametrize("limits", [{"recall": 1.1}, {"box_px": -1}, {"at_iou": 0.4}, {"mean_iou": float("nan")}])
def test_a_limit_that_makes_no_sense_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=f"limit of {next(iter(limits))} is .*expected"):
        FidelityLimits(**limits)  # type: ignore[arg-type]


class Recorded:
    """A segmenter that gives prepared answers in turn."""

    def __init__(self, *answers: Segments | FastSamError) -> None:
        self._answers = iter(answers)

    def segment(self, image: NDArray[np.uint8]) -> Segments:
        one = next(self._answers)
        if isinstance(one, FastSamError):
            raise one
        return one

    def close(self) -> None: ...


def contender(name: str, *answers: Segments | FastSamError, **description: Any) -> Contender:
    return Contender(name, f"{name}.onnx", Recorded(*answers), description)


def test_the_worst_images_are_kept_and_perfect_ones_are_not(coffee: Path) -> None:
    full = answer((0, 0, 10, 10), (20, 0, 30, 10))
    answers = [full, full[:1], empty(), full]
    paths = [coffee] * 4
    (result,) = measure(contender("a", *[full] * 4), [contender("b", *answers)], paths, worst=9)
    assert [sample.compared.quality for sample in result.worst] == pytest.approx([0, 1 / 1.5])
    assert [len(sample.candidate) for sample in result.worst] == [0, 1]
    assert [image.quality for image in result.fidelity.images] == pytest.approx([1, 1 / 1.5, 0, 1])
    (result,) = measure(contender("a", *[full] * 4), [contender("b", *answers)], paths, worst=1)
    assert [len(sample.candidate) for sample in result.worst] == [0]


def test_an_image_that_fails_fails_the_run(coffee: Path) -> None:
    with pytest.raises(FastSamError, match=r"b, .*coffee.jpg: server away"):
        measure(contender("a", empty()), [contender("b", FastSamError("server away"))], [coffee])
    with pytest.raises(ImageError, match="no such file"):
        measure(contender("a"), [contender("b")], [Path("none.jpg")])
    with pytest.raises(ParameterError, match="0 candidates"):
        measure(contender("a"), [], [coffee])


def test_what_makes_a_comparison_doubtful_is_told(coffee: Path) -> None:
    reference = contender("a", empty(), imgsz=640, input="x", checkpoint_sha256="1", class_names=["object"])
    same = contender("b", empty(), imgsz=640, input="x", checkpoint_sha256="1", class_names=["object"])
    silent = contender("c", empty(), checkpoint_sha256=None)
    other = contender("d", empty(), imgsz=320, input="y", checkpoint_sha256="2", class_names=["cat", "dog"])
    notes = [result.notes for result in measure(reference, [same, silent, other], [coffee])]
    assert [len(one) for one in notes] == [1, 1, 4]
    assert "the reference found nothing" in notes[0][0]
    assert notes[2][1:] == (
        "its imgsz is 320, that of the reference 640: part of the difference",
        "it was made from another checkpoint than the reference",
        "its 2 classes are not the 1 of the reference",
    )


def test_a_gate_never_passes_where_nothing_is_found(coffee: Path) -> None:
    """An engine that finds nothing is not proven by images in which there is nothing to find."""
    strict = FidelityLimits(recall=0.9, min_iou=0.9, box_px=1)
    (result,) = measure(contender("a", empty()), [contender("b", empty())], [coffee], strict)
    assert not result.passed
    assert failures(result.findings) == ["detections of the reference is 0, expected at least 1"]
    assert "lower --conf or use others" in result.notes[0]
    (result,) = measure(contender("a", empty()), [contender("b", empty())], [coffee])
    assert result.passed and result.findings == (), "without limits it only measures"
    full = answer((0, 0, 10, 10))
    (result,) = measure(contender("a", empty(), full), [contender("b", empty(), full)], [coffee] * 2, strict)
    assert result.passed and len(result.findings) == 3, "one image with detections is enough"


# Pictures --------------------------------------------------------------------------------------------------------


def test_the_last_panel_shows_who_has_what_alone() -> None:
    image = np.full((*HW, 3), 200, np.uint8)
    reference = answer((0, 0, 10, 10), (40, 20, 60, 40))
    candidate = answer((0, 0, 10, 9), (20, 20, 30, 40))
    picture = draw_comparison(image, reference, candidate, compare(reference, candidate))
    bar, step = picture.shape[0] - HW[0], (picture.shape[1] + 4) // 4  # four panels, three gaps of 4 pixels
    assert (picture[bar:, : HW[1]] == image).all()
    last = picture[bar:, 3 * step : 3 * step + HW[1]].astype(int)
    assert last[30, 50, 0] > last[30, 50, 2] + 50, "missed: red"
    assert last[30, 25, 2] > last[30, 25, 0] + 50, "extra: blue"
    assert last[9, 5, 0] > last[9, 5, 2] + 50, "a row that the partner lacks: red"
    assert (last[5, 5] == 100).all() and (last[15, 15] == 100).all(), "the same in both: gray"


def test_a_single_pixel_is_seen_in_a_large_picture() -> None:
    hw = (3000, 2001)
    dense = np.zeros((1, *hw), np.bool_)
    dense[0, 100:2000, 100:1900] = True
    one = Masks.from_dense(dense)
    dense[0, 1203, 1501] = False
    boxes = np.array([[100, 100, 1900, 2000]], np.float32)
    rest = boxes, np.ones(1, np.float32), np.zeros(1, np.int64)
    reference, candidate = (Segments.unprompted(*rest, masks) for masks in (one, Masks.from_dense(dense)))
    compared = compare(reference, candidate)
    picture = draw_comparison(np.zeros((*hw, 3), np.uint8), reference, candidate, compared, ("a", "ä"))
    assert picture.shape[1] < 4 * PANEL_PX + 100
    red = (picture[30:, -320:, 0] > 100).sum()
    assert 1 <= red <= 9


# Command line ----------------------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bench, ["fidelity", *map(str, arguments)])


@pytest.mark.parametrize(
    ("text", "name", "source", "settings"),
    [
        ("a/model.onnx", "model.onnx", "a/model.onnx", {}),
        ("int8=a/model.onnx", "int8", "a/model.onnx", {}),
        ("m.onnx@engine=openvino,threads=2", "m.onnx@engine=openvino,threads=2", "m.onnx",
         {"engine": "openvino", "threads": 2}),
        ("ov=m.onnx@precision=bf16", "ov", "m.onnx", {"precision": "bf16"}),
        ("grpc://host:8001/fastsam", "fastsam", "grpc://host:8001/fastsam", {}),
        ("far=http://host:8000/fastsam", "far", "http://host:8000/fastsam", {}),
        ("runs/lr=0.1/m.onnx", "m.onnx", "runs/lr=0.1/m.onnx", {}),
        ("me@host/m.onnx", "m.onnx", "me@host/m.onnx", {}),
    ],
)  # fmt: skip
def test_how_a_model_is_written(text: str, name: str, source: str, settings: dict[str, Any]) -> None:
    argument = parse_model(text)
    assert (argument.name, argument.source, argument.settings) == (name, source, settings)


def test_a_file_that_is_there_is_never_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b@threads=1").touch()
    assert parse_model("a=b@threads=1").source == "a=b@threads=1"
    assert parse_model("c=a=b@threads=1").name == "c"


@pytest.mark.parametrize("text", ["m.onnx@openvino", "m.onnx@threads=two", "m.onnx@engine=", "m.onnx@speed=9"])
def test_a_setting_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="expected some of device=…, engine=…"):
        parse_model(text)


def test_a_gate_that_holds_and_one_that_does_not(demo_onnx: Path, coffee: Path, cat: Path, tmp_path: Path) -> None:
    # The same file at another input size stands for an export that went wrong.
    models = (demo_onnx, f"same={demo_onnx}", f"wrong={demo_onnx}@imgsz=288")
    done = run(*models, "-i", coffee, "-i", cat, *FAST, "--min-recall", "0.95", "-o", tmp_path, "--worst", 1)
    assert done.exit_code == 1, done.output
    assert "wrong: recall at IoU 0.75" in done.stderr and "same" not in done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    same, wrong = report["candidates"]
    assert not report["passed"] and same["passed"] and not wrong["passed"]
    assert same["fidelity"]["quality"] == same["fidelity"]["recall"]["0.9"] == 1
    assert wrong["checks"][0]["found"] == wrong["fidelity"]["recall"]["0.75"] < 0.95
    assert wrong["model"]["imgsz"] == 288 and report["reference"]["model"]["imgsz"] == 320
    assert [image["path"] for image in wrong["images"]] == [str(coffee), str(cat)]
    assert sum(image["reference"] for image in wrong["images"]) == wrong["fidelity"]["reference"] > 50
    (worst,) = wrong["worst"]
    assert worst["quality"] == min(image["quality"] for image in wrong["images"])
    assert load_image(tmp_path / worst["picture"]).shape[0] > 300
    assert same["worst"] == []
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "FAILED" in text and f"![]({worst['picture']})" in text and "its imgsz is 288" in text

    done = run(
        *models[:2], "-i", coffee, *FAST, "--min-recall", "1", "--min-iou", "1", "--max-box-px", "0", "--json", "-"
    )
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["passed"] and printed["images"] == [str(coffee)]
    assert "passed" in done.stderr, "the table goes to standard error"


def test_what_is_not_a_number_is_null_in_json(coffee: Path) -> None:
    reference, limits = contender("a", answer((0, 0, 9, 9))), FidelityLimits(box_px=1e9)
    results = measure(reference, [contender("b|c", empty())], [coffee], limits)
    report = Report(reference, results, [coffee], {"conf": 0.4}, limits)
    written = json.loads(json.dumps(report.to_json(), allow_nan=False))["candidates"][0]
    assert written["fidelity"]["box_px"] == {"mean": None, "most": None}
    assert written["checks"] == [
        {"what": "largest box deviation (px)", "found": None, "limit": 1e9, "passed": False}
    ], "no limit lets it pass"
    assert "| | b\\|c |" in report.markdown() and "– / –" in report.markdown()


def test_what_is_not_quite_one_does_not_look_like_one() -> None:
    dense = np.ones((2, 300, 300), np.bool_)
    dense[1, 0, 0] = False
    box, rest = np.array([[0, 0, 300, 300]], np.float32), (np.ones(1, np.float32), np.zeros(1, np.int64))
    one, other = (Segments.unprompted(box, *rest, Masks.from_dense(mask[None])) for mask in dense)
    reference = contender("a")
    result = GateResult(contender("b"), fidelity([one], [other]), (), (), ())
    rows = dict(Report(reference, [result], [Path("x")], {}, FidelityLimits()).rows())
    assert rows["mask IoU, mean / least"] == ["0.999989 / 0.999989"]
    assert rows["recall / precision, 0.9"] == ["1.0000 / 1.0000"]
    assert rows["gate"] == ["no limits"]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["model.pt", "x=model.onnx"], r"python -m benchmarks\.fidelity compare takes a checkpoint"),
        (["{demo}", "{demo}"], "two models are called fastsam-demo.onnx; expected a name for each; write NAME="),
        (["{demo}", "a b={demo}", "A_b={demo}"], "two models are called"),
        (["{demo}", "x=none.onnx"], "none.onnx"),
    ],
)
def test_models_that_cannot_be_compared(models: list[str], message: str, demo_onnx: Path, coffee: Path) -> None:
    done = run(*(text.format(demo=demo_onnx) for text in models), "-i", coffee)
    assert isinstance(done.exception, FastSamError)
    with pytest.raises(FastSamError, match=message):
        raise done.exception


def test_it_is_a_command_of_fastsam(
    demo_onnx: Path, coffee: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "fidelity", str(demo_onnx), f"wrong={demo_onnx}@imgsz=288", "-i", str(coffee), *FAST]
    monkeypatch.setattr(sys, "argv", ["fastsam", *arguments, "--min-mean-iou", "0.999"])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 1
    assert "fastsam: limit not met: wrong: mean mask IoU" in capfd.readouterr().err
    monkeypatch.setattr(sys, "argv", ["fastsam", *arguments, "--min-mean-iou", "7"])
    assert cli.main() == 2
    assert capfd.readouterr().err.startswith("fastsam: limit of mean_iou is 7.0, expected 0 … 1")


def test_all_images_together_are_all_images(found: list[Segments]) -> None:
    with FastSAM(imgsz=288, conf=0.2, threads=1) as model:
        others = [model.segment(load_image(Path(__file__).resolve().parents[3] / f"examples/images/{name}.jpg"))
                  for name in ("coffee", "cat")]  # fmt: skip
    whole = fidelity(found, others)
    parts = [Fidelity((compare(*pair),)) for pair in zip(found, others, strict=True)]
    assert whole.matched_count == sum(part.matched_count for part in parts) > 0
    assert whole.min_iou == min(part.min_iou for part in parts)
    assert whole.max_box_px == max(part.max_box_px for part in parts)
    assert whole.recall(0.5) == whole.matched_count / sum(part.reference_count for part in parts)
