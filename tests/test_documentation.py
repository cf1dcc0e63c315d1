"""The documentation site is built strictly, is complete, and asks no other host for anything."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastsam_deploy.runtime

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("docs", "runtime", "export", "benchmarks", "deploy", "examples", "models", "triton_models", "scripts")
NAV = re.findall(r"^ +- .*?: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, from a copy of the sources."""
    pytest.importorskip("material", reason="needs the extra [docs]")
    pytest.importorskip("mkdocstrings", reason="needs the extra [docs]")
    clone = tmp_path_factory.mktemp("clone")
    for name in SOURCES:
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.md"), ROOT / "mkdocs.yml"]:
        shutil.copy(path, clone)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=clone, capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return clone / "build/site"


@pytest.mark.parametrize("page", NAV)
def test_a_page_of_the_contents_is_built(page: str, site: Path):
    name = page.replace("README.md", "index.md").replace(".md", ".html")
    assert "<article" in (site / name).read_text(encoding="utf-8")


def test_every_page_is_in_the_contents():
    assert {path.name for path in ROOT.glob("docs/*.md")} <= set(NAV)


def test_nothing_is_loaded_from_other_hosts(site: Path):
    for path in site.rglob("*.html"):
        tags = re.findall(r"<(?:script|link|img|iframe|source)[^>]*>", path.read_text(encoding="utf-8"))
        assert not [tag for tag in tags if re.search(r"(?:src|href)=\"?(?:https?:)?//", tag)], path
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", fastsam_deploy.runtime.__all__)
def test_the_reference_has_every_public_name(name: str, site: Path):
    text = (site / "api.html").read_text(encoding="utf-8")
    assert re.search(rf'id="fastsam_deploy\.runtime\.[\w.]*\b{name}"', text)


def test_links_out_of_the_site_become_paths(site: Path):
    text = html.unescape((site / "batch.html").read_text(encoding="utf-8"))
    assert "<code>benchmarks/results/tiles.md</code>" in text
    assert 'href="repository/benchmarks/REPORT.html"' in (site / "performance.html").read_text(encoding="utf-8")


def test_a_broken_link_ends_the_build(site: Path):
    """In the copy that the site was built from."""
    page = site.parents[1] / "docs/limits.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n[gone](nowhere.md)\n", encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", "build/again"]
    done = subprocess.run(command, cwd=page.parents[1], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode != 0 and "nowhere.md" in done.stderr, done.stderr


def test_the_start_page(site: Path):
    text = (site / "index.html").read_text(encoding="utf-8")
    assert "Start in a minute" in text and "coffee-everything.jpg" in text
    assert (site / "images/coffee-everything.jpg").is_file() and (site / "images/pipeline.svg").is_file()
