"""The contract of a model file, stored in the file itself: its inputs, its outputs and their layout.

Names and metadata follow the conventions of ultralytics, so that files it exports open too.
There are four layouts of the detections:

- `raw`: (b, 4 + nc + mask_dim, anchors) — cx, cy, w, h in input pixels, nc scores, coefficients;
- `distributions`: (b, 4 * bins + nc + mask_dim, anchors) — as `raw`, with the distribution of each side of the box in
  place of cx, cy, w, h: the runtime decodes those of the candidates alone (`stages/distributions.py`);
- `nms`: (b, max_det, 6 + mask_dim) — x1, y1, x2, y2 in input pixels, score, class, coefficients,
  rows past the last detection are zero;
- `split`: the columns of `nms` as separate outputs, see `SPLIT_OUTPUTS`, and the number of detections.

The prototypes are (b, mask_dim, H / 4, W / 4) in all four.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .documents import parse, quoted
from .errors import ModelError, ParameterError
from .input_size import MAX_IMGSZ, MAX_INPUT_PIXELS, check_imgsz
from .suppression import Suppression

METADATA_KEY = "fastsam_deploy"
"""Key in an ONNX file's metadata_props under which the JSON text of a ModelSpec is stored."""

PROTOTYPE_STRIDE = 4
"""Pixels of the network's input along one pixel of a prototype."""

MAX_CLASSES = 1 << 16
"""Class numbers are below it."""

SCORE_ROUNDING = 0.01
"""Scores may be as far outside [0, 1]: an INT8 file has steps of 1 / 128."""

SPLIT_OUTPUTS = ("boxes", "scores", "classes", "coefficients")
"""Outputs of the layout `split`: (b, max_det, 4), (b, max_det), (b, max_det) int32, (b, max_det, mask_dim).

`COUNT_OUTPUT` is the fifth.
"""

COUNT_OUTPUT = "num_dets"
"""Output of the layout `split`: (b, 1) int32, the number of detections; the rows after them are zero."""

