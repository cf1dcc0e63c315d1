"""Where downloaded weights are kept, and models that are opened by their names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastsam_deploy.runtime.errors import ModelError
from fastsam_deploy.runtime.opening import model_files, open_model
from fastsam_deploy.runtime.pipeline import FastSAM
from fastsam_deploy.runtime.weights import cache
from fastsam_deploy.runtime.weights.cache import cache_folder


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FASTSAM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "{home}/.cache/fastsam-deploy"),
        ("linux", {"XDG_CACHE_HOME": "/scratch/cache"}, "/scratch/cache/fastsam-deploy"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "{home}/.cache/fastsam-deploy"),
        ("darwin", {"XDG_CACHE_HOME": "/scratch/cache"}, "{home}/Library/Caches/fastsam-deploy"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/fastsam-deploy"),
        ("linux", {"FASTSAM_CACHE": "/models", "XDG_CACHE_HOME": "/scratch"}, "/models"),
        ("linux", {"FASTSAM_CACHE": "~/models"}, "{home}/models"),
    ],
)
def test_the_folder_is_that_of_the_platform_or_the_chosen_one(
    platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected.format(home=Path.home()))


def test_a_name_opens_the_downloaded_model(
    demo_onnx: Path, coffee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTSAM_CACHE", str(tmp_path))
    shutil.copyfile(demo_onnx, tmp_path / "FastSAM-s.onnx")
    with FastSAM("FastSAM-s") as model, FastSAM(demo_onnx) as same, open_model("FastSAM-s") as by_command:
        expected = same.segment(coffee).scores.tolist()
        assert model.segment(coffee).scores.tolist() == by_command.segment(coffee).scores.tolist() == expected
    assert model_files("FastSAM-s")[0] == tmp_path / "FastSAM-s.onnx"


def test_a_name_that_was_not_downloaded_says_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSAM_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"FastSAM-x\.onnx; run: fastsam download FastSAM-x$"):
        FastSAM("FastSAM-x")
