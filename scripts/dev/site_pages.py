"""A hook of MkDocs (see mkdocs.yml): pages that stand elsewhere in the repository, and links that lead out of docs.

Files such as CONTRIBUTING.md and deploy/README.md become pages under `repository/`. Links to them, in any page, lead to
those pages. Links to other files of the repository become the path in code type, because the site has no such files.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/REPORT.md",
    "deploy/README.md",
    "examples/triton/README.md",
    "models/README.md",
    "triton_models/README.md",
)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
_ELSEWHERE = ("http://", "https://", "mailto:", "#")


def on_startup(**_: Any) -> None:
    """Lay out the sources as the package that they become, for the API reference: fastsam_deploy/runtime."""
    package = ROOT / "build/site_sources/fastsam_deploy"
    package.mkdir(parents=True, exist_ok=True)
    for name in ("runtime", "export"):
        if not (package / name).is_symlink():
            (package / name).symlink_to(ROOT / name)
    (package / "__init__.py").write_text('"""FastSAM."""\n', encoding="utf-8")


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages that stand elsewhere."""
    for path in PAGES:
        files.append(File.generated(config, f"repository/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Turn the links of a page into those of the site."""
    site_path = page.file.src_uri
    parts = _CODE.split(markdown)
    return "".join(part if part.startswith("```") else with_site_links(part, site_path) for part in parts)


def with_site_links(markdown: str, site_path: str) -> str:
    """The text with its links changed.

    Args:
        markdown: text without fenced code.
        site_path: of the page in the site, such as "batch.md" or "repository/CONTRIBUTING.md".

    Returns:
        The text. A link to a file that is not in the site is its title, and the path in code type.

    Example:
        >>> with_site_links("[report](../benchmarks/REPORT.md)", "performance.md")
        '[report](repository/benchmarks/REPORT.md)'
        >>> with_site_links("[results](../benchmarks/results/tiles.md)", "batch.md")
        'results (`benchmarks/results/tiles.md`)'
    """
    return _LINK.sub(lambda link: _site_link(link, site_path), markdown)


def _site_link(link: re.Match[str], site_path: str) -> str:
    image, title, target = link.groups()
    if target.startswith(_ELSEWHERE):
        return link.group(0)
    path, _, anchor = target.partition("#")
    there = posixpath.normpath(posixpath.join(posixpath.dirname(_repository_path(site_path)), path))
    goal = _site_path(there)
    if goal is None and not (ROOT / there).exists():
        return link.group(0)  # a broken link: MkDocs says so
    if goal is None:
        return f"`{there}`" if title.strip("`") == there else f"{title} (`{there}`)"
    relative = posixpath.relpath(goal, posixpath.dirname(site_path) or ".")
    return f"{image}[{title}]({relative}{'#' + anchor if anchor else ''})"


def _repository_path(site_path: str) -> str:
    """Where a page of the site stands in the repository."""
    return site_path.removeprefix("repository/") if site_path.startswith("repository/") else f"docs/{site_path}"


def _site_path(repository_path: str) -> str | None:
    """Where a file of the repository is in the site; None if it is not."""
    if repository_path in PAGES:
        return f"repository/{repository_path}"
    if repository_path == "README.md":
        return "index.md"
    in_docs = repository_path.startswith("docs/") and (ROOT / repository_path).is_file()
    return repository_path.removeprefix("docs/") if in_docs else None
