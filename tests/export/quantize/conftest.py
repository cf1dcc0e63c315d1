"""Photographs to calibrate on, and the demo model as a graph of plain weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import onnx


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, coffee: Path, cat: Path) -> Path:
    """A folder with nine pieces of three photographs."""
    from PIL import Image

    from fastsam_deploy.export.proof.inputs import load_photographs

    folder = tmp_path_factory.mktemp("photos")
    for i, pixels in enumerate(load_photographs()):
        height, width = pixels.shape[:2]
        for j, rows in enumerate((slice(0, None), slice(0, height * 3 // 4), slice(height // 4, None))):
            Image.fromarray(pixels[rows]).resize((width, 300)).save(folder / f"{j}{i}.png")
    (folder / "notes.txt").write_text("not a photograph")
    return folder


@pytest.fixture(scope="module")
def plain(demo_onnx: Path) -> onnx.ModelProto:
    """The demo model in FP32."""
    import onnx

    from fastsam_deploy.export.quantize.graph import with_folded_weights

    return with_folded_weights(onnx.load(demo_onnx))
