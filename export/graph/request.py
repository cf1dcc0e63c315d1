"""Which ONNX file is asked for. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...runtime.errors import ParameterError
from ...runtime.input_size import check_imgsz
from ...runtime.spec import ModelSpec
from ...runtime.suppression import Suppression
from .finish import DEFAULT_OPSET
from .suppression import check_suppression

FASTSAM_PX = 1024
"""Longest side of the images that FastSAM was trained on."""


class NetworkFacts(Protocol):
    """What the spec of a file says of the network that it was made from.

    Example:
        >>> facts = load_checkpoint("FastSAM-s.pt")  # doctest: +SKIP
        >>> facts.stride, facts.mask_dim  # doctest: +SKIP
        (32, 32)
    """

    @property
    def sha256(self) -> str: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def stride(self) -> int: ...

    @property
    def mask_dim(self) -> int: ...

    @property
    def trained_px(self) -> int | None: ...


@dataclass(frozen=True)
class FileRequest:
    """An ONNX file of a segmentation network. The attributes are explained at `export_onnx`.

    Raises:
        ParameterError: settings do not fit each other.

    Example:
        >>> FileRequest(Path("fastsam.onnx"), dynamic=False, batch=4).fixed_batch
        4
    """

    target: Path
    imgsz: int | tuple[int, int] | None = None
    dynamic: bool = True
    batch: int = 1
    opset: int = DEFAULT_OPSET
    half: bool = False
    compact: bool = False
    suppression: Suppression | None = None
    decoded: bool = True

    def __post_init__(self) -> None:
        if self.target.suffix != ".onnx":
            raise ParameterError(f"output is {self.target}, expected a name that ends in .onnx")
        if self.batch < 1:
            raise ParameterError(f"batch is {self.batch}, expected 1 or more")
        if self.dynamic and self.batch != 1:
            raise ParameterError(
                f"batch is {self.batch} in a dynamic export, which takes any; leave it out, or use --fixed"
            )
        if self.half and self.compact:
            raise ParameterError("half and compact: FP16 arithmetic has FP16 weights already; leave compact out")
        if self.suppression is not None:
            check_suppression(self.suppression, self.opset)
        if self.suppression is not None and not self.decoded:
            raise ParameterError("NMS in the graph needs the boxes there too: leave out one of --nms and --undecoded")

    @property
    def fixed_batch(self) -> int | None:
        """Batch size of a fixed file, None of a dynamic one."""
        return None if self.dynamic else self.batch

    def size_hw(self, network: NetworkFacts) -> tuple[int, int]:
        """Height and width of the input in pixels; of a dynamic file the default.

        Raises:
            ParameterError: a side is no multiple of the network's stride.
        """
        imgsz = (network.trained_px or FASTSAM_PX) if self.imgsz is None else self.imgsz
        height, width = imgsz if isinstance(imgsz, tuple) else (imgsz, imgsz)
        return check_imgsz(height, network.stride), check_imgsz(width, network.stride)

    def spec(self, network: NetworkFacts, tools: dict[str, str]) -> ModelSpec:
        """What the file will say of itself.

        Args:
            network: that it is made from.
            tools: name → version of the programs that write it.
        """
        size_hw = self.size_hw(network)
        return ModelSpec(
            batch=self.fixed_batch,
            size_hw=(None, None) if self.dynamic else size_hw,
            imgsz=max(size_hw),
            stride=network.stride,
            class_names=network.class_names,
            mask_dim=network.mask_dim,
            precision="fp16" if self.half else "fp32",
            checkpoint_sha256=network.sha256,
            tools={**tools, **({"weights": "stored as fp16, computed in fp32"} if self.compact else {})},
        )
