"""Packages that bring the same module, as an environment has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastsam_deploy.runtime.system.packages import BUILDS, builds_of, version_of


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, and no other one."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    return tmp_path


def _install(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")


def test_all_builds_of_a_module_are_named(installed: Path) -> None:
    _install(installed, "onnxruntime", "1.32.0")
    _install(installed, "onnxruntime-gpu", "1.31.1")
    _install(installed, "ultralytics-opencv-headless", "8.4.190")
    assert builds_of("onnxruntime") == {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    assert builds_of("ultralytics") == {"ultralytics-opencv-headless": "8.4.190"}
    assert builds_of("onnxruntime-gpu") == {"onnxruntime-gpu": "1.31.1"}
    assert version_of("ultralytics") == "8.4.190" and version_of("cv2") is None and version_of("torch") is None


@pytest.mark.parametrize("module", BUILDS)
@pytest.mark.parametrize("number", [0, -1])
def test_any_build_gives_the_version(installed: Path, module: str, number: int) -> None:
    _install(installed, BUILDS[module][number], "3.0")
    assert version_of(module) == "3.0"