_LAYOUTS = ("raw", "distributions", "nms", "split")
_MOST_BINS, _MOST_STRIDES = 1024, 8
FLOATS = ("float32", "float16")
"""dtypes of a network's image input."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Contract of one model file.

    Attributes:
        input: name of the image input, (b, 3, H, W) RGB in [0, 1].
        detections: name of the output with the detections, in the layout `layout`; in "split" that of the boxes.
        prototypes: name of the output with the prototypes.
        layout: "raw", "distributions", "nms" or "split" (see the module's docstring).
        input_dtype: "float32" or "float16".
        batch: the fixed batch size, None if it may vary.
        size_hw: the fixed input size in pixels, None for a side that may vary.
        imgsz: default longest side of the network's input, pixels.
        stride: both input sides are multiples of it.
        class_names: name of each class; the index is the class number.
        mask_dim: number of prototypes, and of a detection's mask coefficients.
        precision: of the weights and the arithmetic: "fp32", "fp16" or "int8".
        checkpoint_sha256: SHA-256 of the checkpoint that the file was exported from, if known.
        tools: name → version of the programs that wrote the file.
        suppression: thresholds of the NMS in the graph; None without NMS, or if the file does not state them.
        bins: of the distribution of each side of a box, in the layout "distributions" alone.
        strides: of the anchors, pixels, the finest first, in the layout "distributions" alone.

    Raises:
        ModelError: layout, input_dtype or size_hw is not one that this version knows, or a number is out of its range.

    Example:
        >>> spec = ModelSpec(imgsz=640, class_names=("person", "dog"))
        >>> spec.class_count, spec.fixed_hw, ModelSpec.from_json(spec.to_json()) == spec
        (2, None, True)
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
    bins: int = 0
    strides: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.layout not in _LAYOUTS:
            known = ", ".join(map(repr, _LAYOUTS))
            raise ModelError(f"model spec: layout is {self.layout!r}, expected one of {known}; export the file again")
        if self.input_dtype not in FLOATS:
            raise ModelError(
                f"model spec: input {self.input} is {self.input_dtype}, expected float32 or float16; export it again"
            )
        for name, value, most in (
            ("stride", self.stride, MAX_IMGSZ),
            ("imgsz", self.imgsz, MAX_IMGSZ),
            ("mask_dim", self.mask_dim, MAX_IMGSZ),
            ("batch", 1 if self.batch is None else self.batch, MAX_INPUT_PIXELS),
        ):
            if not _is_whole(value) or not 1 <= value <= most:
                raise ModelError(f"model spec: {name} is {value!r:.60}, expected a whole number from 1 to {most}")
        if self.layout == "distributions":
            self._check_distributions()
        self._check_size()

    def _check_distributions(self) -> None:
        if not _is_whole(self.bins) or not 1 <= self.bins <= _MOST_BINS:
            raise ModelError(f"model spec: bins is {self.bins!r:.60}, expected a whole number from 1 to {_MOST_BINS}")
        fit = all(_is_whole(stride) and stride >= 1 and self.stride % stride == 0 for stride in self.strides)
        if not fit or not 1 <= len(self.strides) <= _MOST_STRIDES:
            raise ModelError(
                f"model spec: strides are {quoted(self.strides)}, expected 1 to {_MOST_STRIDES} divisors of the stride "
                f"{self.stride}; export the file again"
            )

    def _check_size(self) -> None:
        """Sides are multiples of the stride, and the input is of a size that memory can be asked for."""
        for side in self.size_hw:
            if side is not None and (not _is_whole(side) or side < self.stride or side % self.stride):
                raise ModelError(f"model spec: input size {quoted(self.size_hw)} is not a multiple of {self.stride}")
        height, width = (side or self.stride for side in self.size_hw)
        pixels = (self.batch or 1) * height * width
        if pixels > MAX_INPUT_PIXELS:
            raise ModelError(
                f"model spec: the input is batch {self.batch or 1} of {height} x {width}, {pixels:,} pixels; expected "
                f"{MAX_INPUT_PIXELS:,} or fewer; export it with a smaller batch or imgsz"
            )

    @property
    def class_count(self) -> int:
        """Number of classes.

        Example:
            >>> ModelSpec().class_count
            1
        """
        return len(self.class_names)

    @property
    def suppressed(self) -> bool:
        """Whether the graph contains NMS: its rows are detections, not anchors.

        Example:
            >>> ModelSpec().suppressed, ModelSpec(layout="nms").suppressed
            (False, True)
        """
        return self.layout in ("nms", "split")

    @property
    def box_values(self) -> int:
        """Values of an anchor, or of a detection, before its score.

        Example:
            >>> ModelSpec().box_values, ModelSpec(layout="distributions", bins=16, strides=(8, 16, 32)).box_values
            (4, 64)
        """
        return 4 * self.bins if self.layout == "distributions" else 4

    @property
    def fixed_hw(self) -> tuple[int, int] | None:
        """(H, W) of a model with a fixed input size, None if a side may vary.

        Example:
            >>> ModelSpec(size_hw=(480, 640)).fixed_hw
            (480, 640)
        """
        height, width = self.size_hw
        return None if height is None or width is None else (height, width)

    def to_json(self) -> str:
        """The spec as one line of JSON (the text stored under METADATA_KEY).

        Example:
            >>> json.loads(ModelSpec().to_json())["imgsz"]
            1024
        """
        document = asdict(self)
        if self.suppression is None:
            del document["suppression"]  # files without NMS stay the same as those of versions that had no NMS
        if self.layout != "distributions":
            del document["bins"], document["strides"]  # and so do files of the other layouts
        return json.dumps(document, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, source: str = "model spec") -> ModelSpec:
        """Parse the text that `to_json` writes. Unknown keys are ignored, so that newer files open.

        Args:
            text: the JSON text.
            source: file name for messages.

        Raises:
            ModelError: the text is not a spec.

        Example:
            >>> ModelSpec.from_json('{"imgsz": 640}').imgsz
            640
        """
        try:
            document = parse(text)
            known = {k: v for k, v in document.items() if k in cls.__dataclass_fields__}
            known["size_hw"] = tuple(known.get("size_hw", (None, None)))
            known["strides"] = tuple(known.get("strides", ()))
            names = known.get("class_names", ("object",))
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise TypeError(f"class_names are {names!r:.80}, expected a list of texts")
            known["class_names"] = tuple(names)
            if known.get("suppression") is not None:
                known["suppression"] = Suppression(**known["suppression"])
            return cls(**known)
        except (ModelError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ModelError(
                f"{source}: the text under metadata key {METADATA_KEY!r} is not a model spec ({error}); export it again"
            ) from error


def parameters_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The `parameters` of a Triton model's configuration: name → text.

    Example:
        >>> parameters_of({"parameters": {"imgsz": {"string_value": "640"}}})
        {'imgsz': '640'}
    """
    return {name: value.get("string_value", "") for name, value in config.get("parameters", {}).items()}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def imgsz_for(spec: ModelSpec, imgsz: int | None) -> int:
    """Longest side of the network's input: `imgsz`, or the model's default if that is None.

    Raises:
        ParameterError: it is not a multiple of the stride, or differs from the fixed size of the model.

    Example:
        >>> imgsz_for(ModelSpec(imgsz=640), None), imgsz_for(ModelSpec(imgsz=640), 320)
        (640, 320)
    """
    if spec.fixed_hw is None:
        side = check_imgsz(spec.imgsz if imgsz is None else imgsz, spec.stride)
        if (spec.batch or 1) * side * side > MAX_INPUT_PIXELS:
            raise ParameterError(
                f"imgsz is {side} in a model that takes {spec.batch} images at once, more than memory holds; expected "
                f"{MAX_INPUT_PIXELS:,} pixels or fewer in all; use a smaller imgsz"
            )
        return side
    if imgsz is not None and imgsz != max(spec.fixed_hw):
        height, width = spec.fixed_hw
        raise ParameterError(
            f"imgsz is {imgsz}, the model takes only inputs of {height} x {width}; "
            "leave imgsz out, or export the model with --dynamic"
        )
    return max(spec.fixed_hw)
