"""Where PyTorch is absent: the direct export works, says that it was not compared, and gives the same file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the extra [direct]: onnx is not installed")

ABSENT = ("torch", "torchvision", "ultralytics", "onnxslim", "onnxscript")

BLOCKED = f"import sys\nfor name in {ABSENT!r}: sys.modules[name] = None  # as if it were not installed\n"


def run(code: str, *arguments: object, python: str = sys.executable, fails: bool = False) -> str:
    """Run code in a process of its own, from elsewhere, so that the installed package is imported."""
    done = subprocess.run(
        [python, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=Path(python).parent, check=False
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


@pytest.fixture(scope="module")
def python_without_torch() -> str:
    """An environment with the extras [cpu,direct] and nothing else; scripts/test.sh makes it."""
    python = os.environ.get("FASTSAM_DIRECT_PYTHON")
    if python is None:
        pytest.skip("FASTSAM_DIRECT_PYTHON names no environment with [cpu,direct]; scripts/test.sh makes one")
    present = json.loads(
        run(
            f"import importlib.util as u, json; print(json.dumps([n for n in {ABSENT!r} if u.find_spec(n)]))",
            python=python,
        )
    )
    assert present == []
    return python


EXPORT = """
import sys
from fastsam_deploy.export.cli.main import main
sys.argv = ["fastsam-export", "onnx", *sys.argv[1:]]
main()
"""


def test_the_modules_of_the_direct_way_import_without_pytorch() -> None:
    names = ("direct.to_onnx", "cli.main", "proof.suppression", "proof.alone", "graph.request", "graph.finish")
    imports = "".join(f"import fastsam_deploy.export.{name}\n" for name in names)
    loaded = json.loads(run(f"{BLOCKED}{imports}import json\nprint(json.dumps(sorted(sys.modules)))"))
    assert "fastsam_deploy.export.direct.network" in loaded
    assert "fastsam_deploy.export.checkpoint.restricted" not in loaded


@pytest.mark.parametrize("options", [(), ("--half",), ("--compact",), ("--nms",), ("--fixed", "--batch", "2")], ids=str)
def test_the_command_exports_and_says_that_nothing_was_compared(
    options: tuple[str, ...], demo_checkpoint: Path, tmp_path: Path
) -> None:
    from fastsam_deploy.runtime.engines import open_engine

    target = tmp_path / "m.onnx"
    said = run(BLOCKED + EXPORT, demo_checkpoint, "--direct", "-o", target, "--imgsz", "320", *options)
    assert "not compared with PyTorch on this machine" in " ".join(said.split())
    assert ("compared with the FP32 file" in " ".join(said.split())) == ("--half" in options)
    with open_engine(target) as engine:
        assert engine.spec.tools["compared"] == "not compared with PyTorch on this machine"
        assert engine.spec.precision == ("fp16" if "--half" in options else "fp32")


def test_the_file_is_the_same_with_and_without_pytorch_but_for_what_it_says(
    demo_checkpoint: Path, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("torch", reason="needs the extra [export]")
    files = [tmp_path / name for name in ("without.onnx", "with.onnx")]
    for blocked, target in zip((BLOCKED, ""), files, strict=True):
        run(blocked + EXPORT, demo_checkpoint, "--direct", "-o", target, "--imgsz", "320")
    models = [onnx.load(path) for path in files]
    assert models[0].graph == models[1].graph


def test_a_wrong_graph_is_not_written(demo_checkpoint: Path, tmp_path: Path) -> None:
    wrong = """
import fastsam_deploy.export.direct.layers as layers
import numpy as np
fold = layers._normalisation
layers._normalisation = lambda norm, channels: tuple(part * np.nan for part in fold(norm, channels))
"""
    said = run(BLOCKED + wrong + EXPORT, demo_checkpoint, "--direct", "-o", tmp_path / "m.onnx", fails=True)
    assert "too large for FP32" in said
    assert list(tmp_path.iterdir()) == []


def test_without_pytorch_the_other_way_names_both_remedies(demo_checkpoint: Path, tmp_path: Path) -> None:
    said = run(BLOCKED + EXPORT, demo_checkpoint, "-o", tmp_path / "m.onnx", fails=True)
    assert "pip install 'fastsam-deploy[export]'" in said
    assert "--direct" in said


def test_without_onnx_the_extra_is_named(demo_checkpoint: Path, tmp_path: Path) -> None:
    blocked = f"{BLOCKED}sys.modules['onnx'] = None\n"
    said = run(blocked + EXPORT, demo_checkpoint, "--direct", "-o", tmp_path / "m.onnx", fails=True)
    assert "pip install 'fastsam-deploy[direct]'" in said


@pytest.mark.parametrize("option", [("--trust",), ("--exporter", "torchscript")], ids=str)
def test_options_of_pytorch_are_refused(option: tuple[str, ...], demo_checkpoint: Path, tmp_path: Path) -> None:
    said = run(BLOCKED + EXPORT, demo_checkpoint, "--direct", "-o", tmp_path / "m.onnx", *option, fails=True)
    assert "leave --trust and --exporter out" in said


def test_an_environment_without_pytorch_exports_and_segments(
    python_without_torch: str, demo_checkpoint: Path, coffee: Path, tmp_path: Path
) -> None:
    """The whole way of a user: pip install 'fastsam-deploy[cpu,direct]', export, segment."""
    command = Path(python_without_torch).with_name("fastsam-export")
    assert command.is_file() or shutil.which("fastsam-export")
    target = tmp_path / "m.onnx"
    run(EXPORT, demo_checkpoint, "--direct", "-o", target, "--imgsz", "640", python=python_without_torch)
    segment = (
        "import sys; from fastsam_deploy.runtime import FastSAM; print(len(FastSAM(sys.argv[1]).segment(sys.argv[2])))"
    )
    count = int(run(segment, target, coffee, python=python_without_torch))
    shipped = Path(demo_checkpoint).with_suffix(".onnx")
    assert count == int(run(segment, shipped, coffee, python=python_without_torch)) > 5
