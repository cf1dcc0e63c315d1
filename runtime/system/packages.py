"""Installed packages. Some modules come in several builds, which overwrite each other's files."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

BUILDS = {
    "cv2": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "ultralytics": ("ultralytics", "ultralytics-opencv-headless"),
}
"""Module → packages that bring it; there must be one of them at most."""


def builds_of(module: str) -> dict[str, str]:
    """Name → version of each installed package that brings a module. Nothing is imported.

    Args:
        module: of `BUILDS`; the name of any other package stands for itself.

    Example:
        >>> builds_of("numpy")  # doctest: +SKIP
        {'numpy': '2.4.6'}
        >>> builds_of("no_such_module")
        {}
    """
    installed = {}
    for name in BUILDS.get(module, (module,)):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def version_of(module: str) -> str | None:
    """Version of the package that brings a module; None if there is none.

    Args:
        module: see `builds_of`.

    Example:
        >>> version_of("no_such_module") is None
        True
    """
    return next(iter(builds_of(module).values()), None)
