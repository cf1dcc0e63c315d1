"""TensorRT plan files and what stands beside or before them. Nothing here needs TensorRT or a GPU.

Three kinds of files hold a plan:

- `name.plan` with `name.json` beside it, as `fastsam-export engine` writes them (see `PlanRecord`);
- a bare plan, as trtexec writes it;
- a plan behind a header, as ultralytics writes `.engine`: four bytes (little-endian length), that much JSON, the plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...spec import METADATA_KEY, ModelSpec

PLAN_TAG = b"ftrt"
"""What every plan begins with."""

_HEADER_BYTES = 28
_IMAGE_RANK = 4
_LONGEST_JSON = 1 << 24
_AMPERE = (8, 0)


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The shapes that one optimization profile takes for one input: from `min` to `max`, fastest at `opt`."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        ranks = {len(self.min), len(self.opt), len(self.max)}
        ordered = len(ranks) == 1 and all(
            1 <= low <= best <= high for low, best, high in zip(self.min, self.opt, self.max, strict=True)
        )
        if not ordered:
            raise ModelError(f"shapes {self}: expected min <= opt <= max in every dimension, all 1 or more")

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Is `shape` in the range?"""
        return len(shape) == len(self.min) and all(
            low <= side <= high for low, side, high in zip(self.min, shape, self.max, strict=True)
        )

    def __str__(self) -> str:
        return " … ".join("x".join(map(str, shape)) for shape in (self.min, self.max)) + (
            f" (best {'x'.join(map(str, self.opt))})"
        )


