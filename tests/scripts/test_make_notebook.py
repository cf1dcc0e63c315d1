"""The notebook in examples/ runs, and what it shows is what its cells give today."""

from __future__ import annotations

import importlib.util
import math
import re
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="needs the extra [dev]")
pytest.importorskip("nbclient", reason="needs the extra [dev]")

ROOT = Path(__file__).resolve().parents[2]
NUMBER = re.compile(r"\d+(?:\.\d+)?")
LARGEST_BYTES = 1_000_000


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """scripts/dev/make_notebook.py"""
    spec = importlib.util.spec_from_file_location("make_notebook", ROOT / "scripts/dev/make_notebook.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(cell: Any) -> list[str]:
    """What the outputs of a cell say, in order; of pictures only that they are there."""
    parts = []
    for output in cell.outputs:
        parts += [output.text] if output.output_type == "stream" else []
        for kind, content in sorted(output.get("data", {}).items()):
            shown = re.sub(r"base64,[^\"]+", "base64", content) if kind.startswith("text/") else "a picture"
            parts.append(f"{kind}: {shown}")
    return parts


def same(text: str, other: str) -> bool:
    """The same words, and numbers that differ by no more than the rounding of another processor explains."""
    text, other = (re.sub(r"masks='[^']*'", "masks='…'", each) for each in (text, other))  # AVX-512 or AVX2
    if NUMBER.sub("#", text) != NUMBER.sub("#", other):
        return False
    pairs = zip(NUMBER.findall(text), NUMBER.findall(other), strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=0.02, abs_tol=0.02 if "." in a else 1) for a, b in pairs)


def test_the_notebook_runs_and_shows_what_it_gives(maker: ModuleType, tmp_path: Path) -> None:
    import nbformat

    committed = nbformat.read(maker.NOTEBOOK, as_version=4)
    nbformat.validate(committed)
    again = maker.executed(maker.NOTEBOOK, tmp_path)
    code = [cell for cell in again.cells if cell.cell_type == "code"]
    shown = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert len(code) >= 6
    for cell, before in zip(code, shown, strict=True):
        for now, then in zip_longest(texts(cell), texts(before), fillvalue=""):
            assert same(now, then), f"run scripts/dev/make_notebook.py; this cell is out of date:\n{cell.source}"
    assert {path.name for path in (tmp_path / "examples/output").iterdir()} >= {"coffee.json", "coffee.txt"}


def test_the_committed_notebook_is_small_and_has_pictures(maker: ModuleType) -> None:
    content = maker.NOTEBOOK.read_text(encoding="utf-8")
    assert len(content) < LARGEST_BYTES
    assert content.count("data:image/jpeg;base64,") >= 2
    assert content.count('"image/jpeg": ') >= 3
    assert "image/png" not in content
    assert str(ROOT) not in content


def test_every_picture_has_a_text_for_those_who_do_not_see_it(maker: ModuleType) -> None:
    import nbformat

    notebook = nbformat.read(maker.NOTEBOOK, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/jpeg" in output.get("data", {})]
    described = [output.metadata.get("image/jpeg", {}).get("alt", "") for output in pictures]
    tags = [tag for output in outputs for tag in re.findall("<img [^>]*>", output.get("data", {}).get("text/html", ""))]
    described += ["".join(re.findall(r' alt="([^"]*)"', tag)) for tag in tags]
    assert len(pictures) >= 3 and len(tags) >= 2
    assert all(len(text) >= 30 for text in described), described


@pytest.mark.parametrize(
    ("text", "other", "expected"),
    [
        ("38 segments", "38 segments", True),
        ("area 21586", "area 21590", True),
        ("area 21586", "area 24000", False),
        ("score 0.91", "score 0.92", True),
        ("score 0.91", "score 0.71", False),
        ("38 segments", "38 masks", False),
        ("38 segments", "38 39 segments", False),
    ],
)
def test_what_counts_as_the_same_text(text: str, other: str, expected: bool) -> None:
    assert same(text, other) is expected
