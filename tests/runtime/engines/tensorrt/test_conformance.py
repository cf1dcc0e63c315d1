"""Everything that our code asks of TensorRT exists, with that signature, in the real bindings 10.16 and 11.4; and what
it asks of TensorRT for RTX, in those of 1.7.

Three links: the committed descriptions (api-*.json) are what the real bindings say; the stand-in is made from them and
takes nothing else; and a walk through our code on the stand-in uses everything that the sources name.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.emulator.tensorrt.describe import signatures
from tests.emulator.tensorrt.double import bind, module_from
from tests.emulator.tensorrt.world import APIS, OURS, OURS_FOR_RTX, RTX, VERSIONS, World

pytest.importorskip("onnx", reason="the stand-in needs it")

ROOT = Path(__file__).resolve().parents[4]


def _paths(modules: Iterable[str]) -> list[Path]:
    return [ROOT / (name.removeprefix("fastsam_deploy.").replace(".", "/") + ".py") for name in modules]


SOURCES = _paths(OURS)
RTX_SOURCES = _paths(OURS_FOR_RTX)


def chains(sources: Iterable[Path]) -> dict[str, str]:
    """Every `trt.A.B` of some sources, where `trt` is the library's module → where."""
    places = {}
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts: list[str] = []
            inner: ast.AST = node
            while isinstance(inner, ast.Attribute) and inner.attr not in ("trt", "_trt"):
                parts.insert(0, inner.attr)
                inner = inner.value
            named = isinstance(inner, ast.Attribute) or (isinstance(inner, ast.Name) and inner.id == "trt")
            if parts and named and parts != ["__version__"]:
                places[".".join(parts)] = f"{path.name}:{node.lineno}"
    return places


