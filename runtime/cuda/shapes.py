"""What a launch depends on: the shapes of a run of the network, and the addresses of its buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import ModelError, ParameterError
from ..spec import PROTOTYPE_STRIDE, ModelSpec
from ..stages.decode import MAX_CANDIDATES
from .records import CANDIDATE_DTYPE, DETECTION_DTYPE, PLACE_DTYPE, SUMMARY_DTYPE

MAX_MASK_DIM = 256
"""A detection's coefficients lie in the shared memory of a block (masks.cu)."""

MAX_STRIDES = 4
"""Of the anchors in the layout "distributions" (candidates.cu)."""

LEAST_ROOM = 300
"""Detections of an image that there is room for, however few are asked for."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes of one run of the network: all that a launch depends on.

    Attributes:
        batch: images of the network's input; some may be past the group.
        input_hw: (H, W) of it, pixels.
        layout: "raw", "distributions", "nms" or "split", see spec.py. Of "split" the rest describes the joined rows.
        rows: axis 1 of the detections output: values of an anchor in "raw" and "distributions", max_det of the file in
            the others.
        columns: axis 2 of it: anchors, or 6 + mask_dim.
        class_count, mask_dim: of the model.
        prototypes_hw: (H / 4, W / 4).
        max_det: room for detections of each image; an image's own max_det may be less.
        half_input, half_detections, half_prototypes: which tensors are float16; the others are float32.
        bins, strides: of the layout "distributions", see `ModelSpec`.

    Example:
        >>> shapes = Shapes(1, (640, 640), "raw", 37, 8400, 1, 32, (160, 160), max_det=300)
        >>> shapes.candidate_capacity, shapes.nbytes()["kept"]
        (8400, 9600)
    """

    batch: int
    input_hw: tuple[int, int]
    layout: str
    rows: int
    columns: int
    class_count: int
    mask_dim: int
    prototypes_hw: tuple[int, int]
    max_det: int
    half_input: bool = False
    half_detections: bool = False
    half_prototypes: bool = False
    bins: int = 0
    strides: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.mask_dim <= MAX_MASK_DIM:
            raise ModelError(
                f"the model has {self.mask_dim} mask coefficients, the CUDA kernels take 1 to {MAX_MASK_DIM}; "
                "run it with device='cpu'"
            )
        axis, expected = (self.columns, 6) if self.suppressed else (self.rows, self.box_values + self.class_count)
        if axis != expected + self.mask_dim:
            raise ModelError(
                f"detections output is (…, {self.rows}, {self.columns}) in the layout {self.layout!r}, expected "
                f"{expected + self.mask_dim} values for each detection; export the model again"
            )
        if len(self.strides) > MAX_STRIDES:
            raise ModelError(
                f"the model has feature maps of {len(self.strides)} strides, the CUDA kernels take {MAX_STRIDES}; "
                "run it with device='cpu', or export it without --undecoded"
            )
        anchors = sum(self.input_hw[0] // stride * (self.input_hw[1] // stride) for stride in self.strides)
        if self.bins and self.columns != anchors:
            raise ModelError(
                f"the network gives {self.columns} anchors for an input of {self.input_hw[0]} x {self.input_hw[1]}, "
                f"expected {anchors} with the strides {self.strides}; export it again"
            )
        if self.max_det < 1:
            raise ParameterError(f"max_det is {self.max_det}, expected 1 or more")

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        input_shape: Sequence[int],
        detections: tuple[Sequence[int], str],
        prototypes: tuple[Sequence[int], str],
        max_det: int,
    ) -> Shapes:
        """Shapes from those of the network's tensors.

        Args:
            input_shape: (batch, 3, H, W).
            detections: shape (batch, …, …) and dtype of that output, "float32" or "float16". In the layout "split"
                those of its joined rows: (batch, max_det of the file, 6 + mask_dim) float32.
            prototypes: shape (batch, mask_dim, H / 4, W / 4) and dtype.

        Raises:
            ModelError: the shapes or dtypes are not those of the spec's layout.
        """
        batch, _, height, width = input_shape
        (shape, dtype), (proto_shape, proto_dtype) = detections, prototypes
        hw = (height // PROTOTYPE_STRIDE, width // PROTOTYPE_STRIDE)
        if len(shape) != 3 or shape[0] != batch or tuple(proto_shape) != (batch, spec.mask_dim, *hw):
            raise ModelError(
                f"outputs are {spec.detections} {tuple(shape)} and {spec.prototypes} {tuple(proto_shape)} for an input "
                f"{tuple(input_shape)}; expected ({batch}, …, …) and {(batch, spec.mask_dim, *hw)}; export it again"
            )
        halves = (
            _is_half(spec.input, spec.input_dtype),
            _is_half(spec.detections, dtype),
            _is_half(spec.prototypes, proto_dtype),
        )
        sizes = (spec.layout, shape[1], shape[2], spec.class_count, spec.mask_dim, hw, max_det)
        bins, strides = (spec.bins, spec.strides) if spec.layout == "distributions" else (0, ())
        return cls(batch, (height, width), *sizes, *halves, bins, strides)

    @property
    def suppressed(self) -> bool:
        """See `ModelSpec.suppressed`."""
        return self.layout in ("nms", "split")

    @property
    def box_values(self) -> int:
        """See `ModelSpec.box_values`."""
        return 4 * self.bins if self.bins else 4

    @property
    def candidate_capacity(self) -> int:
        """Candidates of an image that suppression looks at; none where the graph suppresses."""
        return 0 if self.suppressed else min(self.columns, MAX_CANDIDATES)

    def room_for(self, max_det: int) -> int:
        """Detections that there is room for if so many are asked for. See `with_room_for`."""
        most = self.rows if self.suppressed else self.candidate_capacity
        room = max_det if max_det <= LEAST_ROOM else 1 << (max_det - 1).bit_length()
        return max(LEAST_ROOM, min(room, most))

    def with_room_for(self, max_det: int) -> Shapes:
        """The same with room for so many detections of an image.

        Rooms come in a few sizes, because each has buffers and a graph of its own: 300, the powers of two above it, and
        as many as the network can give at all.

        Example:
            >>> [shapes.with_room_for(count).max_det for count in (1, 300, 301, 600, 10**9)]  # doctest: +SKIP
            [300, 300, 512, 1024, 21504]
        """
        return replace(self, max_det=self.room_for(max_det))

    def nbytes(self) -> dict[str, int]:
        """Bytes of each buffer in `Buffers`, but for `upload` and `words`, which depend on the images."""
        images, detections = self.batch, self.batch * self.max_det
        return {
            "places": images * PLACE_DTYPE.itemsize,
            "summaries": images * SUMMARY_DTYPE.itemsize,
            "total_words": 8,
            "detections": detections * DETECTION_DTYPE.itemsize,
            "keys": 0 if self.suppressed else images * self.columns * 8,
            "sorted": images * self.candidate_capacity * CANDIDATE_DTYPE.itemsize,
            "kept": detections * CANDIDATE_DTYPE.itemsize,
            "coefficients": detections * self.mask_dim * 4,
            "tile_ends": detections * 4,
        }


@dataclass(frozen=True, slots=True)
class Buffers:
    """Addresses in device memory, each a multiple of 16; sizes: `Shapes.nbytes`.

    Attributes:
        upload: images and tables, from `upload.pack`.
        places: (batch,) PLACE_DTYPE, from `upload.pack`.
        summaries: (batch,) SUMMARY_DTYPE, part of the answer.
        total_words: one int64, part of the answer: words that all masks need.
        detections: (batch, max_det) DETECTION_DTYPE, part of the answer.
        words: (word_capacity,) uint32, part of the answer: the masks.
        word_capacity: words that may be written.
        keys, sorted, kept, coefficients, tile_ends: scratch.

    Example:
        >>> Buffers(*range(16, 208, 16)).places  # an address
        32
    """

    upload: int
    places: int
    summaries: int
    total_words: int
    detections: int
    words: int
    word_capacity: int
    keys: int
    sorted: int
    kept: int
    coefficients: int
    tile_ends: int


def _is_half(name: str, dtype: str) -> bool:
    if dtype not in ("float32", "float16"):
        raise ModelError(f"tensor {name} is {dtype}, the CUDA kernels take float32 and float16; export it again")
    return dtype == "float16"
