"""The commands of trtexec, with a stand-in that takes only the flags of its version."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the extra [export]")

from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.export.tensorrt.request import request_for
from fastsam_deploy.export.tensorrt.settings import BuildSettings
from fastsam_deploy.export.tensorrt.with_trtexec import build_with_trtexec, trtexec_commands
from fastsam_deploy.runtime.engines.tensorrt.plan_file import read_plan

ROOT = Path(__file__).resolve().parents[3]

# From NVIDIA's migration guide and trtexec's source: what the two versions take, of the flags that matter here.
BOTH = [
    *("--onnx", "--saveEngine", "--skipInference", "--device", "--profile", "--minShapes", "--optShapes"),
    *("--maxShapes", "--profilingVerbosity", "--noTF32", "--memPoolSize", "--versionCompatible", "--verbose"),
    *("--hardwareCompatibilityLevel", "--builderOptimizationLevel", "--timingCacheFile", "--help"),
]
ONLY_10 = ["--stronglyTyped", "--fp16", "--bf16", "--int8", "--fp8", "--int4", "--best", "--calib"]

PROGRAM = """#!{python}
import sys
flags = {flags!r}
if sys.argv[1:] == ["--help"]:
    print("\\n".join(f"  {{flag}}  what it does" for flag in flags))
    sys.exit(0)
for argument in sys.argv[1:]:
    if argument.split("=")[0] not in flags:
        print("Unknown option:", argument)
        sys.exit(1)
given = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
with open(given["--saveEngine"], "wb") as plan:
    plan.write(b"ftrt" + bytes(20) + bytes({version}) + "\\n".join(sys.argv[1:]).encode())
