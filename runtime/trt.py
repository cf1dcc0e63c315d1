"""TRTFastSAM: FastSAM with every stage on the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .clip.encoders import Clip
from .cuda.network import DeviceNetwork
from .pipeline import FastSAM
from .segmenters.device import DeviceSegmenter
from .segmenters.open import open_device_segmenter
from .settings import EngineSettings, Thresholds


class TRTFastSAM(FastSAM):
    """`FastSAM` on a CUDA device, with the same methods and results.

    An image is uploaded once, without changes. Letterbox, network, suppression, masks and prompts run on the device, as
    one CUDA graph for each input shape. Boxes, scores and bit-packed masks are downloaded; with a prompt of points or
    boxes, only the selected masks.

    Safe to use from many threads, which wait for each other; `clone` makes an object for another thread.

    Example:
        >>> with TRTFastSAM("FastSAM-s.plan") as model:  # doctest: +SKIP
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
        search: str | None = None,
        cache: bool | str | Path = False,
        decoder: str | None = None,
    ) -> None:
        """
        Args:
            model: path of a plan of TensorRT (`.plan`, or ultralytics' `.engine`), of one of TensorRT for RTX (`.rtx`),
                or of an `.onnx` file, which ONNX Runtime's CUDA provider then runs on the same device memory, without
                graphs; or an open network with its device, which is not closed with this object and must not be used
                elsewhere.
            device: "cuda" or "cuda:N"; never replaced by another.
            conf: see `FastSAM`.
            iou: see `FastSAM`.
            max_det: see `FastSAM`.
            imgsz: see `FastSAM`.
            rect: see `FastSAM`.
            graphs: number of input shapes for which a CUDA graph is kept, those used last; 0: no graphs.
            clip: for text prompts, see `FastSAM`; a folder is opened on `device` with ONNX Runtime.
            engine: see `FastSAM`. If it differs from that of a plan, there is an error.
            precision: see `FastSAM`. If it differs from that of a plan, there is an error.
            search: see `FastSAM`. If it differs from that of a plan, there is an error.
            cache: see `FastSAM`; for `.rtx` plans only: their kernels are compiled for each shape when it first comes,
                which takes seconds, and are kept in a file when the model is closed.
            decoder: "nvimagecodec" decodes JPEG files on the GPU (the extra [nvimagecodec]); their pixels may differ by
                a little from those of None, the usual decoder, which also reads whatever that one cannot.

        Raises:
            ParameterError, ModelError, DeviceError, MissingDependencyError: the model cannot be opened as requested.
        """
        settings = EngineSettings(
            device if isinstance(model, (str, Path)) else model.device,
            engine=engine,
            precision=precision,
            cache=cache,
            search=search,
        )
        self._start(
            lambda clip: open_device_segmenter(
                model, settings, imgsz=imgsz, rect=rect, graphs=graphs, clip=clip, decoder=decoder
            ),
            Thresholds(conf, iou, max_det),
            clip,
            settings,
        )

    def warmup(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        """Prepare memory, kernels and graphs for batches of images.

        Args:
            shapes: (batch, h, w) of the batches, pixels of the images.
        """
        self._segmenter.warmup(shapes, self.thresholds)

    def clone(self) -> TRTFastSAM:
        """Make an object that runs in parallel with this one.

        It shares the weights of a plan and the CLIP, and has its own stream, buffers and graphs. The caller closes it,
        before or after this one. The CLIP is closed with this one.
        """
        other = TRTFastSAM.__new__(TRTFastSAM)  # without opening a model, which __init__ does
        settings = EngineSettings(self.device)
        other._start(lambda _: self._segmenter.clone(), self.thresholds, self.clip, settings)
        return other
