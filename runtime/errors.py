"""What can go wrong for a user. Each message says: what, found, expected, what to do.

Everything here is an expected failure: a command prints it in one line and exits with 2.
Any other exception is a bug and keeps its traceback.
"""


class FastSamError(Exception):
    """Base of every error that this project raises on purpose."""


class ParameterError(FastSamError, ValueError):
    """A setting is out of its range or does not fit the model."""


class ImageError(FastSamError, ValueError):
    """What was given is not an image that can be segmented."""


class PromptError(FastSamError, ValueError):
    """A point or box cannot be asked of this image."""


class ModelError(FastSamError):
    """A model file is missing, broken, or not of a kind that is understood."""


class DeviceError(FastSamError):
    """The device, provider or precision that was asked for is not to be had."""


class ServerError(FastSamError):
    """An inference server cannot be reached, is too busy, or failed."""


class MissingDependencyError(FastSamError, ImportError):
    """A library behind an optional feature is not installed."""
