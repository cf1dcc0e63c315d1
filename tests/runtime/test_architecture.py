"""The direction of imports, what importing costs, and that no heavy library comes along."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "runtime"

ORDER = [
    "errors",
    "processors",
    "spec",
    "clip_spec",
    "masks_store",
    "packed_masks",
    "overlap",
    "writing",
    "segments",
    "fidelity",
    "image",
    "fidelity_gate",
    "letterbox",
    "crops",
    "decode",
    "masks",
    "prompts",
    "postprocess",
    "cuda",
    "plan_file",
    "connection",
    "engines",
    "clip",
    "mask_features",
    "text",
    "local",
    "on_device",
    "question",
    "wire",
    "remote",
    "stream",
    "render",
    "fidelity_pictures",
    "pipeline",
    "trt",
    "serving_clip",
    "serving",
    "files",
    "fidelity_report",
    "segment_files",
    "video",
    "fidelity_run",
    "doctor",
    "bench",
    "cli_options",
    "cli_settings",
    "cli_video",
    "cli_speed",
    "cli_bench",
    "cli",
]
"""Data flows left to right; a stage imports only what stands before it."""

HEAVY = (
    *("torch", "torchvision", "ultralytics", "tensorrt", "pycuda", "tritonclient", "supervision", "onnx"),
    *("open_clip", "transformers"),
)


def _imports(path: Path) -> list[ast.ImportFrom | ast.Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, (ast.ImportFrom, ast.Import))]


def _modules() -> list[str]:
    return sorted(path.stem for path in RUNTIME.glob("*.py") if path.stem != "__init__")


def test_every_module_has_its_place():
    assert set(_modules()) <= set(ORDER), "a new module: give it a rank in ORDER"


@pytest.mark.parametrize("stage", _modules())
def test_a_stage_imports_only_earlier_stages(stage: str):
    used = set()
    for node in _imports(RUNTIME / f"{stage}.py"):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            used |= {node.module.split(".")[0]} if node.module else {name.name for name in node.names}
    later = used - set(ORDER[: ORDER.index(stage)]) - {"__version__"}
    assert not later, f"{stage} imports {later}"


@pytest.mark.parametrize(
    "path",
    sorted([*(RUNTIME / "engines").glob("*.py"), *(RUNTIME / "cuda").rglob("*.py")]),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_packages_import_only_what_stands_before_them(path: Path):
    package = path.relative_to(RUNTIME).parts[0]
    used = {
        node.module.split(".")[0]
        for node in _imports(path)
        if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module
    }
    assert used <= set(ORDER[: ORDER.index(package)])


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda path: path.stem)
def test_the_runtime_has_no_word_of_torch_or_export(path: Path):
    for node in _imports(path):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
        for name in names:
            assert name.split(".")[0] not in {"torch", "torchvision", "ultralytics", "export", "runtime"}, name
            assert not name.startswith("fastsam_deploy.export"), name


def test_no_module_is_a_drawer():
    names = {
        path.stem for folder in ("runtime", "export", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    }
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}


def _run(code: str, python: str = sys.executable) -> str:
    # From elsewhere, so that the installed package is imported and not the sources.
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=Path(python).parent, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORT_ALL = """
import importlib, json, pkgutil, sys
import fastsam_deploy.runtime as runtime
optional = {"fastsam_deploy.runtime.engines.openvino", "fastsam_deploy.runtime.engines.tensorrt",
            "fastsam_deploy.runtime.engines.tensorrt_context", "fastsam_deploy.runtime.engines.tensorrt_log",
            "fastsam_deploy.runtime.engines.tensorrt_buffers",
            "fastsam_deploy.runtime.engines.triton", "fastsam_deploy.runtime.engines.triton_client",
            "fastsam_deploy.runtime.engines.triton_memory", "fastsam_deploy.runtime.engines.triton_transport"}
names = [m.name for m in pkgutil.walk_packages(runtime.__path__, "fastsam_deploy.runtime.")]
for name in names:
    if name not in optional:
        importlib.import_module(name)
for name in runtime.__all__:
    getattr(runtime, name)
print(json.dumps({"modules": names, "loaded": sorted({m.split(".")[0] for m in sys.modules})}))
"""


def test_importing_every_module_loads_no_heavy_library():
    found = json.loads(_run(IMPORT_ALL))
    assert "fastsam_deploy.runtime.pipeline" in found["modules"]
    assert not set(found["loaded"]) & {*HEAVY, "tokenizers"}


def test_every_module_imports_where_heavy_libraries_are_absent():
    python = os.environ.get("FASTSAM_BARE_PYTHON", sys.executable)
    absent = json.loads(
        _run(
            f"import importlib.util as u, json; print(json.dumps([n for n in {HEAVY!r} if not u.find_spec(n)]))", python
        )
    )
    if set(absent) != set(HEAVY):
        pytest.skip(
            "this environment has heavy libraries; scripts/test.sh makes one without, FASTSAM_BARE_PYTHON names it"
        )
    found = json.loads(_run(IMPORT_ALL, python))
    assert "fastsam_deploy.runtime.engines.onnxruntime" in found["modules"]


def test_importing_the_runtime_costs_little():
    # 0.2 s is the promise; the package is lazy and takes milliseconds. Best of three: the machine may be busy.
    code = "import time; t = time.perf_counter(); import fastsam_deploy.runtime; print(time.perf_counter() - t)"
    assert min(float(_run(code)) for _ in range(3)) < 0.2


def test_importing_changes_nothing_for_the_process():
    code = """
import json, logging, os, warnings
import cv2, onnxruntime, PIL.Image  # what these do is theirs
before = dict(os.environ), list(warnings.filters), list(logging.getLogger().handlers)
import fastsam_deploy.runtime.pipeline, fastsam_deploy.runtime.engines.onnxruntime, fastsam_deploy.runtime.render
print(json.dumps(before == (dict(os.environ), list(warnings.filters), list(logging.getLogger().handlers))))
"""
    assert json.loads(_run(code)) is True


def test_missing_opencv_says_what_to_install():
    code = """
import sys
sys.modules["cv2"] = None  # as if it were not installed
import fastsam_deploy.runtime as runtime
try:
    runtime.FastSAM
except runtime.FastSamError as error:
    print(error)
"""
    assert "pip install 'fastsam-deploy[cpu]'" in _run(code)
