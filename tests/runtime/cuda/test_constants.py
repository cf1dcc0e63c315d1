"""Constants are stated once: in the twin what a kernel gets as an argument, in layout.cuh what the compiler needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime.cuda import kernels, launchers, records, shapes
from fastsam_deploy.runtime.masks.bits import WORD_BITS
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages import assemble, decode, letterbox
from fastsam_deploy.runtime.stages.letterbox import fit

HW = (40, 60)
PLACE = fit(HW, (64, 64))
LOW = Thresholds(0.1, 0.5)


def _batch(host: Any, spec: ModelSpec) -> Any:
    image = np.random.default_rng(0).integers(0, 256, (*HW, 3), dtype=np.uint8)
    return image, host.Batch(host.library.kernels(8), spec, [image], [PLACE], LOW)


@pytest.mark.parametrize("gray", [114, 0, 200])
def test_the_letterbox_colour_is_that_of_the_twin(host: Any, monkeypatch: pytest.MonkeyPatch, gray: int):
    monkeypatch.setattr(letterbox, "PADDING_VALUE", gray)
    image, batch = _batch(host, ModelSpec())
    blob = batch.letterbox()[0]
    np.testing.assert_array_equal(blob, letterbox.letterbox(image, PLACE))
    assert (blob[:, 0] == np.float32(gray / 255)).all(), "the first row is border"


@pytest.mark.parametrize("threshold", [0, 0.75, -0.5])
def test_the_mask_threshold_is_that_of_the_twin(host: Any, monkeypatch: pytest.MonkeyPatch, threshold: float):
    monkeypatch.setattr(assemble, "MASK_THRESHOLD", np.float32(threshold))
    _, batch = _batch(host, ModelSpec(layout="nms", mask_dim=1))
    # One box over the whole image; the prototype rises from left to right, the coefficient is 1.
    output = np.array([[[0, 0, 64, 64, 0.9, 0, 1]]], np.float32)
    prototypes = np.broadcast_to(np.linspace(-1, 1, 16, dtype=np.float32), (1, 1, 16, 16)).copy()
    answer = batch.finish(output, prototypes)
    masks = answer.masks(0, HW)
    twin = assemble.assemble(np.ones((1, 1), np.float32), prototypes[0], records.boxes_of(answer.rows(0)), PLACE)
    assert masks == twin
    assert masks.areas[0] / (HW[0] * HW[1]) == pytest.approx((1 - threshold) / 2, abs=0.03)


@pytest.mark.parametrize("offset", [7680, 10])
def test_the_distance_of_classes_is_that_of_the_twin(host: Any, monkeypatch: pytest.MonkeyPatch, offset: int):
    monkeypatch.setattr(decode, "CLASS_OFFSET_PX", np.float32(offset))
    spec = ModelSpec(class_names=("a", "b"), mask_dim=1)
    _, batch = _batch(host, spec)
    # Two boxes of different classes, 10 px apart: moved by 10 px only, they come to lie on each other.
    output = np.array([[[32, 22], [32, 22], [20, 20], [20, 20], [0.9, 0], [0, 0.8], [1, 1]]], np.float32)
    kept = batch.finish(output, np.ones((1, 1, 16, 16), np.float32)).rows(0)
    detections = decode.decode(output[0], spec, LOW)
    assert kept["class_id"].tolist() == detections.classes.tolist() == ([0, 1] if offset == 7680 else [0])


def test_constants_of_the_header_are_those_of_python(cpu_home: Any):
    flags = ("NONFINITE_SCORES", "NONFINITE_BOXES", "NONFINITE_COEFFICIENTS", "NONFINITE_PROTOTYPES")
    assert cpu_home.library.constants == {
        **dict(zip(flags, records.NONFINITE, strict=True)),
        "BLOCK": launchers.BLOCK,
        "TILE_WORDS": launchers.TILE_WORDS,
        "OVERLAP_BLOCK": launchers.OVERLAP_BLOCK,
        "MAX_MASK_DIM": shapes.MAX_MASK_DIM,
        "TAPS": letterbox.TAPS,
        "WORD_BITS": WORD_BITS,
    }


def test_no_kernel_states_them_again():
    sources = {path.name: path.read_text(encoding="utf-8") for path in Path(kernels.__file__).parent.glob("*.cu")}
    assert len(sources) == len(kernels.NAMES)
    for name, source in sources.items():
        code = re.sub(r"//.*", "", source)
        assert not re.search(r"\b(114|7680)\b", code), name
        assert "logit > 0" not in code, name
