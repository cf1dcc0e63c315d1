"""FastSAM: image → segments → prompt, on an engine in this process or on a server."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from .clip import Clip
from .connection import Connection, is_address
from .engines import Engine, open_client, open_engine
from .errors import ModelError, ParameterError
from .image import ImageSource
from .local import LocalSegmenter
from .postprocess import Thresholds
from .remote import RemoteSegmenter, segments_images
from .segments import Prompt, Segments
from .spec import ModelSpec


def demo_model_path() -> Path:
    """The ONNX file of the demo model that comes with the package.

    Raises:
        ModelError: the package was installed without it.
    """
    path = Path(str(files("fastsam_deploy.models") / "fastsam-demo.onnx"))
    if not path.is_file():
        raise ModelError(f"{path}: the demo model is not there; install the package again, or give a model file")
    return path


class FastSAM:
    """Segments everything in an image, then picks by prompt. Usable from many threads at once.

    >>> with FastSAM() as model:                                    # doctest: +SKIP
    ...     everything = model.segment("photo.jpg")
    ...     cup = everything.select(Points([[320, 180]]))
    """

    def __init__(
        self,
        model: str | Path | Engine | None = None,
        device: str = "cpu",
        *,
        conf: float = 0.4,
        iou: float = 0.9,
        max_det: int = 300,
        imgsz: int | None = None,
        threads: int | None = None,
        rect: bool | None = None,
        connection: Connection | None = None,
        clip: str | Path | Clip | None = None,
    ) -> None:
        """
        Args:
            model: path of an `.onnx` file; the address of a model on a Triton server, `grpc://HOST:8001/fastsam` or
                `http://HOST:8000/fastsam`; an open engine (which stays the caller's to close); or None for the demo
                model. On a server `fastsam` and `fastsam_device` do everything there; of `fastsam_engine` only the
                network runs there.
            device: "cpu", "cuda" or "cuda:N"; never replaced by another.
            conf: keep detections with a score above it, [0, 1).
            iou: of two boxes that overlap more than this, the better stays, (0, 1].
            max_det: keep at most this many, best first.
            imgsz: longest side of the network input, a multiple of 32; None: the model's own.
            threads: CPU threads of the network; None: as many as this process may use.
            rect: input is the smallest rectangle round the image (None: yes); False: always a square. A model of
                fixed size has no choice.
            connection: how to talk to a server: time limits, retries, TLS.
            clip: for text prompts, a folder that `fastsam-export clip` made, opened on `device` with `threads`; or an
                open `Clip` (which stays the caller's to close). Segments then hold their image, which must not be
                changed as long as they are asked for texts.

        device, threads, imgsz and rect are the server's own where it does everything: leave them out there.

        Raises:
            ParameterError, ModelError, DeviceError, MissingDependencyError; ServerError: a server cannot be reached.
        """
        self.thresholds = Thresholds(conf, iou, max_det)
        self._owns_clip = isinstance(clip, (str, Path))
        self.clip = Clip.open(clip, device, threads) if isinstance(clip, (str, Path)) else clip
        try:
            self._segmenter = _open(model, device, threads, imgsz, rect, connection, self.clip)
        except BaseException:
            self._close_clip()
            raise

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        return self._segmenter.spec

    @property
    def device(self) -> str:
        """What the network runs on: "cpu", "cuda:0", or the server's host."""
        return self._segmenter.device

    @property
    def description(self) -> dict[str, Any]:
        """Library, version and settings of the network, for reports."""
        return self._segmenter.description

    @property
    def imgsz(self) -> int:
        """Longest side of the network's input, pixels."""
        return self._segmenter.imgsz

    def segment(
        self,
        image: ImageSource,
        prompt: Prompt | Sequence[Prompt] | None = None,
        *,
        color: str = "RGB",
        thresholds: Thresholds | None = None,
    ) -> Segments:
        """Segments of one image, or those that a prompt picks.

        Args:
            image: path, encoded bytes, PIL image, or array: (h, w), (h, w, 1), (h, w, 3) RGB, (h, w, 4) RGBA,
                uint8 or uint16.
            prompt: None for everything; coordinates are pixels of the image as it is shown (EXIF applied).
            color: "BGR" for arrays from OpenCV.
            thresholds: others than the model's own, for this call.

        Raises:
            ImageError: it is not an image. PromptError: the prompt does not fit it.
        """
        return self.segment_batch([image], prompt, color=color, thresholds=thresholds)[0]

    def segment_batch(
        self,
        images: Sequence[ImageSource],
        prompt: Prompt | Sequence[Prompt] | None = None,
        *,
        color: str = "RGB",
        thresholds: Thresholds | Sequence[Thresholds] | None = None,
    ) -> list[Segments]:
        """Segments of several images of any sizes, in their order; the network runs once for each input shape.

        In `timing_ms` each image carries its own time, and an equal share of the network's.

        Args:
            thresholds: for all, or one for each image; None: the model's own.

        Raises:
            ImageError: names the first image that is not one. PromptError: the prompt does not fit an image.
        """
        given = self.thresholds if thresholds is None else thresholds
        each = [given] * len(images) if isinstance(given, Thresholds) else list(given)
        if len(each) != len(images):
            raise ParameterError(f"{len(each)} thresholds for {len(images)} images; expected one for each, or one")
        return self._segmenter.segment_batch(images, prompt, each, color)

    def close(self) -> None:
        """Free the engine and the CLIP if they were opened here, or close the connection."""
        self._segmenter.close()
        self._close_clip()

    def _close_clip(self) -> None:
        if self._owns_clip and self.clip is not None:
            self.clip.close()

    def __enter__(self) -> FastSAM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(
    model: str | Path | Engine | None,
    device: str,
    threads: int | None,
    imgsz: int | None,
    rect: bool | None,
    connection: Connection | None,
    clip: Clip | None,
) -> LocalSegmenter | RemoteSegmenter:
    """See FastSAM."""
    if is_address(model):
        client = open_client(str(model), device, threads, connection)
        if segments_images(client):
            return RemoteSegmenter(client, imgsz, rect, clip=clip)
        client.close()
    elif connection is not None:
        raise ParameterError(f"connection is given, but {model} is on no server; leave connection out")
    if model is None or isinstance(model, (str, Path)):
        engine = open_engine(demo_model_path() if model is None else model, device, threads, connection)
        return LocalSegmenter(engine, imgsz, rect is not False, owns_engine=True, clip=clip)
    return LocalSegmenter(model, imgsz, rect is not False, clip=clip)
