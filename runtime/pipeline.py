"""FastSAM: image → segments → prompt, on an engine in this process or on a server."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clip.encoders import Clip
from .clip.features import MaskFeatures
from .connection import Connection
from .engines.interface import Engine
from .errors import ModelError, ParameterError
from .segmenters.interface import Segmenter
from .segmenters.open import open_segmenter
from .segmenters.stream import StreamItem, segment_stream
from .segments import Prompt, Segments
from .settings import EngineSettings, Thresholds
from .spec import ModelSpec
from .stages.image import ImageSource, load_image


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
        engine: str | None = None,
        precision: str | None = None,
        hint: str | None = None,
        cache: bool | str | Path = False,
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
            engine: what runs an `.onnx` file, "onnxruntime" or "openvino"; None: ONNX Runtime, or OpenVINO where only
                that is installed. The clip's networks are opened as if it were None.
            precision: "fp32" or "bf16": the engine computes in it, or there is an error. None: the engine's own, which
                `description` tells: OpenVINO takes BF16 on processors that have it, ONNX Runtime what the file holds.
            hint: "latency" (None: this) or "throughput", for OpenVINO: several images at once on fewer threads each.
            cache: keep the network as the engine prepared it, so that it opens sooner the next time: True: in a file
                beside the model, or a folder.

        device, threads, imgsz, rect and the settings of an engine are the server's own where it does everything:
        leave them out there.

        Raises:
            ParameterError, ModelError, DeviceError, MissingDependencyError; ServerError: a server cannot be reached.
        """
        self.thresholds = Thresholds(conf, iou, max_det)
        settings = EngineSettings(device, threads, engine, precision, hint, cache)
        source = demo_model_path() if model is None else model
        self._start(
            lambda clip: open_segmenter(source, settings, connection, imgsz=imgsz, rect=rect, clip=clip),
            Thresholds(conf, iou, max_det),
            clip,
            settings,
        )

    def _start(
        self,
        open_it: Callable[[Clip | None], Segmenter],
        thresholds: Thresholds,
        clip: str | Path | Clip | None,
        settings: EngineSettings,
    ) -> None:
        """Open what this holds, and nothing of it if a part cannot be opened.

        Args:
            open_it: opens the segmenter, which asks the CLIP that it is given.
            clip: as of `FastSAM`.
            settings: device and threads of a CLIP that is opened here.
        """
        self.thresholds = thresholds
        with ExitStack() as stack:
            if isinstance(clip, (str, Path)):
                clip = stack.enter_context(Clip.open(clip, settings.device, settings.threads))
            self.clip = clip
            self._hold(open_it(clip), stack)

    def _hold(self, segmenter: Segmenter, stack: ExitStack) -> None:
        """Answer with this segmenter; `close` closes it, then what is in the stack, even where one of them fails."""
        stack.callback(segmenter.close)
        self._segmenter = segmenter
        self._owned = stack.pop_all()

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
            image: path, encoded bytes, open file, PIL image, or array: (h, w), (h, w, 1), (h, w, 3) RGB,
                (h, w, 4) RGBA, uint8 or uint16. `ImageFile` says which page or bands of a file.
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

    def segment_stream(
        self,
        images: Iterable[ImageSource],
        prompt: Prompt | Sequence[Prompt] | None = None,
        *,
        color: str = "RGB",
        thresholds: Thresholds | None = None,
        prefetch: int | None = None,
        keep_images: bool = False,
    ) -> Generator[StreamItem, None, None]:
        """Segments of many images, one by one and in their order; a bad image does not stop the others.

        While the network works on one image, others are read and the masks of others made; of a model on a server
        several requests are under way. `images` may be endless: it is read as results are asked for, in the thread
        that asks. Each image is a run of its own: for a model of fixed batch use `segment_batch`. Leaving the loop ends
        the threads, after the images that they are at.

        >>> for item in model.segment_stream(paths):                # doctest: +SKIP
        ...     print(item.source, item.error or len(item.segments))

        Args:
            prompt, color, thresholds: as of `segment`, for each image.
            prefetch: at most this many images are held at once: read, under way, or waiting with their results. 1: no
                overlap, least delay for live pictures. None: one more than threads work on (a few).
            keep_images: read each image here and give it along.

        Raises:
            ParameterError: prefetch is below 1. What `images` raises, after the results of the images before.
        """
        segmenter, workers = self._segmenter.for_stream()
        limits = [self.thresholds if thresholds is None else thresholds]

        def segment_one(source: ImageSource) -> tuple[Segments, NDArray[np.uint8] | None]:
            if not keep_images or segmenter.sends_undecoded(source):
                (segments,) = segmenter.segment_batch([source], prompt, limits, color)
                return segments, _image_of(segments, source, color) if keep_images else None
            start = perf_counter()
            image = load_image(source, color=color)
            load_ms = (perf_counter() - start) * 1000
            (segments,) = segmenter.segment_batch([image], prompt, limits, "RGB")
            return replace(segments, timing_ms={**segments.timing_ms, "load": load_ms}), image

        return segment_stream(images, segment_one, workers, workers + 1 if prefetch is None else prefetch)

    def close(self) -> None:
        """Free the engine and the CLIP if they were opened here, or close the connection."""
        self._owned.close()

    def __enter__(self) -> FastSAM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _image_of(segments: Segments, source: ImageSource, color: str) -> NDArray[np.uint8]:
    """The image of these segments; read again only where no CLIP has it already."""
    features = segments.features
    return features.image if isinstance(features, MaskFeatures) else load_image(source, color=color)