def test_the_sources_are_those_that_call_tensorrt() -> None:
    everything = [path for folder in ("runtime", "export") for path in (ROOT / folder).rglob("*.py")]
    assert {path for path in everything if chains([path])} == {*SOURCES, *RTX_SOURCES}
    assert len(chains(SOURCES)) > 15 and len(chains(RTX_SOURCES)) > 5
    # Which library it is, is a value: its module is imported by name, in library.py alone.
    imported = re.compile(r"^\s*(import|from) tensorrt", re.MULTILINE)
    assert not [path for path in everything if imported.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("version", sorted(APIS))
def test_the_descriptions_are_what_the_real_bindings_say(
    version: str, bindings: Callable[[str], Path], apis: dict[str, dict[str, Any]]
) -> None:
    from scripts.dev import trt_bindings

    real = trt_bindings.describe(bindings(version))
    assert real == apis[version], "scripts/dev/trt_bindings.py --write-api writes them anew"


@pytest.mark.parametrize("version", sorted(APIS))
def test_our_modules_import_and_log_on_the_real_bindings(version: str, bindings: Callable[[str], Path]) -> None:
    """What needs no library of TensorRT's really runs: classes made from theirs, enums, the logger."""
    asked = chains([*SOURCES, *RTX_SOURCES] if version == RTX else SOURCES)
    code = f"""
import os, sys
from pathlib import Path
from tests.emulator.tensorrt import describe
trt = describe.load(Path({str(bindings(version))!r}))
from fastsam_deploy.export.tensorrt import builder
from fastsam_deploy.runtime.engines.tensorrt import context, network
from fastsam_deploy.runtime.engines.tensorrt.log import tensorrt_log
for chain in {sorted(asked)!r}:
    found = trt
    for part in chain.split("."):
        found = getattr(found, part)
log = tensorrt_log(trt)
assert isinstance(log, trt.ILogger)
mark = log.mark()
for name in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
    log.log(getattr(trt.ILogger.Severity, name), "said " + name)
assert log.since(mark) == "said INTERNAL_ERROR | said ERROR", log.since(mark)
steps = []
progress = builder._progress_class(trt)(steps.append)
assert isinstance(progress, trt.IProgressMonitor)
progress.phase_start("phase", None, 3)
assert progress.step_complete("phase", 1)
progress.phase_finish("phase")
assert steps == ["TensorRT: phase", "TensorRT: phase, 2 of 3"], steps
assert 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) in (1, 2)
assert trt.DataType.HALF.name == "HALF"
print("all of it", trt.__version__)
sys.stdout.flush()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.startswith(f"all of it {version.removeprefix('rtx-')}."), done.stderr


def test_a_walk_through_our_code_uses_all_that_the_sources_name(
    world: World, demo_onnx: Path, coffee: Path, tmp_path: Path, apis: dict[str, dict[str, Any]]
) -> None:
    """So that no call is left out of what the stand-in has checked by its signature."""
    from fastsam_deploy.export.tensorrt.request import request_for
    from fastsam_deploy.export.tensorrt.settings import BuildSettings
    from fastsam_deploy.export.tensorrt.to_engine import build_engine

    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(coffee.read_bytes())
    settings = BuildSettings(1, tmp_path / "cache", True, True, 3)
    shapes = ["1x64x64,1x128x128,1x160x160", "1x64x64,1x96x128,1x96x128"]
    request = request_for(demo_onnx, tmp_path / "demo.plan", settings=settings, shapes=shapes)
    build_engine(request, tmp_path / "images")
    assert not unused(world, SOURCES, [apis[version] for version in VERSIONS])
    assert world.violations == []


def test_a_walk_with_tensorrt_for_rtx(rtx: World, demo_onnx: Path, tmp_path: Path, apis: dict[str, Any]) -> None:
    """Built without a GPU, run on one with a cache of its kernels; an odd file is checked."""
    import onnx

    from fastsam_deploy.export.tensorrt.check import check_model
    from fastsam_deploy.export.tensorrt.request import request_for
    from fastsam_deploy.export.tensorrt.settings import BuildSettings
    from fastsam_deploy.export.tensorrt.to_engine import build_engine
    from fastsam_deploy.runtime.settings import EngineSettings

    settings = BuildSettings(1, optimization_level=3, gpus=("sm86", "sm89"))
    shapes = ["1x64x64,1x128x128,1x160x160", "1x64x64,1x96x128,1x96x128"]
    request = request_for(
        demo_onnx, tmp_path / "demo.rtx", settings=settings, shapes=shapes, library=rtx.library, device=None
    )
    build_engine(request)
    for _ in range(2):
        with rtx.ours.network.network_from_file(tmp_path / "demo.rtx", EngineSettings("cuda", cache=True)) as network:
            network.run({"images": np.zeros((1, 3, 96, 128), np.float32)}, ["output0"])
            assert "Layers" in network.layer_information()
    odd = onnx.load(demo_onnx)
    odd.graph.node[3].op_type = "Celu"
    onnx.save(odd, tmp_path / "odd.onnx")
    assert not check_model(tmp_path / "odd.onnx", "sm86").verdicts[0].is_taken
    # A timing cache is refused before the library is asked.
    timing = {"create_timing_cache", "set_timing_cache", "get_timing_cache"}
    names = {text.partition(" ")[0] for text in unused(rtx, [*SOURCES, *RTX_SOURCES], [apis[RTX]])}
    assert names <= {*timing, "hardware_compatibility_level", "engine_host_code_allowed"}
    assert rtx.violations == []


def unused(world: World, sources: Iterable[Path], versions: Iterable[dict[str, Any]]) -> set[str]:
    """Members of these versions that the sources name and the walk did not use, with where."""
    # What only another version has cannot be used, so it is found too.
    owners = [owner for api in versions for owner in api["classes"].values()]
    methods = {member for owner in owners for member in owner.get("members", {})}
    used = {name for _, name in world.uses}
    return {
        f"{name} ({where})"
        for path in sources
        for name, where in attributes(path).items()
        if name in methods and name not in used and name not in ERRORS_ONLY
    }


ERRORS_ONLY = {"num_errors", "get_error", "node", "node_name", "node_operator", "desc"}
"""Of the parser's errors: test_builder.py's test of an operator that is not taken."""

OF_OTHERS = {
    "Severity",
    "nbytes",
    "name",
    "shape",
    "min",
    "max",
    "log",
    "reset",
    "flags",
    "dtype",
    "serialize",
    "engine",
}
"""Names that objects of ours have too, and a class within a class."""


def attributes(path: Path) -> dict[str, str]:
    """Every attribute that a source names → where."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return {node.attr: f"{path.name}:{node.lineno}" for node in nodes if node.attr not in OF_OTHERS}


def test_what_tensorrt_11_has_no_more_is_not_in_its_stand_in(apis: dict[str, dict[str, Any]]) -> None:
    """The descriptions tell the versions apart, so the tests above can fail."""
    old, new = (apis[version]["classes"] for version in ("10.16", "11.4"))
    for flag in ("FP16", "INT8", "BF16"):
        assert flag in old["BuilderFlag"]["enum"]
        assert flag not in new["BuilderFlag"]["enum"]
    assert "int8_calibrator" in old["IBuilderConfig"]["members"]
    assert "int8_calibrator" not in new["IBuilderConfig"]["members"]
    assert "device_memory_size" not in new["ICudaEngine"]["members"]
    for version in old, new:
        assert "execute_async_v2" not in version["IExecutionContext"]["members"]


@pytest.mark.parametrize("version", sorted(APIS))
def test_the_stand_in_refuses_what_the_real_module_refuses(version: str, apis: dict[str, dict[str, Any]]) -> None:
    module = module_from(apis[version], {"Builder.__init__": lambda self, log: None}, set())  # type: ignore[arg-type]
    log = module.ILogger()
    builder = module.Builder(log)
    with pytest.raises(TypeError, match="incompatible"):
        builder.create_network("flags")
    with pytest.raises(TypeError, match="incompatible"):
        builder.build_serialized_network(log, log)
    with pytest.raises(TypeError, match="incompatible"):
        module.Builder()
    with pytest.raises(AttributeError):
        builder.max_workspace_size = 1
    with pytest.raises(AttributeError):
        _ = builder.build_cuda_engine
    with pytest.raises(TypeError, match="No constructor"):
        module.ICudaEngine()
    with pytest.raises(AttributeError):
        _ = module.BuilderFlag.STRICT_TYPES
    config = module.IBuilderConfig
    assert config.profiling_verbosity.fset is not None
    assert module.ICudaEngine.num_layers.fset is None


def test_signatures_are_read_from_pybind11s_texts() -> None:
    text = (
        "f(*args, **kwargs)\nOverloaded function.\n\n"
        "1. f(self: tensorrt_bindings.tensorrt.A, x: list[tuple[int, str]], y: typing.SupportsInt = 0) -> bool\n\n"
        "2. f(self: tensorrt_bindings.tensorrt.A, b: tensorrt_bindings.tensorrt.B.C = <C.D: 1>) -> "
        "tensorrt_bindings.tensorrt.B\n"
    )
    first, second = signatures(text)
    assert first["parameters"] == [["x", "list[tuple[int, str]]", False], ["y", "typing.SupportsInt", True]]
    assert second == {"parameters": [["b", "B.C", True]], "returns": "B"}
    assert bind(None, [["x", "str", False], ["y", "int", True]], ("a",), {"y": 2}) == ["a", 2]  # type: ignore[arg-type]
    assert bind(None, [["x", "str", False]], (), {}) is None  # type: ignore[arg-type]
    assert bind(None, [["x", "str", False]], ("a",), {"z": 1}) is None  # type: ignore[arg-type]


def test_the_descriptions_are_written_as_they_are_committed(apis: dict[str, dict[str, Any]]) -> None:
    from scripts.dev import trt_bindings

    for version, described in apis.items():
        assert trt_bindings.api_file(described["version"]) == APIS[version]
        assert trt_bindings.api_text(described) == APIS[version].read_text(encoding="utf-8")
        assert described["version"] in (*trt_bindings.VERSIONS, trt_bindings.RTX_VERSION)
        assert json.loads(trt_bindings.api_text(described)) == described
