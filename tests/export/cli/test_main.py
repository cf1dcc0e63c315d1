"""`fastsam-export` and `scripts/pt2onnx.sh` as a user starts them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")

from typer.testing import CliRunner

from fastsam_deploy.export.cli.main import app, size_from_text
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.errors import ParameterError

pytestmark = pytest.mark.export

ROOT = Path(__file__).resolve().parents[3]
QUICK = ("--exporter", "torchscript", "--no-simplify")


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "PYTHON": sys.executable, **environment}
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=settings, capture_output=True, text=True, check=False
    )


def export(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    start = "from fastsam_deploy.export.cli.main import main; main()"
    return run(sys.executable, "-c", start, "onnx", *arguments, cwd=cwd)


def script(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("bash", ROOT / "scripts/pt2onnx.sh", *arguments, cwd=cwd, **environment)


def test_a_good_export_prints_what_was_proven(demo_checkpoint: Path, tmp_path: Path) -> None:
    done = export(demo_checkpoint, "--imgsz", "64,96", "--fixed", "--batch", "3", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("boxes (px)", "scores", "mask IoU, mean", "batch 3, size 64 × 96", "detections by the checkpoint"):
        assert word in done.stdout
    with open_engine(tmp_path / "fastsam-demo.onnx") as engine:
        assert (engine.spec.batch, engine.spec.fixed_hw) == (3, (64, 96))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.pt",), "missing.pt: no such file"),
        ((ROOT / "README.md",), "README.md: not a readable checkpoint"),
        ((ROOT / "models/fastsam-demo.pt", "--imgsz", "ten"), "imgsz is 'ten'"),
    ],
    ids=["no file", "no checkpoint", "no size"],
)
def test_an_expected_error_is_one_line_and_exit_2(arguments: tuple[str | Path, ...], said: str, tmp_path: Path) -> None:
    done = export(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("fastsam-export: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("onnx", "m.pt", "-o", "m.pt"),
        ("onnx", "m.pt", "-o", "link.onnx"),
        ("quantize", "m.onnx", "--calibration", ".", "-o", "./m.onnx"),
        ("quantize", "m.onnx", "--calibration", ".", "-o", "hard.onnx"),
        ("quantize", "m.onnx", "--calibration", ".", "--keep-from", "m.pt", "-o", "link.onnx"),
        ("engine", "m.onnx", "-o", "m.onnx"),
        ("engine", "m.onnx", "-o", "link.plan"),
        ("engine", "m.onnx", "--timing-cache", "m.onnx"),
        ("engine", "m.onnx", "-o", "m.plan", "--timing-cache", "m.json"),
    ],
    ids=" ".join,
)
def test_no_output_replaces_an_input(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_onnx: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(demo_onnx, "m.onnx")
    Path("m.pt").write_bytes(b"{}")
    Path("link.onnx").symlink_to("m.pt")
    Path("link.plan").symlink_to("m.onnx")
    os.link("m.onnx", "hard.onnx")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, ParameterError)
    assert "would be overwritten; choose another" in str(done.exception)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("768,1024", (768, 1024)), (" 64 , 96 ", (64, 96))], ids=str
)
def test_sizes_are_read(text: str, size: int | tuple[int, int]) -> None:
    assert size_from_text(text) == size


@pytest.mark.parametrize("text", ["", "1,2,3", "64x96", "64,", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="imgsz"):
        size_from_text(text)


def test_the_script_takes_the_flags_of_the_original(demo_checkpoint: Path, tmp_path: Path) -> None:
    flags = ("--weights", demo_checkpoint, "--output", "deep/m.onnx", "--max_size", "96")
    done = script(*flags, "--fixed", *QUICK, cwd=tmp_path, WEIGHTS="not-this.pt", MAX_SIZE="100")
    assert done.returncode == 0, done.stderr
    with open_engine(tmp_path / "deep/m.onnx") as engine:
        assert engine.spec.fixed_hw == (96, 96)


def test_the_script_takes_its_environment_variables(demo_checkpoint: Path, tmp_path: Path) -> None:
    done = script(*QUICK, cwd=tmp_path, WEIGHTS=str(demo_checkpoint), OUTPUT="env.onnx", MAX_SIZE="64")
    assert done.returncode == 0, done.stderr
    with open_engine(tmp_path / "env.onnx") as engine:
        assert (engine.spec.imgsz, engine.spec.fixed_hw) == (64, None)


def test_the_script_explains_itself_and_passes_errors_on(tmp_path: Path) -> None:
    told = script("--help", cwd=tmp_path)
    assert told.returncode == 0
    for word in ("--weights", "--output", "--max_size", "MAX_SIZE", ".venv-export"):
        assert word in told.stdout
    assert script("--weights", cwd=tmp_path).returncode == 2
    failed = script("--weights", "missing.pt", cwd=tmp_path)
    assert failed.returncode == 2
    assert "missing.pt: no such file" in failed.stderr
    assert list(tmp_path.iterdir()) == []
