"""The one place that loads cuda-bindings: for what PyCUDA lacks (graphs), on the same handles."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ...errors import MissingDependencyError, pip_install
from . import process


def load() -> Any:
    """The module `cuda.bindings.driver`. Open a `Device` first.

    Raises:
        MissingDependencyError: it is not installed.

    Example:
        >>> load().cuDeviceGetCount()  # doctest: +SKIP
        (<CUresult.CUDA_SUCCESS: 0>, 1)
    """
    try:
        return import_module("cuda.bindings.driver")
    except ImportError as error:
        raise MissingDependencyError(f"CUDA graphs need cuda-bindings: {error}; run: {pip_install('cuda')}") from error


class BindingsError(Exception):
    """A status of the driver that is not success, as text; `check` makes a DeviceError of it.

    Example:
        >>> process.translated("cuda:0", "recording a graph", BindingsError("…"))  # doctest: +SKIP
    """


def check(answer: tuple[Any, ...], device: object, what: str) -> Any:
    """The value that a call of cuda-bindings returned as (status, value, …).

    Args:
        device: for the message, as `str`.
        what: what the call was for, as in "launching a graph".

    Raises:
        DeviceError: the status is not success.

    Example:
        >>> check(load().cuDeviceGetCount(), "cuda:0", "counting devices")  # doctest: +SKIP
        1
    """
    status, *values = answer
    if int(status) != 0:
        raise process.translated(device, what, BindingsError(_text(status)))
    return values[0] if values else None


def _text(status: Any) -> str:
    _, text = load().cuGetErrorString(status)
    said = text.decode() if isinstance(text, bytes) else "unknown error"
    return f"{getattr(status, 'name', status)}: {said}"
