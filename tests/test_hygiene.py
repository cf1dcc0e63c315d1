"""Hooks for commits have the tools of CI; GitHub takes the forms for issues."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="needs the extra [dev]")
tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")

ROOT = Path(__file__).resolve().parents[1]
FORMS = ROOT / ".github/ISSUE_TEMPLATE"
DEV = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]["dev"]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]


def test_hooks_have_the_versions_of_dev() -> None:
    pinned = [text for hook in HOOKS for text in hook.get("additional_dependencies", [])]
    assert pinned
    assert not [text for text in pinned if text not in DEV], "change .pre-commit-config.yaml with pyproject.toml"


def test_hooks_run_what_ci_runs() -> None:
    script = (ROOT / "scripts/test.sh").read_text(encoding="utf-8")
    for hook in HOOKS:
        if hook["language"] == "python":
            tool, command = hook["entry"].split()[:2]
            assert f'"$bin/{tool}" {command} ' in script
        else:
            assert hook["entry"] == "bash scripts/test.sh --fast"
            assert "--fast" in script


@pytest.mark.parametrize(
    ("names", "schema"),
    [(["bug.yml", "feature.yml", "gpu.yml"], "github-issue-forms"), (["config.yml"], "github-issue-config")],
)
def test_forms_are_what_github_takes(names: list[str], schema: str) -> None:
    pytest.importorskip("check_jsonschema", reason="needs the extra [dev]")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    files = [str(FORMS / name) for name in names]
    done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_bug_report_asks_for_the_doctor() -> None:
    body = yaml.safe_load((FORMS / "bug.yml").read_text(encoding="utf-8"))["body"]
    asked = [field for field in body if "fastsam doctor" in field["attributes"].get("label", "")]
    assert [field["validations"]["required"] for field in asked] == [True]
