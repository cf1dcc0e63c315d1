"""Options shared by several commands of `fastsam-export`, and groups of options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ...runtime.errors import ParameterError
from ...runtime.suppression import Suppression

PhotographsOption = Annotated[
    Path | None, typer.Option(help="Folder of photographs to compare on; default: those in the package.")
]
ImgszOption = Annotated[
    int | None, typer.Option(help="Longest side of the network's input, pixels. Default: the model's.")
]


@dataclass(frozen=True)
class SuppressionOptions:
    """NMS inside the graph.

    Example:
        >>> SuppressionOptions(nms=True, max_det=100).suppression()
        Suppression(conf=0.001, iou=0.9, max_det=100)
    """

    nms: Annotated[bool, typer.Option("--nms", help="Put NMS into the graph; the outputs are detections.")] = False
    max_det: Annotated[
        int | None, typer.Option(help="With --nms: largest number of detections in an image; default 300.")
    ] = None
    conf: Annotated[
        float | None, typer.Option(help="With --nms: detections with a score above it are kept; default 0.001.")
    ] = None
    iou: Annotated[
        float | None, typer.Option(help="With --nms: IoU above which the worse of two boxes is dropped; default 0.9.")
    ] = None

    def suppression(self) -> Suppression | None:
        """The thresholds of NMS in the graph; None without --nms.

        Raises:
            ParameterError: thresholds are given without --nms.
        """
        given = {"conf": self.conf, "iou": self.iou, "max_det": self.max_det}
        chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if not self.nms and chosen:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in chosen)
            raise ParameterError(f"{names} given without --nms; add --nms, or leave them out")
        return Suppression(**{"conf": 0.001, "iou": 0.9, "max_det": 300, **chosen}) if self.nms else None
