"""Every public class and function of the exporter has an example, and the examples run."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")
pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")

from fastsam_deploy import export

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(export.__path__, "fastsam_deploy.export.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"needs an extra: {error}")
    with np.printoptions(precision=8, linewidth=75, formatter=None, suppress=False):  # ultralytics changes them
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_public_class_and_function_has_an_example(name: str) -> None:
    path = Path(export.__path__[0], *name.split(".")[2:])
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))
    public = [
        node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not _has_example(ast.get_docstring(node) or "")] == []


def _has_example(text: str) -> bool:
    """The text of a command is its help, with an example for the shell."""
    return ">>>" in text or "Example: fastsam-export" in text
