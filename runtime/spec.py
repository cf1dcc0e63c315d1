"""What a model file takes and gives: the contract that travels inside the file.

Names and metadata follow the ecosystem, so that files exported by ultralytics open too.
Three layouts of the detections exist:

- `raw`: (b, 4 + nc + mask_dim, anchors) — cx, cy, w, h in input pixels, nc scores, coefficients;
- `nms`: (b, max_det, 6 + mask_dim) — x1, y1, x2, y2 in input pixels, score, class, coefficients,
  rows past the last detection are zero;
- `split`: the columns of `nms` in outputs of their own, see `SPLIT_OUTPUTS`, and their count.

The prototypes are (b, mask_dim, H / 4, W / 4) in all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .errors import ModelError, ParameterError
from .settings import Thresholds

METADATA_KEY = "fastsam_deploy"
"""Key of the JSON text of a ModelSpec in an ONNX file's metadata_props."""

PROTOTYPE_STRIDE = 4

SPLIT_OUTPUTS = ("boxes", "scores", "classes", "coefficients")
"""Of the layout `split`: (b, max_det, 4), (b, max_det), (b, max_det) int32, (b, max_det, mask_dim).

Beside them stands `COUNT_OUTPUT`.
"""

COUNT_OUTPUT = "num_dets"
"""Of the layout `split`: (b, 1) int32, how many rows are real; the others are zero."""

_LAYOUTS = ("raw", "nms", "split")
FLOATS = ("float32", "float16")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a network; dtype by its NumPy name. A dimension that may vary is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name} ({dims}) {self.dtype}"


