"""Fixtures that more than one test file needs. Real photographs, the shipped model, the real reference."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("FASTSAM_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def coffee() -> Path:
    """A shipped photograph, 600 x 400."""
    return ROOT / "examples/images/coffee.jpg"


@pytest.fixture(scope="session")
def cat() -> Path:
    """A shipped photograph, 451 x 300: no multiple of anything."""
    return ROOT / "examples/images/cat.jpg"


@pytest.fixture(scope="session")
def demo_onnx() -> Path:
    return ROOT / "models/fastsam-demo.onnx"


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    return ROOT / "models/fastsam-demo.pt"


@pytest.fixture(scope="session")
def photographs(coffee: Path, cat: Path) -> list[NDArray[np.uint8]]:
    """RGB arrays of many shapes: the shipped photographs, and more where the test data is."""
    from fastsam_deploy.runtime import load_image

    paths = [coffee, cat]
    if (SHARED / "data").is_dir():
        paths += sorted((SHARED / "data/images").glob("*.jpg"))
        paths += sorted((SHARED / "data/bsds500/images/val").glob("*.jpg"))[:20]
    return [load_image(path) for path in paths]