@dataclass(frozen=True)
class PlanRecord:
    """The JSON beside a plan.

    Attributes:
        spec: of the network in the plan.
        profiles: of the image input, in the plan's order. The first takes every shape that any of them takes.
        plan_sha256, plan_bytes: of the plan file.
        tensorrt: version that built it, as in "11.4.0.106".
        gpu, compute_capability: that it was built on, as in "NVIDIA L4" and "8.9"; None where the builder did not say.
        version_compatible: other versions of TensorRT (not older, of the same major version or later) run it too.
        hardware_compatible: "none", or "ampere_plus" for every GPU from compute capability 8.0 on.
        onnx_sha256: of the ONNX file that was given to TensorRT.
        command: that builds the plan again.
        compared: what was compared with ONNX Runtime, one line for each; empty where nothing was.
    """

    spec: ModelSpec
    profiles: tuple[ShapeRange, ...]
    plan_sha256: str | None = None
    plan_bytes: int | None = None
    tensorrt: str | None = None
    gpu: str | None = None
    compute_capability: str | None = None
    version_compatible: bool = False
    hardware_compatible: str = "none"
    onnx_sha256: str | None = None
    command: str | None = None
    compared: tuple[str, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if not self.profiles or any(len(shapes.min) != _IMAGE_RANK for shapes in self.profiles):
            told = "; ".join(map(str, self.profiles)) or "none"
            raise ModelError(f"profiles of a plan: {told}; expected one or more with shapes (b, 3, H, W)")

    def to_json(self) -> str:
        """Text of the file."""
        values = asdict(self)
        values["spec"] = json.loads(self.spec.to_json())
        values["profiles"] = [asdict(profile) for profile in self.profiles]
        values["profile"] = values["profiles"][0]  # readers of earlier versions look here
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> PlanRecord:
        """Read what `to_json` wrote, or an older file that has `spec` and `profile` alone.

        Raises:
            ModelError: it is neither.
        """
        try:
            values = json.loads(text)
            spec = ModelSpec.from_json(json.dumps(values["spec"]), source)
            ranges = values.get("profiles") or [values["profile"]]
            profiles = tuple(ShapeRange(*(tuple(r[name]) for name in ("min", "opt", "max"))) for r in ranges)
            rest = {k: v for k, v in values.items() if k in cls.__dataclass_fields__ and k not in ("spec", "profiles")}
            rest["compared"] = tuple(rest.get("compared", ()))
            return cls(spec, profiles, **rest)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{source}: {error!r}; expected the JSON that is written beside a plan, with spec and profiles (min, "
                "opt and max input shapes); build the plan again: fastsam-export engine MODEL.onnx"
            ) from error


@dataclass(frozen=True)
class PlanFile:
    """A plan that was read, and is whole.

    Attributes:
        path: the file.
        plan: the plan itself, as TensorRT takes it.
        metadata: what is known of the network, as an ONNX file's metadata_props has it.
        version: of the TensorRT that built it; None where the plan is of a layout that does not say.
        record: the JSON beside the file; None where there is none.
    """

    path: Path
    plan: memoryview
    metadata: Mapping[str, str]
    version: str | None
    record: PlanRecord | None

    @property
    def advice(self) -> str:
        """How to get a plan that runs here."""
        if self.record is not None and self.record.command is not None:
            return f"build it again here: {self.record.command}"
        return f"build it again here: fastsam-export engine {self.path.stem}.onnx --output {self.path.name}"


def read_plan(path: Path) -> PlanFile:
    """Read a plan and what describes it; see the module's text for the kinds of files.

    Raises:
        ModelError: it cannot be read, is no plan, is cut off, or is not the one that the JSON beside it describes.
    """
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    start, metadata = _header_of_ultralytics(content, path)
    plan = content[start:]
    if bytes(plan[:4]) != PLAN_TAG:
        raise ModelError(
            f"{path}: begins with {bytes(content[:8])!r}, which is no TensorRT plan (those begin with {PLAN_TAG!r}); "
            "build one: fastsam-export engine MODEL.onnx"
        )
    record = None if start else record_beside(path)
    if len(plan) < _HEADER_BYTES:
        raise ModelError(f"{path}: holds {len(plan)} bytes, no whole plan; copy it again, or build it again")
    if record is not None:
        _check_identity(path, plan, record)
        metadata = {METADATA_KEY: record.spec.to_json()}
    return PlanFile(path, plan, metadata, version_of_plan(plan) or (record.tensorrt if record else None), record)


def version_of_plan(plan: memoryview | bytes) -> str | None:
    """TensorRT's version in a plan's first 28 bytes, "major.minor.patch.build"; None in a layout that is not known."""
    if len(plan) < _HEADER_BYTES or int.from_bytes(plan[4:8], "little") != 0:
        return None
    return ".".join(str(part) for part in plan[24:28])


def check_runs_on(file: PlanFile, tensorrt: str, gpu: str, compute_capability: tuple[int, int]) -> None:
    """What can be known before TensorRT is asked, because TensorRT's own answers name neither version nor GPU.

    Args:
        tensorrt: version here.
        gpu, compute_capability: of the device that is to run it.

    Raises:
        ModelError: the plan was built by another TensorRT or for another kind of GPU, with both named.
    """
    record = file.record
    compatible = record is not None and record.version_compatible
    if file.version is not None and not _same_version(file.version, tensorrt, version_compatible=compatible):
        raise ModelError(
            f"{file.path}: built by TensorRT {file.version}, here is {tensorrt}; a plan runs with the version that "
            f"built it{' or a later one' if compatible else ''}; install tensorrt=={file.version}, or {file.advice}"
        )
    if record is None or record.compute_capability is None:
        return
    built = _capability(record.compute_capability, file)
    if built == compute_capability:
        return
    if record.hardware_compatible == "ampere_plus" and compute_capability >= _AMPERE <= built:
        return
    here = ".".join(map(str, compute_capability))
    raise ModelError(
        f"{file.path}: built on {record.gpu} (compute capability {record.compute_capability}), here is {gpu} ({here}); "
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
        raise ModelError(f"{file.path.stem}.json: compute_capability is {text!r}, expected as in '8.9'; {file.advice}")
    return int(major), int(minor)


def record_beside(path: Path) -> PlanRecord | None:
    """What the JSON beside a plan says, None where there is none.

    Raises:
        ModelError: it cannot be read, or is no such JSON.
    """
    beside = path.with_suffix(".json")
    try:
        return PlanRecord.from_json(beside.read_text(encoding="utf-8"), str(beside))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{beside}: cannot be read ({error}); give it back, or build the plan again") from error


def _check_identity(path: Path, plan: memoryview, record: PlanRecord) -> None:
    beside = path.with_suffix(".json").name
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
    if bytes(content[:4]) == PLAN_TAG or not 2 <= length <= _LONGEST_JSON or bytes(content[4:5]) != b"{":
        return 0, {}
    if len(content) < 4 + length + _HEADER_BYTES:
        raise ModelError(f"{path}: is cut off after {len(content)} bytes, in or right behind its header; copy it again")
    try:
        header = json.loads(bytes(content[4 : 4 + length]))
    except ValueError as error:
        raise ModelError(f"{path}: its header is no JSON ({error}); export it again with ultralytics") from error
    return 4 + length, {key: _as_literal(value) for key, value in header.items()}


def _as_literal(value: Any) -> str:
    """As ultralytics writes the value into an ONNX file: JSON has turned the class numbers into text."""
    if isinstance(value, dict) and all(key.isdecimal() for key in value):
        value = {int(key): name for key, name in value.items()}
    return value if isinstance(value, str) else repr(value)
