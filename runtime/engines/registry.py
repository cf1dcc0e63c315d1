"""The engines: which files each one opens, on which devices, and what has to be installed for it.

A new engine is a module with `network_from_file(path, settings)`, an entry in `ENGINES`, and an extra in
pyproject.toml.
Nothing here imports the library of an engine; `EngineEntry.load` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import MissingDependencyError, ModelError, ParameterError, pip_install
from ..settings import EngineSettings, refuse_settings
from ..system.identity import is_file


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """What is known of an engine before its library is imported.

    Attributes:
        name: value of `EngineSettings.engine`.
        library: module of the library; the engine is installed where it is found.
        module: has `network_from_file(path, settings)`, and may have `probe()`, which tells about the library in one
            line, for `fastsam doctor`. Absolute, or relative to this package.
        extras: kind of device, "cpu" or "cuda" → pip extra that installs the engine for it.
        suffixes: of the files that it opens.
        settings: names of the `EngineSettings` that it has.
        refusal: why it has no others; "leave … out" follows.
        device_module: has `device_network_from_file(path, settings)`; None: the engine takes no device pointers.
        device_extra: pip extras for that.
        device_settings: as `settings`, for that.
        beside: suffixes of further files that belong to a model, each in the place of the model's own suffix.
        triton_suffixes: of the files that Triton's backend of the same name runs.
        made_for: flags of processors, with any of which the engine is worth installing …
        gain: … and why.
    """

    name: str
    library: str
    module: str
    extras: Mapping[str, str]
    suffixes: tuple[str, ...] = ()
    settings: frozenset[str] = frozenset()
    refusal: str = "the engine has no such setting:"
    device_module: str | None = None
    device_extra: str = ""
    device_settings: frozenset[str] = frozenset()
    beside: tuple[str, ...] = ()
    triton_suffixes: tuple[str, ...] = ()
    made_for: frozenset[str] = field(default=frozenset())
    gain: str = ""

    def runs_on(self, device: str) -> bool:
        """Whether the engine runs on devices of this kind: "cpu", "cuda", "cuda:N"."""
        return device.partition(":")[0] in self.extras

    def load(self, source: str, device: str, *, pointers: bool = False) -> Any:
        """The engine's module, imported.

        Args:
            source: what messages call the model.
            device: that it is to run on.
            pointers: the module for device pointers.

        Raises:
            MissingDependencyError: the library is not installed.
        """
        extra = self.device_extra if pointers else self.extras.get(device.partition(":")[0])
        try:
            return import_module((pointers and self.device_module) or self.module, __package__)
        except ModuleNotFoundError as error:
            extra = extra or next(iter(self.extras.values()))
            raise MissingDependencyError(f"{source}: {error}; run: {pip_install(extra)}") from error


ENGINES: tuple[EngineEntry, ...] = (
    EngineEntry(
        "onnxruntime",
        library="onnxruntime",
        module=".onnxruntime.host",
        extras={"cpu": "cpu", "cuda": "gpu"},
        suffixes=(".onnx",),
        settings=frozenset({"device", "threads", "engine", "precision", "cache", "search", "try_first"}),
        refusal="ONNX Runtime has no such setting; pass engine='openvino', or",
        device_module=".onnxruntime.device",
        device_extra="gpu,cuda",
        device_settings=frozenset({"device", "engine", "precision", "search"}),
        triton_suffixes=(".onnx",),
    ),
    EngineEntry(
        "openvino",
        library="openvino",
        module=".openvino",
        extras={"cpu": "openvino"},
        suffixes=(".onnx",),
        settings=frozenset({"device", "threads", "engine", "precision", "hint", "cache", "try_first"}),
        made_for=frozenset({"amx_bf16", "avx512_bf16"}),
        gain="it uses this processor's BF16 units, ONNX Runtime does not",
    ),
    EngineEntry(
        "tensorrt",
        library="tensorrt",
        module=".tensorrt.network",
        extras={"cuda": "trt"},
        suffixes=(".plan", ".engine"),
        settings=frozenset({"device", "engine", "precision"}),
        refusal="a plan is made for one GPU already:",
        device_module=".tensorrt.network",
        device_extra="trt",
        device_settings=frozenset({"device", "engine", "precision"}),
        beside=(".json",),
        triton_suffixes=(".plan", ".engine"),
    ),
    EngineEntry(
        "tensorrt_rtx",
        library="tensorrt_rtx_bindings",
        module=".tensorrt.rtx",
        extras={"cuda": "rtx"},
        suffixes=(".rtx",),
        settings=frozenset({"device", "engine", "precision", "cache"}),
        refusal="a plan has no such setting:",
        device_module=".tensorrt.rtx",
        device_extra="rtx",
        device_settings=frozenset({"device", "engine", "precision", "cache"}),
        beside=(".rtx.json",),
    ),
)
"""Of several that open one kind of files the usual one stands first."""

TRITON = EngineEntry(
    "triton",
    library="tritonclient",
    module=".triton.client",
    extras={"cpu": "triton"},
    refusal="the server has its own:",
)
"""Networks on a server, which an address names and no file: its module has `TritonClient`."""


def overview() -> str:
    """The engines and the suffixes of their files, for the help of the command line.

    Example:
        >>> overview()
        'onnxruntime or openvino (.onnx); tensorrt (.plan, .engine); tensorrt_rtx (.rtx)'
    """
    names: dict[tuple[str, ...], list[str]] = {}
    for entry in ENGINES:
        names.setdefault(entry.suffixes, []).append(entry.name)
    return "; ".join(f"{' or '.join(engines)} ({', '.join(suffixes)})" for suffixes, engines in names.items())


def engines_for(suffix: str) -> tuple[EngineEntry, ...]:
    """The engines that open files of this suffix, the usual one first.

    Example:
        >>> [entry.name for entry in engines_for(".onnx")]
        ['onnxruntime', 'openvino']
    """
    return tuple(entry for entry in ENGINES if suffix in entry.suffixes)


def engine_for(path: Path, settings: EngineSettings, *, pointers: bool = False) -> EngineEntry:
    """The engine that opens a file: the one that the settings name, or the usual one of those that are installed.

    Example:
        >>> engine_for(Path("FastSAM-s.plan"), EngineSettings("cuda")).name  # doctest: +SKIP
        'tensorrt'

    Args:
        pointers: one that runs on device pointers.

    Raises:
        ModelError: no engine opens such files, or there is no such file.
        ParameterError: the engine that the settings name is none of them, or has not the other settings.
    """
    known = [entry for entry in ENGINES if entry.suffixes and (entry.device_module or not pointers)]
    suffixes = dict.fromkeys(suffix for entry in known for suffix in entry.suffixes)
    if path.suffix not in suffixes:
        advice = "; export it first: fastsam-export onnx" if path.suffix == ".pt" else ""
        raise ModelError(f"{path}: suffix {path.suffix!r}, expected one of {', '.join(suffixes)}{advice}")
    if not is_file(path):
        raise ModelError(f"{path}: no such file; check the path, or export one with fastsam-export onnx")
    entry = _chosen([entry for entry in known if path.suffix in entry.suffixes], path.suffix, settings)
    if settings.hint == "latency":  # what every engine does that is not told otherwise
        settings = replace(settings, hint=None)
    if pointers:
        refuse_settings(settings, path.name, "with every stage on the GPU there is none:", entry.device_settings)
    else:
        refuse_settings(settings, path.name, entry.refusal, entry.settings)
    return entry


def require_engine(suffix: str) -> None:
    """Check that an engine for files of this suffix is installed, before long work that needs one.

    Raises:
        MissingDependencyError: there is none.

    Example:
        >>> require_engine(".onnx")
    """
    entries = engines_for(suffix)
    if all(find_spec(entry.library) is None for entry in entries):
        names = " or ".join(entry.name for entry in entries)
        raise MissingDependencyError(
            f"no engine for {suffix} files is installed, expected {names}; run: {pip_install('cpu')}, or with 'gpu' in "
            "the place of 'cpu' for an NVIDIA GPU"
        )


def _chosen(entries: list[EngineEntry], suffix: str, settings: EngineSettings) -> EngineEntry:
    if settings.engine is None:
        fitting = [entry for entry in entries if entry.runs_on(settings.device)] or entries
        installed = (entry for entry in fitting if find_spec(entry.library) is not None)
        return fitting[0] if len(fitting) == 1 else next(installed, fitting[0])
    for entry in entries:
        if entry.name == settings.engine:
            return entry
    names = ", ".join(entry.name for entry in entries)
    raise ParameterError(f"engine is {settings.engine!r}, expected one of {names} for {suffix}, or None")


def files_of(model: Path) -> tuple[Path, ...]:
    """A model's file and those beside it that belong to it, as far as they exist.

    Example:
        >>> [path.name for path in files_of(Path("FastSAM-s.plan"))]  # doctest: +SKIP
        ['FastSAM-s.plan', 'FastSAM-s.json']
    """
    beside = dict.fromkeys(suffix for entry in engines_for(model.suffix) for suffix in entry.beside)
    return model, *(path for path in map(model.with_suffix, beside) if is_file(path))
