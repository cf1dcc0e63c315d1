"""`fastsam download`: from a web server to a model that segments."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastsam_deploy.runtime.cli import download as module
from fastsam_deploy.runtime.cli.process import FAILED
from fastsam_deploy.runtime.pipeline import FastSAM
from fastsam_deploy.runtime.weights import published
from fastsam_deploy.runtime.weights.published import PublishedWeights
from tests.command_line import run_fastsam
from tests.web_server import Release, release_on_this_machine


@pytest.fixture
def release() -> Iterator[Release]:
    with release_on_this_machine() as served:
        yield served


@pytest.fixture
def demo_as_fastsam_s(
    demo_checkpoint: Path, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Release:
    """The demo checkpoint in place of the published one, on a server on this machine."""
    content = demo_checkpoint.read_bytes()
    weights = PublishedWeights("FastSAM-s", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(published.PUBLISHED, "FastSAM-s", weights)
    monkeypatch.setenv("FASTSAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    release.files["FastSAM-s.pt"] = content
    return release


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    return run_fastsam(monkeypatch, "download", *arguments)


def test_a_download_ends_as_a_model_that_segments(
    demo_as_fastsam_s: Release, coffee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    pytest.importorskip("onnx", reason="needs the extra [direct]: onnx is not installed")
    demo_as_fastsam_s.cuts += [2_000_000]
    assert run(monkeypatch, "FastSAM-s", "--from", demo_as_fastsam_s.url, "--imgsz", "640") in (0, None)
    said = " ".join(capfd.readouterr().out.split())
    assert "use it with: fastsam segment photo.jpg --model FastSAM-s" in said
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["FastSAM-s.onnx", "FastSAM-s.pt"]
    assert [asked for _, asked in demo_as_fastsam_s.asked] == [None, "bytes=2000000-"]
    with FastSAM("FastSAM-s") as model, FastSAM() as shipped:
        assert model.spec.checkpoint_sha256 == published.PUBLISHED["FastSAM-s"].sha256
        assert len(model.segment(coffee)) == len(shipped.segment(coffee)) > 5
    assert run(monkeypatch, "FastSAM-s", "--from", demo_as_fastsam_s.url) in (0, None)
    assert len(demo_as_fastsam_s.asked) == 2
    (tmp_path / "cache/FastSAM-s.onnx").unlink()
    capfd.readouterr()
    assert run(monkeypatch, "FastSAM-s", "--quiet") in (0, None)  # made again of the checkpoint that is there
    assert capfd.readouterr() == ("", "")


def test_without_onnx_nothing_is_downloaded(
    demo_as_fastsam_s: Release, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert run(monkeypatch, "FastSAM-s", "--from", demo_as_fastsam_s.url) == FAILED
    assert "pip install 'fastsam-deploy[direct]'" in capfd.readouterr().err
    assert demo_as_fastsam_s.asked == []


def test_a_checkpoint_that_cannot_be_converted_is_kept_and_said(
    demo_as_fastsam_s: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    pytest.importorskip("onnx", reason="needs the extra [direct]: onnx is not installed")
    monkeypatch.setitem(
        published.PUBLISHED, "FastSAM-s", PublishedWeights("FastSAM-s", 4, hashlib.sha256(b"text").hexdigest())
    )
    demo_as_fastsam_s.files["FastSAM-s.pt"] = b"text"
    assert run(monkeypatch, "FastSAM-s", "--from", demo_as_fastsam_s.url) == FAILED
    said = " ".join(capfd.readouterr().err.split())
    assert re.search(r"fastsam-export: FastSAM-s\.pt: is no zip archive.*no ONNX file could be made of it", said)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["FastSAM-s.pt"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("FastSAM-m",), "no published weights; expected FastSAM-s or FastSAM-x"),
        (("FastSAM-s", "--from", "http://127.0.0.1:9"), "put it at .*FastSAM-s.pt"),
    ],
)
def test_what_cannot_be_downloaded_is_said(
    arguments: tuple[str, ...],
    said: str,
    demo_as_fastsam_s: Release,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert run(monkeypatch, *arguments) == FAILED
    assert re.search(said, " ".join(capfd.readouterr().err.split()))
