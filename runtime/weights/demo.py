"""The model in this package, which is used where none is named."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ..errors import ModelError


def demo_model_path() -> Path:
    """Path of the ONNX file of the demo model in this package.

    Raises:
        ModelError: the package was installed without it.

    Example:
        >>> demo_model_path().name  # doctest: +SKIP
        'fastsam-demo.onnx'
    """
    path = Path(str(files("fastsam_deploy.models") / "fastsam-demo.onnx"))
    if not path.is_file():
        raise ModelError(f"{path}: the demo model is missing; install the package again, or name a model file")
    return path