@dataclass(frozen=True, slots=True)
class Suppression(Thresholds):
    """The thresholds that a graph with NMS inside was made with: what they drop cannot come back."""

    def nearest(self, asked: Thresholds) -> Thresholds:
        """The thresholds that the graph can serve and that are nearest to those asked for.

        Example:
            >>> Suppression(0.4, 0.8, 50).nearest(Thresholds(0.25, 0.9, 100))
            Thresholds(conf=0.4, iou=0.8, max_det=50)
        """
        return Thresholds(max(asked.conf, self.conf), self.iou, min(asked.max_det, self.max_det))

    def check(self, asked: Thresholds) -> None:
        """Refuse thresholds that ask for more than the graph's answer holds.

        Raises:
            ParameterError: names the threshold, and the value that the graph was made with.
        """
        if asked.conf < self.conf:
            raise ParameterError(
                f"conf is {asked.conf}, the model suppresses in its graph and keeps scores above {self.conf} only; "
                f"use {self.conf} or more, or export it again with --conf {asked.conf}"
            )
        if asked.iou != self.iou:
            raise ParameterError(
                f"iou is {asked.iou}, the model suppresses in its graph with {self.iou} and no other; "
                f"pass iou={self.iou}, or export it again with --iou {asked.iou}"
            )
        if asked.max_det > self.max_det:
            raise ParameterError(
                f"max_det is {asked.max_det}, the model gives at most {self.max_det}; "
                f"use {self.max_det} or fewer, or export it again with --max-det {int(asked.max_det)}"
            )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Contract of one model file.

    Attributes:
        input: name of the image input, (b, 3, H, W) RGB in [0, 1].
        detections: name of the detections output, in the layout `layout`; in "split" that of the boxes.
        prototypes: name of the prototypes output.
        layout: "raw", "nms" or "split" (see the module's text).
        input_dtype: "float32" or "float16".
        batch: the fixed batch size, None where any is taken.
        size_hw: the fixed input size in pixels, None where a side may vary.
        imgsz: default longest side of the network input, pixels.
        stride: both input sides are multiples of it.
        class_names: one name for each class; the index is the class number.
        mask_dim: coefficients of a detection = number of prototypes.
        precision: of the weights and the arithmetic: "fp32", "fp16" or "int8".
        checkpoint_sha256: of the checkpoint that the file was exported from, where known.
        tools: name → version of what wrote the file.
        suppression: thresholds of NMS inside the graph, where there is one and the file tells them.
    """

    input: str = "images"
    detections: str = "output0"
    prototypes: str = "output1"
    layout: str = "raw"
    input_dtype: str = "float32"
    batch: int | None = None
    size_hw: tuple[int | None, int | None] = (None, None)
    imgsz: int = 1024
    stride: int = 32
    class_names: tuple[str, ...] = ("object",)
    mask_dim: int = 32
    precision: str = "fp32"
    checkpoint_sha256: str | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    suppression: Suppression | None = None

    def __post_init__(self) -> None:
        if self.layout not in _LAYOUTS:
            known = ", ".join(map(repr, _LAYOUTS))
            raise ModelError(f"model spec: layout is {self.layout!r}, expected one of {known}; export the file again")
        if self.input_dtype not in FLOATS:
            raise ModelError(
                f"model spec: input {self.input} is {self.input_dtype}, expected float32 or float16; export it again"
            )
        for side in self.size_hw:
            if side is not None and (side < self.stride or side % self.stride):
                raise ModelError(f"model spec: input size {self.size_hw} is not a multiple of {self.stride}")

    @property
    def class_count(self) -> int:
        return len(self.class_names)

    @property
    def fixed_hw(self) -> tuple[int, int] | None:
        """(H, W) of a model with a fixed input size, None for one that takes any."""
        height, width = self.size_hw
        return None if height is None or width is None else (height, width)

    def to_json(self) -> str:
        """The spec as one line of JSON (the text stored under METADATA_KEY)."""
        found = asdict(self)
        if self.suppression is None:
            del found["suppression"]  # so that a file without NMS reads as it did before there was any
        return json.dumps(found, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, source: str = "model spec") -> ModelSpec:
        """Read what `to_json` wrote. Unknown keys are ignored, so that newer files open.

        Raises:
            ModelError: the text is not a spec.
        """
        try:
            found = json.loads(text)
            known = {k: v for k, v in found.items() if k in cls.__dataclass_fields__}
            known["size_hw"] = tuple(known.get("size_hw", (None, None)))
            known["class_names"] = tuple(known.get("class_names", ("object",)))
            if known.get("suppression") is not None:
                known["suppression"] = Suppression(**known["suppression"])
            return cls(**known)
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{source}: the text under metadata key {METADATA_KEY!r} is not a model spec ({error}); export it again"
            ) from error


def parameters_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The `parameters` of a Triton model's configuration: name → text."""
    return {name: value.get("string_value", "") for name, value in config.get("parameters", {}).items()}


def check_imgsz(imgsz: int, stride: int = 32) -> int:
    """`imgsz` if it is a positive multiple of `stride`, else a ParameterError naming the neighbours."""
    if isinstance(imgsz, bool) or int(imgsz) != imgsz or imgsz < stride or imgsz % stride:
        below = max(stride, int(imgsz) // stride * stride)
        raise ParameterError(
            f"imgsz is {imgsz}, expected a multiple of the network's stride {stride}; use {below} or {below + stride}"
        )
    return int(imgsz)


def imgsz_for(spec: ModelSpec, imgsz: int | None) -> int:
    """Longest side of the network's input: `imgsz`, or the model's own where that is None.

    Raises:
        ParameterError: it is not a multiple of the stride, or not that of a model of fixed size.
    """
    if spec.fixed_hw is None:
        return check_imgsz(spec.imgsz if imgsz is None else imgsz, spec.stride)
    if imgsz is not None and imgsz != max(spec.fixed_hw):
        height, width = spec.fixed_hw
        raise ParameterError(
            f"imgsz is {imgsz}, the model takes only inputs of {height} x {width}; "
            "leave imgsz out, or export the model with --dynamic"
        )
    return max(spec.fixed_hw)
