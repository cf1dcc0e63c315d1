"""FastSAM at run time: NumPy and OpenCV around an inference engine, no PyTorch.

Importing this package loads nothing: each public name is imported when it is first used,
so `import fastsam_deploy.runtime` costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # `as` the same name: type checkers take it for public, as they cannot follow `__all__` below
    from .clip.encoders import Clip as Clip
    from .clip.features import with_image as with_image
    from .connection import Connection as Connection
    from .errors import DeviceError as DeviceError
    from .errors import FastSamError as FastSamError
    from .errors import ImageError as ImageError
    from .errors import MissingDependencyError as MissingDependencyError
    from .errors import ModelError as ModelError
    from .errors import ParameterError as ParameterError
    from .errors import PromptError as PromptError
    from .errors import ServerError as ServerError
    from .masks.store import Masks as Masks
    from .pipeline import FastSAM as FastSAM
    from .prompts.boxes import Boxes as Boxes
    from .prompts.everything import Everything as Everything
    from .prompts.points import Points as Points
    from .prompts.text import Text as Text
    from .segmenters.stream import PromptedImage as PromptedImage
    from .segmenters.stream import StreamItem as StreamItem
    from .segments import Segments as Segments
    from .settings import EngineSettings as EngineSettings
    from .settings import Thresholds as Thresholds
    from .sources.opening import open_frames as open_frames
    from .spec import ModelSpec as ModelSpec
    from .stages.image import ImageFile as ImageFile
    from .stages.image import load_image as load_image
    from .stages.isolated import IsolatedLoader as IsolatedLoader
    from .tiling.grid import Tiles as Tiles
    from .tracking.tracker import Tracker as Tracker
    from .trt import TRTFastSAM as TRTFastSAM

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
    "ImageFile": "stages.image",
    "load_image": "stages.image",
    "IsolatedLoader": "stages.isolated",
    "Masks": "masks.store",
    "EngineSettings": "settings",
    "FastSAM": "pipeline",
    "Thresholds": "settings",
    "Boxes": "prompts.boxes",
    "Everything": "prompts.everything",
    "Points": "prompts.points",
    "Segments": "segments",
    "ModelSpec": "spec",
    "PromptedImage": "segmenters.stream",
    "StreamItem": "segmenters.stream",
    "Tiles": "tiling.grid",
    "TRTFastSAM": "trt",
    "Tracker": "tracking.tracker",
    "Text": "prompts.text",
    "open_frames": "sources.opening",
    "with_image": "clip.features",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{_MODULE_OF[name]}", __name__)
    except ImportError as error:
        from .errors import MissingDependencyError, opencv_fault

        fault = opencv_fault(error)
        if fault is None:
            raise
        raise MissingDependencyError(f"{name}: {fault}") from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
