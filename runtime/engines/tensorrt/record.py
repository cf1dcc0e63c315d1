"""What is known of a plan: the shapes that it takes, and the JSON beside it. Nothing here needs TensorRT or a GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...documents import parse, quoted
from ...errors import ModelError
from ...spec import ModelSpec
from ...system.inputs import read_file
from .library import library_of

_IMAGE_RANK = 4

NOT_COMPARED = "not compared on a GPU"
"""In the JSON of a plan that was built where none of its GPUs is, until it is compared."""


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
        tensorrt: version of the library that built it, as in "11.4.0.106".
        gpu, compute_capability: that it was built on, as in "NVIDIA L4" and "8.9"; None where the builder did not say,
            or needed no GPU.
        gpus: that it was built for, as in ("sm86", "sm120"), by a library that builds for a list of GPUs.
        version_compatible: other versions of TensorRT (not older, of the same major version or later) run it too.
        hardware_compatible: "none", or "ampere_plus" for every GPU from compute capability 8.0 on.
        onnx_sha256: of the ONNX file that was given to TensorRT.
        command: that builds the plan again.
        confirmed: what the builder says of the layers, in one line: their number in each type.
        compared: what was compared with ONNX Runtime, one line for each; empty, or `NOT_COMPARED`, where nothing was.
        layers: one line for each: kind, name, inputs and outputs with types and shapes, with tabs between.
    """

    spec: ModelSpec
    profiles: tuple[ShapeRange, ...]
    plan_sha256: str | None = None
    plan_bytes: int | None = None
    tensorrt: str | None = None
    gpu: str | None = None
    compute_capability: str | None = None
    gpus: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatible: str = "none"
    onnx_sha256: str | None = None
    command: str | None = None
    confirmed: str | None = None
    compared: tuple[str, ...] = field(default_factory=tuple)
    layers: tuple[str, ...] = field(default_factory=tuple)

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
            values = parse(text)
            spec = ModelSpec.from_json(json.dumps(values["spec"]), source)
            ranges = values.get("profiles") or [values["profile"]]
            profiles = tuple(ShapeRange(*(_shape(r[name]) for name in ("min", "opt", "max"))) for r in ranges)
            rest = {k: v for k, v in values.items() if k in cls.__dataclass_fields__ and k not in ("spec", "profiles")}
            rest |= {name: tuple(rest.get(name, ())) for name in ("gpus", "compared", "layers")}
            _check_types(rest)
            return cls(spec, profiles, **rest)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{source}: {error!r:.200}; expected the JSON that is written beside a plan, with spec and profiles "
                "(min, opt and max input shapes); build the plan again: fastsam-export engine MODEL.onnx"
            ) from error


_MOST_SIDES = 8  # of a tensor in TensorRT


def _shape(sides: Any) -> tuple[int, ...]:
    if not isinstance(sides, list) or len(sides) > _MOST_SIDES or not all(type(side) is int for side in sides):
        raise ValueError(f"shape {quoted(sides)}, expected whole numbers")
    return tuple(sides)


def _check_types(values: Mapping[str, Any]) -> None:
    """Raises ValueError if a value of the JSON is of another type than `PlanRecord` has."""
    for name, value in values.items():
        if name == "plan_bytes":
            fits = value is None or type(value) is int
        elif name == "version_compatible":
            fits = isinstance(value, bool)
        elif isinstance(value, tuple):
            fits = all(isinstance(line, str) for line in value)
        else:
            fits = value is None or isinstance(value, str)
        if not fits:
            raise ValueError(f"{name} is {quoted(value)}")


def record_path(plan: Path) -> Path:
    """Path of the JSON beside a plan.

    Example:
        >>> record_path(Path("fastsam.plan")).name, record_path(Path("fastsam.rtx")).name
        ('fastsam.json', 'fastsam.rtx.json')
    """
    return plan.with_suffix(library_of(plan).record_suffix)


def record_beside(path: Path) -> PlanRecord | None:
    """What the JSON beside a plan says, None where there is none.

    Raises:
        ModelError: it cannot be read, or is no such JSON.
    """
    beside = record_path(path)
    try:
        return PlanRecord.from_json(read_file(beside).decode("utf-8"), str(beside))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{beside}: cannot be read ({error}); give it back, or build the plan again") from error
