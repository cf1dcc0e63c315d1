"""Errors of the exporter. Each message says what is wrong, what was found, what was expected, and what to do."""

from ..runtime.errors import FastSamError, MissingDependencyError, pip_install


class ExportError(FastSamError):
    """A model cannot be read, or an exported file is not equal to it or cannot be written.

    Example:
        >>> raise ExportError("model.pt: no such file; give the path of a checkpoint")
        Traceback (most recent call last):
        ...
        fastsam_deploy.export.errors.ExportError: model.pt: no such file; give the path of a checkpoint
    """


def missing_library(error: ModuleNotFoundError, *extras: str, otherwise: str = "") -> MissingDependencyError:
    """The error to raise for a module that is not installed. ONNX Runtime is in the extras of the engines.

    Args:
        extras: that the other modules are in.
        otherwise: what to do instead, for the end of the message.

    Example:
        >>> print(missing_library(ModuleNotFoundError("No module named 'torch'", name="torch"), "export"))
        No module named 'torch'; run: pip install 'fastsam-deploy[export]' (in a checkout: pip install '.[export]')
        >>> print(missing_library(ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"), "export"))
        No module named 'onnxruntime'; run: pip install 'fastsam-deploy[cpu]' (in a checkout: pip install '.[cpu]'), \
or with 'gpu' in the place of 'cpu' for an NVIDIA GPU
    """
    if (error.name or "").partition(".")[0] == "onnxruntime":
        extras, otherwise = ("cpu",), ", or with 'gpu' in the place of 'cpu' for an NVIDIA GPU"
    return MissingDependencyError(f"{error}; run: {pip_install(*extras)}{otherwise}")
