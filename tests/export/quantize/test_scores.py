"""Scores that INT8 moves are moved back, measured on photographs that the correction did not see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from fastsam_deploy.export.quantize.calibrated import Calibrated, Calibration, calibrate
from fastsam_deploy.export.quantize.judge import Judge
from fastsam_deploy.export.quantize.ranges import network_inputs, session_giving
from fastsam_deploy.export.quantize.scores import score_layers, score_shifts, with_shifted_biases
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec

IMGSZ = 256


@pytest.fixture(scope="module")
def seen(photos: Path) -> list[Path]:
    return sorted(photos.glob("*.png"))[:6]


@pytest.fixture(scope="module")
def unseen(photos: Path) -> list[Path]:
    return sorted(photos.glob("*.png"))[6:]


@pytest.fixture(scope="module")
def spec(demo_onnx: Path) -> ModelSpec:
    with open_engine(demo_onnx) as engine:
        return engine.spec


@pytest.fixture(scope="module")
def calibrated(demo_onnx: Path, seen: list[Path], spec: ModelSpec) -> Calibrated:
    calibration = Calibration(lambda: network_inputs(seen, spec, IMGSZ), len(seen), "cpu", "percentile")
    return calibrate(onnx.load(demo_onnx), calibration)


@pytest.fixture(scope="module")
def biases(calibrated: Calibrated) -> list[str]:
    ends = {layer.node for layer in score_layers(calibrated.layers)}
    return [node.input[2] for node in calibrated.plain.graph.node if node.name in ends]


def mean_score_errors(model: onnx.ModelProto, calibrated: Calibrated, blobs: list[NDArray[np.float32]]) -> list[float]:
    """At each scale, how much lower the logits are than those of FP32, where those are above 0.05."""
    ends = [layer.result for layer in score_layers(calibrated.layers)]
    logits = []
    for graph in (calibrated.plain, model):
        session, names = session_giving(graph, ends)
        runs = [session.run(names, {"images": blob}) for blob in blobs]
        logits.append([np.concatenate([run[i].ravel() for run in runs]) for i in range(len(names))])
    counted = [exact > np.log(0.05 / 0.95) for exact in logits[0]]
    return [float((exact - other)[rows].mean()) for exact, other, rows in zip(*logits, counted, strict=True)]


def lowered(calibrated: Calibrated, biases: list[str], by: float) -> onnx.ModelProto:
    """The INT8 graph with scores that are too low, as coarse rounding may leave them."""
    moved = with_shifted_biases(calibrated.plain, dict.fromkeys(biases, np.full(1, -by, np.float32)))
    return replace(calibrated, plain=moved).quantized([layer for layer in calibrated.layers if not layer.kept])


def test_the_ends_of_the_class_branches_are_found_and_nothing_else(calibrated: Calibrated, biases: list[str]) -> None:
    assert [layer.name for layer in score_layers(calibrated.layers)] == [f"model.22.cv3.{i}.2" for i in range(3)]
    assert len(biases) == 3
    assert not score_layers([replace(layer, name=layer.node) for layer in calibrated.layers])


def test_a_mean_error_of_the_logits_goes_towards_zero_on_other_photographs(
    calibrated: Calibrated, biases: list[str], unseen: list[Path], spec: ModelSpec
) -> None:
    off = lowered(calibrated, biases, 0.5)
    inputs = calibrated.calibration.inputs
    shifts = score_shifts(calibrated.plain, off, calibrated.layers, inputs, as_written=False)
    assert set(shifts) == set(biases)
    blobs = list(network_inputs(unseen, spec, IMGSZ))
    before = mean_score_errors(off, calibrated, blobs)
    after = mean_score_errors(with_shifted_biases(off, shifts), calibrated, blobs)
    assert all(abs(b) < abs(a) / 2 for a, b in zip(before, after, strict=True))


def test_detections_that_were_lost_by_their_scores_come_back(
    calibrated: Calibrated, biases: list[str], demo_onnx: Path, unseen: list[Path], spec: ModelSpec
) -> None:
    judge = Judge(demo_onnx, unseen, IMGSZ)
    off = lowered(calibrated, biases, 1.0)
    inputs = calibrated.calibration.inputs
    shifts = score_shifts(calibrated.plain, off, calibrated.layers, inputs, as_written=False)
    graphs = off, with_shifted_biases(off, shifts)
    for graph in graphs:
        onnx.helper.set_model_props(graph, {METADATA_KEY: spec.to_json()})
    before, after = (judge.judge(graph, as_written=False) for graph in graphs)
    assert after.matched > before.matched + 0.05
    assert after.recall >= before.recall
    assert abs(after.detections_rounded - after.detections) < abs(before.detections_rounded - before.detections)


def test_only_the_biases_of_the_classes_change(calibrated: Calibrated, biases: list[str]) -> None:
    corrected = calibrated.with_corrected_scores([layer for layer in calibrated.layers if not layer.kept])
    pairs = zip(calibrated.plain.graph.initializer, corrected.plain.graph.initializer, strict=True)
    changed = {a.name for a, b in pairs if not np.array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))}
    assert changed and changed <= set(biases)
    assert [node.name for node in calibrated.plain.graph.node] == [node.name for node in corrected.plain.graph.node]


def test_where_nothing_is_seen_nothing_is_corrected(calibrated: Calibrated, biases: list[str]) -> None:
    grey = [np.full((1, 3, 64, 64), 0.45, np.float32)]
    off = lowered(calibrated, biases, 0.5)
    shifts = score_shifts(calibrated.plain, off, calibrated.layers, lambda: grey, as_written=False)
    assert not any(shift.any() for shift in shifts.values())
