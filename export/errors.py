"""Errors of the exporter. Each message says what is wrong, what was found, what was expected, and what to do."""

from ..runtime.errors import FastSamError


class ExportError(FastSamError):
    """A model cannot be read, or an exported file is not equal to it or cannot be written.

    Example:
        >>> raise ExportError("model.pt: no such file; give the path of a checkpoint")
        Traceback (most recent call last):
        ...
        fastsam_deploy.export.errors.ExportError: model.pt: no such file; give the path of a checkpoint
    """
