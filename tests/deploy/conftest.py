"""What several tests of deploy/ look at: the manifests, compose.yaml, the command line that the entrypoint makes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

PRINTS_ITS_ARGUMENTS = """#!/usr/bin/env bash
printf '%s\\n' "$@"
echo "environment=${FASTSAM_ADMIN_KEY-unset}"
"""


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="needs the extra [dev]")
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def manifests() -> list[dict[str, Any]]:
    """Every object of deploy/kubernetes but the kustomization."""
    yaml = pytest.importorskip("yaml", reason="needs the extra [dev]")
    paths = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    documents = [
        document
        for path in paths
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]
    assert len(documents) >= 10
    return documents


@pytest.fixture(scope="session")
def manifest(manifests: list[dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    """The object of a kind; the first one where there are two."""
    return lambda kind: next(document for document in manifests if document["kind"] == kind)


@pytest.fixture
def entrypoint(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs entrypoint.sh with a `tritonserver` that prints how it was called."""
    server = tmp_path / "tritonserver"
    server.write_text(PRINTS_ITS_ARGUMENTS)
    server.chmod(0o755)

    def run(*arguments: str, **environment: str) -> list[str]:
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", DEPLOY / "entrypoint.sh", *arguments],
            env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.splitlines()

    return run
