"""TensorRT plan files and what stands beside or before them. Nothing here needs TensorRT or a GPU.

Four kinds of files hold a plan:

- `name.plan` with `name.json` beside it, as `fastsam-export engine` writes them (see `PlanRecord`);
- `name.rtx` with `name.rtx.json` beside it, likewise, for TensorRT for RTX;
- a bare plan, as trtexec writes it;
- a plan behind a header, as ultralytics writes `.engine`: four bytes (little-endian length), that much JSON, the plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...documents import parse
from ...errors import ModelError
from ...spec import METADATA_KEY
from .library import LIBRARIES, Library, gpu_of, library_of
from .record import PlanRecord, record_beside, record_path

_HEADER_BYTES = 28
_LONGEST_JSON = 1 << 24
_AMPERE = (8, 0)


@dataclass(frozen=True)
class PlanFile:
    """A plan that was read, and is whole.

    Attributes:
        path: the file.
        library: that built it, and runs it.
        plan: the plan itself, as the library takes it.
        metadata: what is known of the network, as an ONNX file's metadata_props has it.
        version: of the library that built it; None where the plan is of a layout that does not say.
        record: the JSON beside the file; None where there is none.
    """

    path: Path
    library: Library
    plan: memoryview
    metadata: Mapping[str, str]
    version: str | None
    record: PlanRecord | None

    @property
    def advice(self) -> str:
        """How to get a plan that runs here."""
        if self.record is not None and self.record.command is not None:
            return f"build it again here: {self.record.command}"
        flag = f" {self.library.flag} --gpu current" if self.library.flag else ""
        return f"build it again here: fastsam-export engine {self.path.stem}.onnx --output {self.path.name}{flag}"


def read_plan(path: Path) -> PlanFile:
    """Read a plan and what describes it; see the module's text for the kinds of files.

    Raises:
        ModelError: it cannot be read, is no plan, is cut off, or is not the one that the JSON beside it describes.
    """
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    library = library_of(path)
    start, metadata = _header_of_ultralytics(content, path)
    plan = content[start:]
    _check_tag(path, bytes(plan[:4]), bytes(content[:8]), library)
    record = None if start else record_beside(path)
    if len(plan) < _HEADER_BYTES:
        raise ModelError(f"{path}: holds {len(plan)} bytes, no whole plan; copy it again, or build it again")
    if record is not None:
        _check_identity(path, plan, record)
        metadata = {METADATA_KEY: record.spec.to_json()}
    return PlanFile(
        path, library, plan, metadata, version_of_plan(plan) or (record.tensorrt if record else None), record
    )


def _check_tag(path: Path, tag: bytes, beginning: bytes, library: Library) -> None:
    if tag == library.tag:
        return
    other = next((other for other in LIBRARIES if other.tag == tag), None)
    if other is not None:
        raise ModelError(
            f"{path}: is a plan of {other.name}, and the suffix {path.suffix!r} is that of {library.name}; rename "
            f"it to {path.with_suffix(other.suffixes[0]).name}, with its JSON"
        )
    raise ModelError(
        f"{path}: begins with {beginning!r}, which is no {library.name} plan (those begin with {library.tag!r}); "
        f"build one: {' '.join(filter(None, ('fastsam-export engine MODEL.onnx', library.flag)))}"
    )


def version_of_plan(plan: memoryview | bytes) -> str | None:
    """Version of the library, in a plan's first 28 bytes, "major.minor.patch.build"; None in a layout that is not
    known.

    Plans of both libraries begin in the same way.
    """
    if len(plan) < _HEADER_BYTES or int.from_bytes(plan[4:8], "little") != 0:
        return None
    return ".".join(str(part) for part in plan[24:28])


def check_runs_on(file: PlanFile, tensorrt: str, gpu: str, compute_capability: tuple[int, int]) -> None:
    """What can be known before TensorRT is asked, because TensorRT's own answers name neither version nor GPU.

    Args:
        tensorrt: version of the library here.
        gpu, compute_capability: of the device that is to run it.

    Raises:
        ModelError: the plan was built by another version or for another kind of GPU, with both named; or its library
            has no kernels for this GPU.
    """
    record, library = file.record, file.library
    if not library.serves(gpu_of(compute_capability)):
        raise ModelError(f"{file.path}: {not_served(library, gpu_of(compute_capability), gpu)}")
    compatible = record is not None and record.version_compatible
    if file.version is not None and not _same_version(file.version, tensorrt, version_compatible=compatible):
        raise ModelError(
            f"{file.path}: built by {library.name} {file.version}, here is {tensorrt}; a plan runs with the "
            f"version that built it{' or a later one' if compatible else ''}; install "
            f"{library.modules[0]}=={file.version}, or {file.advice}"
        )
    if record is None:
        return
    if record.gpus:
        _check_listed(file, record, gpu, gpu_of(compute_capability))
    elif record.compute_capability is not None:
        _check_built_on(file, record, record.compute_capability, gpu, compute_capability)


def not_served(library: Library, gpu: str, name: str = "") -> str:
    """Why a library has no plans for a GPU, and what runs there.

    Args:
        gpu: as in "sm90".
        name: of the GPU, as its driver tells.

    Example:
        >>> not_served(library_of(Path("a.rtx")), "sm90")[:57]
        'sm90 is none of the GPUs that TensorRT for RTX serves (sm'
    """
    told = f"{name} ({gpu})" if name else gpu
    return (
        f"{told} is none of the GPUs that {library.name} serves ({', '.join(library.gpus)}); Jetson (sm72, sm87, "
        "sm110) and data centre GPUs such as H100 (sm90) and B200 (sm100) run plans of TensorRT itself: "
        "fastsam-export engine MODEL.onnx on that GPU"
    )


def _check_listed(file: PlanFile, record: PlanRecord, name: str, gpu: str) -> None:
    if gpu not in record.gpus:
        command = (record.command or file.advice).replace(f"--gpu {','.join(record.gpus)}", f"--gpu {gpu}")
        raise ModelError(
            f"{file.path}: built for {', '.join(record.gpus)}, here is {name} ({gpu}); build one for it, on any "
            f"machine: {command}"
        )


def _check_built_on(
    file: PlanFile, record: PlanRecord, text: str, gpu: str, compute_capability: tuple[int, int]
) -> None:
    built = _capability(text, file)
    if built == compute_capability:
        return
    if record.hardware_compatible == "ampere_plus" and compute_capability >= _AMPERE <= built:
        return
    here = ".".join(map(str, compute_capability))
    raise ModelError(
        f"{file.path}: built on {record.gpu} (compute capability {text}), here is {gpu} ({here}); "
        f"a plan runs on the kind of GPU it was built on; {file.advice}"
    )


def _same_version(built: str, here: str, *, version_compatible: bool) -> bool:
    """The build number, the fourth part, is left to TensorRT."""
    one, other = ([int(part) for part in text.split(".")[:3] if part.isdecimal()] for text in (built, here))
    if version_compatible:
        return one <= other
    return one == other


def _capability(text: str, file: PlanFile) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise ModelError(
            f"{record_path(file.path).name}: compute_capability is {text!r}, expected as in '8.9'; {file.advice}"
        )
    return int(major), int(minor)


def _check_identity(path: Path, plan: memoryview, record: PlanRecord) -> None:
    beside = record_path(path).name
    if record.plan_bytes is not None and record.plan_bytes != len(plan):
        kind = "is cut off" if len(plan) < record.plan_bytes else "is another file"
        raise ModelError(
            f"{path}: {kind}: {len(plan)} bytes, {beside} says {record.plan_bytes}; "
            "copy both files again, or build again"
        )
    if record.plan_sha256 is not None and hashlib.sha256(plan).hexdigest() != record.plan_sha256:
        raise ModelError(
            f"{path}: is not the plan that {beside} describes (their SHA-256 differ); "
            "copy both files again, or build again"
        )


def _header_of_ultralytics(content: memoryview, path: Path) -> tuple[int, dict[str, str]]:
    """(where the plan begins, metadata); (0, {}) where there is no such header."""
    length = int.from_bytes(content[:4], "little")
    tags = [library.tag for library in LIBRARIES]
    if bytes(content[:4]) in tags or not 2 <= length <= _LONGEST_JSON or bytes(content[4:5]) != b"{":
        return 0, {}
    if len(content) < 4 + length + _HEADER_BYTES:
        raise ModelError(f"{path}: is cut off after {len(content)} bytes, in or right behind its header; copy it again")
    try:
        header = parse(bytes(content[4 : 4 + length]))
    except ValueError as error:
        raise ModelError(f"{path}: its header is no JSON ({error}); export it again with ultralytics") from error
    return 4 + length, {key: _as_literal(value) for key, value in header.items()}


def _as_literal(value: Any) -> str:
    """As ultralytics writes the value into an ONNX file: JSON has turned the class numbers into text."""
    if isinstance(value, dict) and all(key.isdecimal() for key in value):
        value = {int(key): name for key, name in value.items()}
    return value if isinstance(value, str) else repr(value)
