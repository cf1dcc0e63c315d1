"""What can go wrong in an export. Each message says: what, found, expected, what to do."""

from ..runtime.errors import FastSamError


class ExportError(FastSamError):
    """A checkpoint cannot be read, a file made from it did not prove equal to it, or cannot be written."""
