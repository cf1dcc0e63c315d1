"""FastSAM at run time: NumPy and OpenCV around an inference engine, no PyTorch.

Importing this package loads nothing: each public name is imported when it is first used,
so `import fastsam_deploy.runtime` costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .clip import Clip
    from .connection import Connection
    from .errors import (
        DeviceError,
        FastSamError,
        ImageError,
        MissingDependencyError,
        ModelError,
        ParameterError,
        PromptError,
        ServerError,
    )
    from .image import load_image
    from .masks_store import Masks
    from .pipeline import FastSAM
    from .postprocess import Thresholds
    from .prompts import Boxes, Everything, Points
    from .segments import Segments
    from .spec import ModelSpec
    from .stream import StreamItem
    from .text import Text, with_image
    from .trt import TRTFastSAM

_MODULE_OF = {
    "Clip": "clip",
    "DeviceError": "errors",
    "FastSamError": "errors",
    "ImageError": "errors",
    "MissingDependencyError": "errors",
    "ModelError": "errors",
    "ParameterError": "errors",
    "PromptError": "errors",
    "ServerError": "errors",
    "Connection": "connection",
    "load_image": "image",
    "Masks": "masks_store",
    "FastSAM": "pipeline",
    "Thresholds": "postprocess",
    "Boxes": "prompts",
    "Everything": "prompts",
    "Points": "prompts",
    "Segments": "segments",
    "ModelSpec": "spec",
    "StreamItem": "stream",
    "TRTFastSAM": "trt",
    "Text": "text",
    "with_image": "text",
}

__all__ = [
    "Boxes",
    "Clip",
    "Connection",
    "DeviceError",
    "Everything",
    "FastSAM",
    "FastSamError",
    "ImageError",
    "Masks",
    "MissingDependencyError",
    "ModelError",
    "ModelSpec",
    "ParameterError",
    "Points",
    "PromptError",
    "Segments",
    "ServerError",
    "StreamItem",
    "TRTFastSAM",
    "Text",
    "Thresholds",
    "load_image",
    "with_image",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{_MODULE_OF[name]}", __name__)
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise
        from .errors import MissingDependencyError

        raise MissingDependencyError(
            f"{name} needs OpenCV, which is not installed; run: pip install 'fastsam-deploy[cpu]'"
        ) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