sys.exit({code})
"""


def program(folder: Path, major: int, code: int = 0) -> None:
    """A `trtexec` in the folder, which writes what it was asked into the plan."""
    flags = BOTH + (ONLY_10 if major == 10 else [])
    path = folder / "trtexec"
    version = [major, 1, 0, 106]
    path.write_text(PROGRAM.format(python=sys.executable, flags=flags, version=version, code=code))
    path.chmod(0o755)


@pytest.mark.parametrize("major", [10, 11])
def test_it_is_run_with_the_flags_of_its_version(
    major: int, demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, major)
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = BuildSettings(2.5, tmp_path / "timings", True, True, 4)
    shapes = ["1x64x64,1x128x128,2x128x128", "1x64x64,1x96x128,1x96x128"]
    request = request_for(demo_onnx, tmp_path / "demo.plan", shapes=shapes, settings=settings)
    plan = build_with_trtexec(request, verbose=True)
    asked = (tmp_path / "demo.plan").read_bytes()[28:].decode().splitlines()
    assert asked[0] == f"--onnx={demo_onnx}"
    assert ("--stronglyTyped" in asked) == (major == 10)
    assert asked[asked.index("--profile=0") :][:8] == [
        "--profile=0",
        "--minShapes=images:1x3x64x64",
        "--optShapes=images:1x3x128x128",
        "--maxShapes=images:2x3x128x128",
        "--profile=1",
        "--minShapes=images:1x3x64x64",
        "--optShapes=images:1x3x96x128",
        "--maxShapes=images:1x3x96x128",
    ]
    assert {
        *("--noTF32", "--memPoolSize=workspace:2560M", "--versionCompatible", "--hardwareCompatibilityLevel=ampere+"),
        *("--builderOptimizationLevel=4", f"--timingCacheFile={tmp_path / 'timings'}", "--verbose"),
        *("--profilingVerbosity=detailed", "--skipInference", "--device=0"),
    } <= set(asked)
    file = read_plan(tmp_path / "demo.plan")
    assert file.version == f"{major}.1.0.106" == plan.record.tensorrt
    assert file.record is not None
    assert (file.record.gpu, file.record.compared, file.record.spec.precision) == (None, (), "fp32")
    assert {path.name for path in tmp_path.iterdir()} == {"trtexec", "demo.plan", "demo.json"}


def test_an_fp16_plan_gets_an_fp16_file(demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, 11)
    monkeypatch.setenv("PATH", str(tmp_path))
    build_with_trtexec(request_for(demo_onnx, tmp_path / "demo.plan", precision="fp16", max_batch=1, imgsz=64))
    given = tmp_path / "demo-fp16.onnx"
    assert f"--onnx={given}" in (tmp_path / "demo.plan").read_text(errors="replace")
    assert json.loads((tmp_path / "demo.json").read_text())["spec"]["precision"] == "fp16"
    # It is an FP16 file now: asked for again it is taken as it is, and nothing else can be made of it.
    assert request_for(given, tmp_path / "again.plan", precision="fp16").file_precision == "fp16"
    with pytest.raises(ValueError, match="asked for fp32, the file computes in fp16"):
        request_for(given, tmp_path / "again.plan", precision="fp32")


def test_commands_are_printed_for_both_versions(demo_onnx: Path, tmp_path: Path) -> None:
    request = request_for(demo_onnx, tmp_path / "demo.plan", max_batch=2, imgsz=64)
    commands = trtexec_commands(request, demo_onnx)
    assert set(commands[10]) - set(commands[11]) == {"--stronglyTyped"}
    assert set(commands[11]) <= set(commands[10])
    for major, command in commands.items():
        flags = BOTH + (ONLY_10 if major == 10 else [])
        assert command[0] == "trtexec"
        assert all(argument.split("=")[0] in flags for argument in command[1:])


@pytest.mark.parametrize(
    ("code", "message"), [(1, "trtexec ended with 1 and no plan"), (None, "found neither .* nor one on the path")]
)
def test_a_failure_leaves_nothing(
    code: int | None, message: str, demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code is not None:
        program(tmp_path, 11, code)
    monkeypatch.setenv("PATH", str(tmp_path))
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ExportError, match=message):
        build_with_trtexec(request_for(demo_onnx, tmp_path / "demo.plan", imgsz=64, precision="fp16"))
    assert {path.name for path in tmp_path.iterdir()} == before


def test_another_program_of_that_name_is_refused(
    demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trtexec").write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    (tmp_path / "trtexec").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="ended with 127 and is not trtexec's: no such library"):
        build_with_trtexec(request_for(demo_onnx, tmp_path / "demo.plan", imgsz=64))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "demo.engine"}, "ends in .plan"),
        ({"model": "demo.pt"}, "expected an .onnx file"),
        ({"precision": "bf16"}, "expected one of fp32, fp16, int8"),
        ({"precision": "int8"}, "needs photographs to calibrate on"),
        ({"precision": "fp16", "calibration": Path("photos")}, "nothing is quantized"),
    ],
)
def test_what_does_not_fit_is_refused(
    settings: dict[str, object], message: str, demo_onnx: Path, tmp_path: Path
) -> None:
    given = {"model": demo_onnx, "output": tmp_path / "demo.plan", **settings}
    with pytest.raises(ValueError, match=message):
        request_for(given.pop("model"), given.pop("output"), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"workspace_gib": 0}, {"optimization_level": 6}, {"optimization_level": -1}])
def test_settings_have_ranges(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        BuildSettings(**settings)  # type: ignore[arg-type]


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, "PYTHON": sys.executable, **variables}, capture_output=True, text=True, check=False
    )


def test_the_script_and_the_command_line(demo_onnx: Path, tmp_path: Path) -> None:
    script = str(ROOT / "scripts/onnx2trt.sh")
    assert "usage: bash scripts/onnx2trt.sh" in run("bash", script, "--help").stdout
    target = tmp_path / "demo.plan"
    arguments = ["--onnx", str(demo_onnx), "--shapes", "1x64x64,1x64x64,2x64x64", "--trtexec", "--device", "cuda:1"]
    done = run("bash", script, *arguments, "--precision=fp32", OUTPUT=str(target))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("#")] == ["# TensorRT 10", "# TensorRT 11"]
    command = shlex.split(lines[3])
    assert {"--device=1", f"--saveEngine={target}", "--maxShapes=images:2x3x64x64"} <= set(command)
    missing = run("bash", script, "--precision")
    assert (missing.returncode, missing.stderr) == (2, "onnx2trt.sh: --precision needs a value; see --help\n")
    failed = run("bash", script, str(tmp_path / "absent.onnx"), "--trtexec")
    assert failed.returncode == 2
    assert failed.stderr.startswith("fastsam-export: ") and failed.stderr.count("\n") == 1
    program(tmp_path, 11)
    built = run(
        "bash", script, *arguments, "--run", "--precision", "fp32", "--output", str(target),
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert "not compared with ONNX Runtime" in built.stdout and "TensorRT 11.1.0.106" in built.stdout
    assert target.is_file() and target.with_suffix(".json").is_file()


def test_the_exporter_of_plans_imports_neither_torch_nor_tensorrt() -> None:
    """NVIDIA's images have no torch; and asking for the command of trtexec needs no TensorRT."""
    code = (
        "import sys; import fastsam_deploy.export.tensorrt.to_engine, fastsam_deploy.export.cli.main\n"
        "print([n for n in ('torch', 'ultralytics', 'onnx', 'tensorrt', 'pycuda') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_onnx_the_file_is_believed(demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "fastsam_deploy.export.tensorrt.precision", raising=False)
    assert request_for(demo_onnx, tmp_path / "demo.plan", precision="fp32").precision == "fp32"
    with pytest.raises(ImportError, match="pip install onnx, or make that file first"):
        request_for(demo_onnx, tmp_path / "demo.plan", precision="fp16")
