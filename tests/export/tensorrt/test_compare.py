"""A plan that is wrong fails the comparison, whatever the precision, the layout and the photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")

import onnx

from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.export.graph.suppression import with_suppression
from fastsam_deploy.export.tensorrt.compare import LIMITS, compare_engines
from fastsam_deploy.runtime import load_image
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.engines.interface import Engine
from fastsam_deploy.runtime.engines.tensorrt.record import ShapeRange
from fastsam_deploy.runtime.measure.findings import Finding
from fastsam_deploy.runtime.suppression import Suppression

Outputs = dict[str, NDArray[Any]]

PROFILE = ShapeRange((1, 3, 128, 160), (1, 3, 128, 160), (1, 3, 128, 160))
BLANK = np.full((128, 160, 3), 60, np.uint8)
"""In which the demo model finds nothing."""


class Altered:
    """The reference with something done to its outputs: a plan that went wrong."""

    def __init__(self, engine: Engine, change: Callable[[Outputs], None]) -> None:
        self._engine, self._change = engine, change
        self.spec, self.device, self.description = engine.spec, engine.device, engine.description

    def run(self, images: NDArray[Any]) -> Outputs:
        outputs = {name: tensor.copy() for name, tensor in self._engine.run(images).items()}
        self._change(outputs)
        return outputs

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def raw(demo_onnx: Path) -> Iterator[Engine]:
    with open_engine(demo_onnx) as engine:
        yield engine


@pytest.fixture(scope="module")
def split(demo_onnx: Path, raw: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The demo model with NMS in its graph."""
    path = tmp_path_factory.mktemp("split") / "nms.onnx"
    onnx.save(with_suppression(onnx.load(demo_onnx), raw.spec, Suppression(0.001, 0.9, 300)), path)
    with open_engine(path) as engine:
        yield engine


@pytest.fixture(scope="module")
def photo(coffee: Path) -> NDArray[np.uint8]:
    return load_image(coffee)


def compared(
    engine: Engine, change: Callable[[Outputs], None], precision: str, *photographs: NDArray[np.uint8]
) -> tuple[Finding, ...]:
    return compare_engines(Altered(engine, change), engine, [PROFILE], photographs, LIMITS[precision])


def nothing(outputs: Outputs) -> None:
    """As it was."""


def zeros(outputs: Outputs) -> None:
    for tensor in outputs.values():
        tensor[:] = 0


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("layout", ["raw", "split"])
def test_the_same_outputs_pass_with_every_quantity_compared(
    layout: str, precision: str, photo: NDArray[np.uint8], request: pytest.FixtureRequest
) -> None:
    findings = compared(request.getfixturevalue(layout), nothing, precision, photo, BLANK)
    assert all(finding.passed for finding in findings)
    names = {finding.what for finding in findings}
    assert {"prototypes (share)", "mask IoU, mean", "missing detections (share)"} <= names
    if layout == "split":
        assert "same detections (share)" in names
    else:
        assert {"scores", "coefficients (share)"} <= names and ("boxes (px)" in names) == (precision != "int8")


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("layout", ["raw", "split"])
def test_a_plan_that_gives_zeros_fails_where_there_is_something(
    layout: str, precision: str, photo: NDArray[np.uint8], request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ExportError, match=r"prototypes \(share\) 1 at input.*mask IoU, mean 0 at all inputs"):
        compared(request.getfixturevalue(layout), zeros, precision, photo)


@pytest.mark.parametrize(
    ("layout", "precision"), [("raw", "int8"), ("split", "fp32"), ("split", "fp16"), ("split", "int8")]
)
@pytest.mark.parametrize("change", [nothing, zeros])
def test_where_the_reference_detects_nothing_nothing_is_judged(
    layout: str, precision: str, change: Callable[[Outputs], None], request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ExportError, match=r"detects nothing .* expected at least one .* give other photographs"):
        compared(request.getfixturevalue(layout), change, precision, BLANK)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensors_prove_a_plan_where_nothing_is_detected(raw: Engine, precision: str) -> None:
    assert all(finding.passed for finding in compared(raw, nothing, precision, BLANK))
    with pytest.raises(ExportError, match=r"coefficients \(share\) 1 at"):
        compared(raw, zeros, precision, BLANK)

    def boxes_lost(outputs: Outputs) -> None:
        outputs["detections"][:, :4] = 0

    with pytest.raises(ExportError, match=r"boxes \(px\)"):
        compared(raw, boxes_lost, precision, BLANK)


def test_lost_detections_are_no_part_of_many_uncertain_ones(raw: Engine, photo: NDArray[np.uint8]) -> None:
    """All that is certain is lost, which is a small share of all detections; and no pair is left to be compared."""

    def scores_lost(outputs: Outputs) -> None:
        outputs["detections"][:, 4] = np.minimum(outputs["detections"][:, 4], 0.2)

    engine = Altered(raw, lambda outputs: _rescale(outputs["detections"][:, 4]))
    with pytest.raises(ExportError, match="mask IoU, mean 0 at"):
        compare_engines(Altered(engine, scores_lost), engine, [PROFILE], [photo], LIMITS["int8"])


def _rescale(scores: NDArray[np.float32]) -> None:
    """Scores between 0.25 and 0.3, but for the best one: so little is certain."""
    best = scores.max()
    scores[:] = np.where(scores == best, 0.31, np.where(scores > 0.05, 0.27, scores))


def columns(column: slice, shift: float) -> Callable[[Outputs], None]:
    def change(outputs: Outputs) -> None:
        rows = outputs["detections"]
        rows[:, :, column] += np.where(rows[:, :, 4:5] > 0, np.float32(shift), np.float32(0))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(columns(slice(0, 4), 0.2), "same detections", id="boxes"),
        pytest.param(columns(slice(4, 5), 0.002), "same detections", id="scores"),
        pytest.param(columns(slice(5, 6), 1), "same detections", id="classes"),
        pytest.param(columns(slice(6, None), 0.05), "same detections", id="coefficients"),
        pytest.param(lambda o: o["prototypes"].__imul__(1.01), r"prototypes \(share\)", id="prototypes"),
        pytest.param(lambda o: o["num_dets"].__iadd__(1), "counts .* detections in image 0 and gives", id="num_dets"),
    ],
)
def test_each_tensor_of_a_graph_with_nms_is_compared(
    split: Engine, photo: NDArray[np.uint8], change: Callable[[Outputs], None], said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        compared(split, change, "fp32", photo)


def test_thresholds_in_the_graph_above_those_of_the_comparison_are_respected(
    demo_onnx: Path, raw: Engine, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    onnx.save(with_suppression(onnx.load(demo_onnx), raw.spec, Suppression(0.4, 0.8, 50)), tmp_path / "high.onnx")
    with open_engine(tmp_path / "high.onnx") as engine:
        assert all(finding.passed for finding in compared(engine, nothing, "fp32", photo))
