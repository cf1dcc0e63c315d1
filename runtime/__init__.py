"""FastSAM at run time: NumPy and OpenCV around an inference engine, no PyTorch.

Importing this package loads nothing: each public name is imported when it is first used,
so `import fastsam_deploy.runtime` costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .clip.encoders import Clip
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
    from .masks.store import Masks
    from .pipeline import FastSAM
    from .prompts.points import Boxes, Everything, Points
    from .prompts.text import Text, with_image
    from .segmenters.stream import StreamItem
    from .segments import Segments
    from .settings import EngineSettings, Thresholds
    from .spec import ModelSpec
    from .stages.image import load_image
    from .trt import TRTFastSAM

_MODULE_OF = {
    "Clip": "clip.encoders",
    "DeviceError": "errors",
    "FastSamError": "errors",
    "ImageError": "errors",
    "MissingDependencyError": "errors",
    "ModelError": "errors",
    "ParameterError": "errors",
    "PromptError": "errors",
    "ServerError": "errors",
    "Connection": "connection",
    "load_image": "stages.image",
    "Masks": "masks.store",
    "EngineSettings": "settings",
    "FastSAM": "pipeline",
    "Thresholds": "settings",
    "Boxes": "prompts.points",
    "Everything": "prompts.points",
    "Points": "prompts.points",
    "Segments": "segments",
    "ModelSpec": "spec",
    "StreamItem": "segmenters.stream",
    "TRTFastSAM": "trt",
    "Text": "prompts.text",
    "with_image": "prompts.text",
}

__all__ = [
    "Boxes",
    "Clip",
    "Connection",
    "DeviceError",
    "EngineSettings",
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
