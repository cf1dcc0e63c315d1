"""docs/reliability.md: every test that it names exists, and every writing command has a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.hostile.boundaries import BOUNDARIES
from tests.hostile.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert not name or name in names, f"{path} has no {name}"
    assert any(known.startswith(("test_", "Test")) for known in names)


def test_there_are_tests_for_all_promises() -> None:
    assert len(NAMED) > 15
    tables = re.findall(r"^\| promise \| shown by \|\n\|---\|---\|\n((?:\|.*\n)+)", TEXT, re.M)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 12
    for row in rows:
        assert "`tests/" in row, row


def test_every_writing_command_has_a_row() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", TEXT, re.M)
    assert set(COMMANDS) <= set(rows)


def test_every_boundary_is_counted() -> None:
    counted = TEXT.partition("## The campaign")[2]
    for name in BOUNDARIES:
        assert f"`{name}`" in counted or f"`{name.split('-')[0]}-*`" in counted, name
