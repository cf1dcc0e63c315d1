"""Dataclasses that hold arrays.

== of two arrays is an array, so a generated __eq__ raises ValueError and a generated __hash__ TypeError.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    path: ast.parse(path.read_text("utf-8")) for top in ("runtime", "export") for path in (ROOT / top).rglob("*.py")
}


def _array_types() -> set[str]:
    """NDArray, and the names that modules give to types made of it: `Array = NDArray[Any]`."""
    names = {"NDArray", "ndarray"}
    for tree in MODULES.values():
        for node in tree.body:
            if isinstance(node, ast.Assign) and any(
                name in ast.dump(node.value) for name in ("'NDArray'", "'ndarray'")
            ):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


ARRAY = re.compile(rf"\b({'|'.join(_array_types())})\b")


def _decorator(node: ast.ClassDef) -> ast.expr | None:
    """`@dataclass` or `@dataclass(…)`."""
    return next(
        (d for d in node.decorator_list if ast.unparse(d).split("(")[0] in ("dataclass", "dataclasses.dataclass")), None
    )


def _holds_arrays(node: ast.ClassDef) -> bool:
    fields = [ast.unparse(item.annotation) for item in node.body if isinstance(item, ast.AnnAssign)]
    return any(ARRAY.search(field) for field in fields if not field.startswith(("ClassVar", "Callable")))


def _says_what_equal_is(node: ast.ClassDef, decorator: ast.expr) -> bool:
    if any(isinstance(item, ast.FunctionDef) and item.name == "__eq__" for item in node.body):
        return True
    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
    return any(k.arg == "eq" and ast.unparse(k.value) == "False" for k in keywords)


CLASSES = [
    pytest.param(node, decorator, id=f"{path.relative_to(ROOT).as_posix()} {node.name}")
    for path, tree in sorted(MODULES.items())
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef) and (decorator := _decorator(node)) is not None and _holds_arrays(node)
]


@pytest.mark.parametrize(("node", "decorator"), CLASSES)
def test_a_dataclass_with_arrays_defines_equality_or_has_none(node: ast.ClassDef, decorator: ast.expr):
    assert _says_what_equal_is(node, decorator), "give it eq=False, or an __eq__ of its own"


def test_such_classes_are_seen():
    assert len(CLASSES) > 8 and any("Segments" in case.id for case in CLASSES)
