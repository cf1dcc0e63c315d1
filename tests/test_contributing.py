"""CONTRIBUTING.md is true: the paths that it names exist, and it has a row for every package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.runtime.test_architecture import ORDER

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TO_BE_MADE: set[str] = set()
"""Named as the place for something that does not exist yet."""


def named_paths() -> list[str]:
    """Every word that looks like a path of the repository."""
    words = re.findall(r"[\w./-]+", TEXT)
    tops = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    return sorted({word.rstrip("./") for word in words if "/" in word and word.split("/")[0] in tops})


@pytest.mark.parametrize("name", named_paths())
def test_a_path_exists(name: str) -> None:
    assert name in TO_BE_MADE or (ROOT / name).exists(), f"CONTRIBUTING.md names {name}"


@pytest.mark.parametrize("top", ["runtime", "export"])
def test_every_package_is_on_the_map(top: str) -> None:
    for path in sorted((ROOT / top).iterdir()):
        if path.name == "__init__.py" or path.name.startswith("_") or path.suffix not in {"", ".py"}:
            continue
        if path.is_dir() and not (path / "__init__.py").is_file():
            continue
        if top == "export" and path.suffix == ".py":
            continue  # export/ has two flat modules: to_onnx.py and errors.py
        assert f"`{top}/{path.name}`" in TEXT, f"CONTRIBUTING.md has no row for {top}/{path.name}"


def test_a_constant_is_where_the_table_says() -> None:
    rows = re.findall(r"`([A-Z_]+)` in `([\w/.]+)`", TEXT)
    assert len(rows) >= 4
    for name, path in rows:
        assert re.search(rf"^{name} = ", (ROOT / path).read_text(encoding="utf-8"), re.M), f"{path} has no {name}"


def test_the_map_is_in_the_order_of_imports() -> None:
    rows = re.findall(r"^\| (`runtime/.*?) \|", TEXT.split("## Which file")[0], re.M)
    names = [name.removesuffix(".py") for row in rows for name in re.findall(r"`runtime/([\w.]+)`", row)]
    assert names == ORDER


def test_what_is_to_be_made_is_not_there_yet() -> None:
    assert not [name for name in TO_BE_MADE if (ROOT / name).exists()]


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_an_issue_template_is_complete(path: Path) -> None:
    template = pytest.importorskip("yaml").safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert template == {"blank_issues_enabled": True}
        return
    assert template["name"] and template["description"]
    for part in template["body"]:
        assert part["type"] in {"markdown", "input", "textarea"} and part["attributes"]
        assert part["type"] == "markdown" or (part["id"] and part["attributes"]["label"])
