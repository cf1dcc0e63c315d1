"""TRTFastSAM: FastSAM with every stage on the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from copy import copy
from pathlib import Path

from .clip.encoders import Clip
from .cuda.network import DeviceNetwork
from .pipeline import FastSAM
from .segmenters.device import DeviceSegmenter
from .segmenters.open import open_device_segmenter
from .settings import EngineSettings, Thresholds


class TRTFastSAM(FastSAM):
    """`FastSAM` on a CUDA device: the same calls and the same answers.

    An image goes up once, as it is; letterbox, network, suppression, masks and prompts run there, replayed as a CUDA
    graph for each shape of input; boxes, scores and bit-packed masks come down. With a prompt of points or boxes, only
    the masks that were chosen come down.

    Usable from many threads, which wait for each other; `clone` gives a thread one of its own.

    >>> with TRTFastSAM("FastSAM-s.plan") as model:                 # doctest: +SKIP
    ...     model.warmup([(1, 1080, 1920)])
    ...     cup = model.segment("photo.jpg", Points([[320, 180]]))
    """

    _segmenter: DeviceSegmenter

    def __init__(
        self,
        model: str | Path | DeviceNetwork,
        device: str = "cuda",
        *,
        conf: float = 0.4,
        iou: float = 0.9,
        max_det: int = 300,
        imgsz: int | None = None,
        rect: bool | None = None,
        graphs: int = 8,
        clip: str | Path | Clip | None = None,
        engine: str | None = None,
        precision: str | None = None,
    ) -> None:
        """
        Args:
            model: path of a TensorRT plan (`.plan`, or ultralytics' `.engine`), or of an `.onnx` file, which ONNX
                Runtime's CUDA provider then runs on the same device memory, without graphs; or an open network (which
                stays the caller's to close, brings its device along, and serves this object alone).
            device: "cuda" or "cuda:N"; never replaced by another.
            conf, iou, max_det, imgsz, rect: see `FastSAM`.
            graphs: shapes of input for which a CUDA graph is kept, those used last; 0: none.
            clip: for text prompts, see `FastSAM`; a folder is opened on `device` with ONNX Runtime.
            engine, precision: see `FastSAM`; what a plan is already, or there is an error.

        Raises:
            ParameterError, ModelError, DeviceError, MissingDependencyError.
        """
        settings = EngineSettings(
            device if isinstance(model, (str, Path)) else model.device, engine=engine, precision=precision
        )
        self._start(
            lambda clip: open_device_segmenter(model, settings, imgsz=imgsz, rect=rect, graphs=graphs, clip=clip),
            Thresholds(conf, iou, max_det),
            clip,
            settings,
        )

    def warmup(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        """Make memory, kernels and graphs ready for batches of images.

        Args:
            shapes: (batch, h, w) of images to come, pixels.
        """
        self._segmenter.warmup(shapes, self.thresholds)

    def clone(self) -> TRTFastSAM:
        """Another one that runs beside this: weights of a plan are shared; stream, buffers and graphs are its own.

        Closed by whoever asked for it, before or after this one. A CLIP is shared, and stays this one's.
        """
        other = copy(self)
        other._hold(self._segmenter.clone(), ExitStack())
        return other

    def __enter__(self) -> TRTFastSAM:
        return self
