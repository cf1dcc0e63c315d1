"""FastSAM's own heads: box distributions over 26 bins where stock YOLOv8-seg has 16, in sizes s and x."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")

from fastsam_deploy.export.checkpoint.load import load_checkpoint
from fastsam_deploy.export.to_onnx import export_onnx
from fastsam_deploy.runtime.engines import open_engine

pytestmark = pytest.mark.export


@pytest.mark.parametrize("size", ["s", pytest.param("x", marks=pytest.mark.slow)])
def test_a_head_with_26_bins_is_exported_equal(
    size: str,
    random_network: Callable[..., Any],
    save: Callable[..., Path],
    photo_batch: np.ndarray,
    tmp_path: Path,
) -> None:
    path = save(random_network(f"yolov8{size}-seg.yaml", reg_max=26), f"FastSAM-{size}.pt")
    proof = export_onnx(path, tmp_path / "m.onnx", imgsz=160)
    source = load_checkpoint(path)
    head = source.network.model[-1]
    assert (head.reg_max, head.legacy, head.dfl.conv.weight.numel()) == (26, True, 26)
    detections, prototypes = source.run(photo_batch)
    scores = detections[:, 4]
    # The comparison means something: scores all over, masks of both signs, and boxes that 16 bins cannot express
    # (their mean reaches 15 strides to each side; the largest stride is 32).
    assert scores.min() < 0.2
    assert scores.max() > 0.8
    assert scores.std() > 0.1
    assert prototypes.std() > 0.1
    assert detections[:, 2:4].max() > 2 * 15 * 32
    with open_engine(proof.path) as engine:
        found = engine.run(photo_batch)
    np.testing.assert_allclose(found["detections"][:, :4], detections[:, :4], atol=0.01)
    np.testing.assert_allclose(found["detections"][:, 4:], detections[:, 4:], atol=1e-4)
    np.testing.assert_allclose(found["prototypes"], prototypes, atol=1e-4)
    assert proof.detections > 20
