"""Without `imgsz`, a file has the size that its network was trained at: both ways, and as the demo file has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastsam_deploy.export.checkpoint.load import load_checkpoint
from fastsam_deploy.export.checkpoint.trained_size import trained_px
from fastsam_deploy.export.direct import to_onnx
from fastsam_deploy.export.direct.network import open_network
from fastsam_deploy.export.graph.request import FileRequest
from fastsam_deploy.runtime import FastSAM, ParameterError


@pytest.mark.parametrize(
    ("settings", "px"),
    [
        ({"imgsz": 640}, 640),
        ({"imgsz": 600}, 608),
        ({"imgsz": [448, 640]}, 640),
        ({"imgsz": (96,)}, 96),
        ({}, None),
        ({"imgsz": None}, None),
        ({"imgsz": "640"}, None),
        ({"imgsz": True}, None),
        ({"imgsz": 0}, None),
        ({"imgsz": -32}, None),
        ({"imgsz": 1 << 40}, None),
        ({"imgsz": []}, None),
        ({"imgsz": [640, "x"]}, None),
        ({"imgsz": float("nan")}, None),
    ],
    ids=str,
)
def test_settings_of_any_kind_are_a_size_or_none(settings: Mapping[str, object], px: int | None) -> None:
    assert trained_px(settings, 32) == px


def test_both_readers_see_the_size_of_the_demo_model(demo_checkpoint: Path, demo_onnx: Path) -> None:
    with open_network(demo_checkpoint) as network, FastSAM(demo_onnx) as shipped:
        assert network.trained_px == load_checkpoint(demo_checkpoint).trained_px == shipped.imgsz == 640


def test_both_readers_see_the_size_of_a_checkpoint_of_2023(checkpoint_of_2023: tuple[Path, list[np.ndarray]]) -> None:
    """Its settings are an object with attributes."""
    with open_network(checkpoint_of_2023[0]) as network:
        assert network.trained_px == load_checkpoint(checkpoint_of_2023[0]).trained_px == 1024


@pytest.mark.parametrize(
    ("imgsz", "trained", "size_hw"),
    [(None, 640, (640, 640)), (None, None, (1024, 1024)), (320, 640, (320, 320)), ((96, 160), 640, (96, 160))],
)
def test_a_size_that_is_asked_for_comes_first(
    imgsz: int | tuple[int, int] | None, trained: int | None, size_hw: tuple[int, int]
) -> None:
    network = SimpleNamespace(stride=32, trained_px=trained)
    assert FileRequest(Path("m.onnx"), imgsz).size_hw(network) == size_hw  # type: ignore[arg-type]


def test_a_size_that_is_no_multiple_of_the_stride_is_refused() -> None:
    with pytest.raises(ParameterError, match="imgsz is 600, expected a multiple"):
        FileRequest(Path("m.onnx"), 600).size_hw(SimpleNamespace(stride=32, trained_px=640))  # type: ignore[arg-type]


def test_a_direct_file_has_the_default_of_the_demo_file(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_onnx, "_has_pytorch", lambda: False)  # it would compare for half a minute
    assert to_onnx.export_direct(demo_checkpoint, tmp_path / "demo.onnx").spec.imgsz == 640
