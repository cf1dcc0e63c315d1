"""The examples in docstrings run and give what they say. What needs a file or a GPU is marked `# doctest: +SKIP`."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from typing import Any

import numpy as np
import pytest

from fastsam_deploy import runtime

NAMES = sorted(
    info.name
    for info in pkgutil.walk_packages(runtime.__path__, f"{runtime.__name__}.")
    if not info.name.endswith("__main__")
)
PACKAGES = (
    "app", "batch", "cli", "cuda", "formats", "masks", "measure", "opening", "pipeline", "prompts", "segmenters",
    "segments", "settings", "sources", "system", "trt",
)  # fmt: skip
STAGES = ("stages.assemble", "stages.decode", "stages.letterbox", "stages.postprocess")
DOCUMENTED = re.compile(rf"{runtime.__name__}\.({'|'.join((*PACKAGES, *STAGES))})(\.|$)")
"""Packages and modules in which every public class and function has an example."""


def _module(name: str) -> Any:
    if ".accuracy." in name:
        pytest.importorskip("skimage", reason="needs the extra [accuracy]")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        return pytest.skip(f"{name} cannot be imported here: {error}")


@pytest.mark.parametrize("name", [runtime.__name__, *NAMES])
def test_examples_give_what_they_say(name: str):
    module = _module(name)
    with np.printoptions(precision=8, linewidth=75, formatter=None, suppress=False):  # ultralytics changes them
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize("name", [name for name in NAMES if DOCUMENTED.match(name)])
def test_every_public_class_and_function_has_an_example(name: str):
    module = _module(name)
    public = {
        key: value
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", "") == name and callable(value)
    }
    missing = [key for key, value in public.items() if not _has_example(value.__doc__ or "")]
    assert not missing, "give each an example"


def _has_example(text: str) -> bool:
    """The docstring of a command is its help, with an example for the shell."""
    return ">>> " in text or "Example: fastsam " in text
