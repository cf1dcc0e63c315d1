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
    "limits",
    "documents",
    "system",
    "isolation",
    "native",
    "settings",
    "network",
    "suppression",
    "input_size",
    "spec",
    "connection",
    "tuned",
    "weights",
    "masks",
    "formats",
    "exchange",
    "drawing",
    "segments",
    "stages",
    "cuda",
    "engines",
    "clip",
    "prompts",
    "wire",
    "segmenters",
    "tiling",
    "tracking",
    "render",
    "lifetime",
    "pipeline",
    "trt",
    "opening",
    "serving",
    "http_server",
    "sources",
    "batch",
    "measure",
    "tuning",
    "accuracy",
    "app",
    "cli",
    "top_level",
]
"""Data flows left to right; a package or module imports only what stands before it, types included."""

HEAVY = (
    *("torch", "torchvision", "ultralytics", "tensorrt", "pycuda", "tritonclient", "supervision", "onnx"),
    *("open_clip", "transformers", "pandas", "labelme", "pyarrow", "fsspec", "fastapi", "uvicorn", "prometheus_client"),
    *("gradio", "starlette"),
)


def _imports(path: Path) -> list[ast.ImportFrom | ast.Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, (ast.ImportFrom, ast.Import))]


def _modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if path != folder / "__init__.py")


def _imported(path: Path, top: Path) -> set[str]:
    """Dotted names within the folder `top` that a file imports relatively: modules, or names of packages."""
    package = path.relative_to(top).parts[:-1]
    names = set()
    for node in _imports(path):
        if isinstance(node, ast.ImportFrom) and 0 < node.level <= len(package) + 1:
            start = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            base = ".".join(part for part in start if part)
            for alias in node.names:
                module = f"{base}.{alias.name}".lstrip(".")
                is_module = any((top / module.replace(".", "/")).with_suffix(s).exists() for s in ("", ".py"))
                names.add(module if is_module else base)
    return names - {""}


def test_every_module_has_its_place():
    there = {path.relative_to(RUNTIME).parts[0].removesuffix(".py") for path in _modules(RUNTIME)}
    assert there == set(ORDER), "a new package: give it a rank in ORDER"


@pytest.mark.parametrize("path", _modules(RUNTIME), ids=lambda path: path.relative_to(RUNTIME).as_posix())
def test_a_stage_imports_only_earlier_stages(path: Path):
    own = path.relative_to(RUNTIME).parts[0].removesuffix(".py")
    used = {name.split(".")[0] for name in _imported(path, RUNTIME)}
    later = used - set(ORDER[: ORDER.index(own)]) - {own, "__version__"}
    assert not later, f"{path.relative_to(RUNTIME)} imports {later}"


@pytest.mark.parametrize("top", [RUNTIME, ROOT / "export"], ids=lambda path: path.name)
def test_no_module_imports_itself_in_a_circle(top: Path):
    """Also not for types only: what knows each other both ways is one thing, or has a third between them."""
    graph = {
        ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__"): _imported(path, top)
        for path in _modules(top)
    }
    circle = _circle(graph)
    assert circle is None, " → ".join(circle or ())


def _circle(graph: dict[str, set[str]]) -> list[str] | None:
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str] | None:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done or name not in graph:
            return None
        done.add(name)
        return next(filter(None, (walk(other, [*way, name]) for other in sorted(graph[name] - {name}))), None)

    return next(filter(None, (walk(name, []) for name in sorted(graph))), None)


def test_a_circle_is_found():
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert _circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda path: path.relative_to(RUNTIME).as_posix())
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
optional = ("fastsam_deploy.runtime.engines.openvino", "fastsam_deploy.runtime.engines.tensorrt.",
            "fastsam_deploy.runtime.engines.triton.", "fastsam_deploy.runtime.http_server.web.",
            "fastsam_deploy.runtime.app.page")
names = [m.name for m in pkgutil.walk_packages(runtime.__path__, "fastsam_deploy.runtime.")]
for name in names:
    if not name.startswith(optional) and not name.endswith("__main__"):
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
    assert "fastsam_deploy.runtime.engines.onnxruntime.host" in found["modules"]


def test_importing_the_runtime_costs_little():
    # 0.2 s is the promise; the package is lazy and takes milliseconds. Best of three: the machine may be busy.
    code = "import time; t = time.process_time(); import fastsam_deploy.runtime; print(time.process_time() - t)"
    assert min(float(_run(code)) for _ in range(3)) < 0.2


def test_the_package_itself_has_the_names_of_the_runtime():
    code = """
import json, sys, time
start = time.process_time()
import fastsam_deploy
seconds, loaded = time.process_time() - start, set(sys.modules) & {"cv2", "numpy", "onnxruntime", "PIL"}
from fastsam_deploy import *
names = set(fastsam_deploy.__all__)
same = all(getattr(fastsam_deploy, name) is getattr(fastsam_deploy.runtime, name) for name in names)
print(json.dumps([seconds, sorted(loaded), same, names <= globals().keys(), names < set(dir(fastsam_deploy))]))
"""
    found = [json.loads(_run(code)) for _ in range(3)]
    assert min(seconds for seconds, *_ in found) < 0.2
    assert found[0][1:] == [[], True, True, True]
    code = "import fastsam_deploy\ntry: fastsam_deploy.FastSam\nexcept AttributeError as error: print(error)"
    assert _run(code) == "module 'fastsam_deploy' has no attribute 'FastSam'\n"


def test_type_checkers_see_all_names_of_the_package_itself(tmp_path: Path):
    pytest.importorskip("mypy", reason="needs the extra [dev]")
    (tmp_path / "caller.py").write_text(
        "import fastsam_deploy as fs\nfrom fastsam_deploy import FastSAM\nreveal_type(FastSAM().segment('x.jpg'))\n"
        + "".join(f"fs.{name}\n" for name in _public_names())
        + "fs.FastSam\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", tmp_path, "caller.py"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if line.startswith("caller.py")]
    assert len(said) == 2, done.stdout
    assert 'Revealed type is "fastsam_deploy.runtime.segments.Segments"' in said[0]
    assert 'has no attribute "FastSam"' in said[1]


def _public_names() -> list[str]:
    import fastsam_deploy.runtime

    return fastsam_deploy.runtime.__all__


def test_importing_changes_nothing_for_the_process():
    code = """
import json, logging, os, warnings
import cv2, onnxruntime, PIL.Image  # what these do is theirs
before = dict(os.environ), list(warnings.filters), list(logging.getLogger().handlers)
import fastsam_deploy.runtime.pipeline, fastsam_deploy.runtime.engines.onnxruntime.host, fastsam_deploy.runtime.render
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
