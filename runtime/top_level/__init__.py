"""FastSAM in production: the names of `fastsam_deploy.runtime`, each loaded when it is first used.

`setup.py` installs this folder as the package `fastsam_deploy` itself, so imports here are absolute.

Example:
    >>> from fastsam_deploy import FastSAM, Points
    >>> with FastSAM() as model:  # doctest: +SKIP
    ...     cup = model.segment("photo.jpg", Points([[320, 180]]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastsam_deploy import runtime
from fastsam_deploy.runtime import __version__ as __version__

__all__ = list(runtime.__all__)

if TYPE_CHECKING:  # as in `runtime`
    from fastsam_deploy.runtime import Boxes as Boxes
    from fastsam_deploy.runtime import Clip as Clip
    from fastsam_deploy.runtime import Connection as Connection
    from fastsam_deploy.runtime import DeviceError as DeviceError
    from fastsam_deploy.runtime import EngineSettings as EngineSettings
    from fastsam_deploy.runtime import Everything as Everything
    from fastsam_deploy.runtime import FastSAM as FastSAM
    from fastsam_deploy.runtime import FastSamError as FastSamError
    from fastsam_deploy.runtime import ImageError as ImageError
    from fastsam_deploy.runtime import ImageFile as ImageFile
    from fastsam_deploy.runtime import IsolatedLoader as IsolatedLoader
    from fastsam_deploy.runtime import Masks as Masks
    from fastsam_deploy.runtime import MissingDependencyError as MissingDependencyError
    from fastsam_deploy.runtime import ModelError as ModelError
    from fastsam_deploy.runtime import ModelSpec as ModelSpec
    from fastsam_deploy.runtime import ParameterError as ParameterError
    from fastsam_deploy.runtime import Points as Points
    from fastsam_deploy.runtime import PromptedImage as PromptedImage
    from fastsam_deploy.runtime import PromptError as PromptError
    from fastsam_deploy.runtime import Segments as Segments
    from fastsam_deploy.runtime import ServerError as ServerError
    from fastsam_deploy.runtime import StreamItem as StreamItem
    from fastsam_deploy.runtime import Text as Text
    from fastsam_deploy.runtime import Thresholds as Thresholds
    from fastsam_deploy.runtime import Tiles as Tiles
    from fastsam_deploy.runtime import Tracker as Tracker
    from fastsam_deploy.runtime import TRTFastSAM as TRTFastSAM
    from fastsam_deploy.runtime import load_image as load_image
    from fastsam_deploy.runtime import open_frames as open_frames
    from fastsam_deploy.runtime import with_image as with_image
else:  # hidden from type checkers, for which any name would be there

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(runtime, name)
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "runtime"])
