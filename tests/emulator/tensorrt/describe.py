"""Names and signatures of TensorRT's Python bindings, as JSON: describe.py FOLDER (see scripts/dev/trt_bindings.py).

The bindings have no stubs for type checkers; their signatures are in the first lines of pybind11's docstrings.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

CLASSES = (
    *("Builder", "IBuilderConfig", "INetworkDefinition", "ITensor", "IOptimizationProfile", "ITimingCache"),
    *("IHostMemory", "IProgressMonitor", "ILogger", "OnnxParser", "ParserError", "Runtime", "ICudaEngine"),
    *("IExecutionContext", "EngineInspector", "Dims"),
    *("BuilderFlag", "NetworkDefinitionCreationFlag", "HardwareCompatibilityLevel", "ProfilingVerbosity"),
    *("MemoryPoolType", "LayerInformationFormat", "TensorIOMode", "TensorLocation", "TensorFormat", "DataType"),
    "ExecutionContextAllocationStrategy",
)
"""What this project uses, and what belongs to it."""

RTX_CLASSES = ("ComputeCapability", "IRuntimeConfig", "IRuntimeCache", "DynamicShapesKernelSpecializationStrategy")
"""Likewise, of TensorRT for RTX alone."""

_SIGNATURE = re.compile(r"^(?:\d+\. )?(?P<name>\w+)\((?P<parameters>.*)\) -> (?P<returns>.+)$")
_OWN = re.compile(r"\btensorrt(?:_rtx)?(?:_bindings)?\.tensorrt(?:_rtx)?\.")


def described(trt: Any) -> dict[str, Any]:
    """All of CLASSES, and of RTX_CLASSES if it is TensorRT for RTX."""
    names = (*CLASSES, *(RTX_CLASSES if hasattr(trt, RTX_CLASSES[0]) else ()))
    return {"version": trt.__version__, "classes": {name: _class(getattr(trt, name)) for name in names}}


def _class(kind: type) -> dict[str, Any]:
    if hasattr(kind, "__members__"):
        return {"enum": {name: int(value) for name, value in kind.__members__.items()}}
    members = {}
    for name, value in vars(kind).items():
        if name.startswith("_") and name != "__init__":
            continue
        found = _member(value)
        if found is not None:
            members[name] = found
    return {"members": members}


def _member(value: Any) -> dict[str, Any] | None:
    if isinstance(value, property):
        returns = next((s["returns"] for s in signatures(value.fget.__doc__ or "")), None) if value.fget else None
        return {"property": returns, "settable": value.fset is not None}
    if isinstance(value, type):
        return _class(value)
    text = getattr(value, "__doc__", None) or ""
    return {"signatures": signatures(text)} if callable(value) else None


def signatures(text: str) -> list[dict[str, Any]]:
    """Every `name(parameters) -> type` of a docstring; parameters as [name, type, has a default]."""
    found = []
    for line in text.splitlines():
        # A property's getter has no name.
        matched = _SIGNATURE.match(line.strip() if not line.startswith("(") else "get" + line)
        if matched and "*args" not in matched["parameters"]:
            parameters = [_parameter(part) for part in _split(matched["parameters"])]
            found.append({"parameters": parameters[1:], "returns": _OWN.sub("", matched["returns"].strip())})
    return found


def _parameter(text: str) -> list[Any]:
    declared, _, default = text.partition(" = ")
    name, _, kind = declared.partition(":")
    return [name.strip(), _OWN.sub("", kind.strip()), bool(default)]


def _split(text: str) -> list[str]:
    """At commas outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def load(folder: Path) -> Any:
    """The bindings: of TensorRT on top of empty libraries, of TensorRT for RTX with its own."""
    sys.path.insert(0, str(folder))
    if not (folder / "lib").is_dir():
        import tensorrt_rtx_bindings

        return tensorrt_rtx_bindings
    for library in sorted((folder / "lib").iterdir()):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    import tensorrt_bindings

    return tensorrt_bindings


if __name__ == "__main__":
    sys.stdout.write(json.dumps(described(load(Path(sys.argv[1])))))
    sys.stdout.flush()
    os._exit(0)  # with empty libraries the bindings crash at a normal exit
