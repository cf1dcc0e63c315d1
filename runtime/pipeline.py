"""FastSAM: image → segments → prompt, with an engine in this process or on a server."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .clip.encoders import Clip
from .connection import Connection
from .engines.interface import Engine
from .errors import ParameterError
from .lifetime import OpenModel
from .segmenters.open import open_segmenter
from .segmenters.stream import PromptedImage, StreamItem, StreamSource, segment_stream
from .segments import Prompt, Segments
from .settings import EngineSettings, Thresholds
from .stages.image import ImageSource
from .tiling.grid import Tiles
from .tiling.image import segment_image
from .tracking.following import start_following
from .tracking.foreign import DetectionsTracker
from .tracking.tracker import Tracker
from .tuned import TUNED, as_tuned
from .weights.cache import find_model, is_published
from .weights.demo import demo_model_path


class FastSAM(OpenModel):
    """Segments everything in an image; prompts select from the segments. Safe to use from many threads at once.

    Example:
        >>> with FastSAM() as model:  # doctest: +SKIP
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
        search: str | None = None,
        try_first: bool = False,
    ) -> None:
        """
        Args:
            model: path of an `.onnx` file; "FastSAM-s" or "FastSAM-x", after `fastsam download` of it; the address of a
                model on a Triton server, `grpc://HOST:8001/fastsam` or `http://HOST:8000/fastsam`; that of a `fastsam
                serve`, `http+fastsam://HOST:8080`; an open engine (which is not closed with this object); or None for
                the demo model. The models `fastsam` and `fastsam_device`, and a `fastsam serve`, run every stage on the
                server; of `fastsam_engine`, only the network runs there.
            device: "cpu", "cuda" or "cuda:N"; never replaced by another.
            conf: keep detections with a score above it, [0, 1).
            iou: of two boxes that overlap more than this, keep the better one, (0, 1].
            max_det: keep at most this many detections, best first.
            imgsz: longest side of the network's input, a multiple of 32; None: that of the model.
            threads: CPU threads of the network; None: as many as this process may use.
            rect: the input is the smallest rectangle around the image (also for None); False: always a square. It has
                no effect on a model of fixed size.
            connection: settings for a server: time limits, retries, TLS.
            clip: for text prompts, a folder made by `fastsam-export clip`, opened on `device` with `threads`; or an
                open `Clip` (which is not closed with this object). Segments then keep their image, which must not be
                changed while they are used with text prompts.
            engine: "onnxruntime" or "openvino", for `.onnx` files; None: ONNX Runtime, or OpenVINO if only that is
                installed; "tuned": what `fastsam tune` has found for this file on this machine. The networks of the
                CLIP are opened as for None.
            precision: "fp32", "bf16", "mixed" or "tf32"; if the engine cannot compute in it, there is an error. None:
                the default of the engine, see `description`. OpenVINO uses BF16 on processors that support it; "mixed"
                keeps some layers in FP32 there. ONNX Runtime uses the precision of the file, or TF32 on a GPU if asked.
            hint: "latency" (also for None) or "throughput", for OpenVINO: several images at once, each on fewer
                threads.
            cache: keep the network as prepared by the engine, so that it opens faster next time. True: in a file beside
                the model; or the path of a folder.
            search: see `EngineSettings`, for ONNX Runtime on a GPU.
            try_first: for a file of strangers, on a CPU: open it and run it once in a process with limits of time and
                memory before. The networks of the CLIP are not tried.

        If the server runs every stage, device, threads, imgsz, rect and the settings of the engine are those of the
        server: leave them out.

        Raises:
            ParameterError, ModelError, DeviceError, MissingDependencyError: the model cannot be opened as requested.
            ServerError: a server cannot be reached.
        """
        thresholds = Thresholds(conf, iou, max_det)
        settings = EngineSettings(device, threads, engine, precision, hint, cache, search, try_first)
        source = demo_model_path() if model is None else find_model(str(model)) if is_published(model) else model
        if engine == TUNED:
            source, settings, imgsz = as_tuned(source, settings, imgsz)
        self._start(
            lambda clip: open_segmenter(source, settings, connection, imgsz=imgsz, rect=rect, clip=clip),
            thresholds,
            clip,
            settings,
        )

    def segment(
        self,
        image: ImageSource,
        prompt: Prompt | Sequence[Prompt] | None = None,
        *,
        color: str = "RGB",
        thresholds: Thresholds | None = None,
        keep_image: bool = False,
        tiles: Tiles | int | None = None,
    ) -> Segments:
        """Segment an image.

        Args:
            image: path, encoded bytes, open file, PIL image, or array: (h, w), (h, w, 1), (h, w, 3) RGB,
                (h, w, 4) RGBA, uint8 or uint16. `ImageFile` says which page or bands of a file.
            prompt: selects segments; None for everything. Coordinates are pixels of the image as displayed (with the
                EXIF orientation applied).
            color: "BGR" for arrays from OpenCV.
            thresholds: for this call; None: those of the model.
            keep_image: the segments keep the image, for `Segments.plot`, `show` and notebooks.
            tiles: for large images, segment overlapping tiles of this side (pixels) and merge what they give; see
                `Tiles`. `max_det` counts in each tile.

        Raises:
            ImageError: it is not an image. PromptError: the prompt does not fit it.

        Example:
            >>> model.segment("photo.jpg", keep_image=True).show()  # doctest: +SKIP
        """
        limits = self.thresholds if thresholds is None else thresholds
        segments, pixels = segment_image(
            self._segmenter, image, prompt, limits, color, keep=keep_image, tiles=tiles, clip=self.clip
        )
        return segments if pixels is None else segments.on(pixels)

    def segment_batch(
        self,
        images: Sequence[ImageSource],
        prompt: Prompt | Sequence[Prompt] | None = None,
        *,
        color: str = "RGB",
        thresholds: Thresholds | Sequence[Thresholds] | None = None,
    ) -> list[Segments]:
        """Segment several images of any sizes. The network runs once for each input shape.

        `timing_ms` of each image has the times of its stages, and an equal share of the time of the network.

        Args:
            images: see `segment`.
            prompt: see `segment`; the same for all images.
            color: see `segment`; the same for all images.
            thresholds: for all images, or one for each; None: those of the model.

        Returns:
            The segments of each image, in the order of the images.

        Raises:
            ImageError: an image cannot be read; the message names the first one.
            PromptError: the prompt does not fit an image.

        Example:
            >>> with FastSAM() as model:  # doctest: +SKIP
            ...     cat, coffee = model.segment_batch(["cat.jpg", "coffee.jpg"])
        """
        limits = self.thresholds if thresholds is None else thresholds
        per_image = [limits] * len(images) if isinstance(limits, Thresholds) else list(limits)
        if len(per_image) != len(images):
            raise ParameterError(
                f"{len(per_image)} thresholds for {len(images)} images; expected one for each image, or one for all"
            )
        return self._segmenter.segment_batch(images, prompt, per_image, color)

    def segment_stream(
        self,
        images: Iterable[ImageSource | PromptedImage],
        prompt: Prompt | Sequence[Prompt] | None = None,
        *,
        color: str = "RGB",
        thresholds: Thresholds | None = None,
        prefetch: int | None = None,
        keep_images: bool = False,
        copy_images: bool = True,
        tiles: Tiles | int | None = None,
    ) -> Generator[StreamItem, None, None]:
        """Segment many images one by one, with results in their order. A bad image does not stop the others.

        While the network works on one image, other threads read further images and make the masks of earlier ones. A
        model on a server gets several requests at once. `images` may be endless: it is read when a result is requested,
        in the thread that requests it. The network runs on each image separately; for a model of fixed batch, use
        `segment_batch`. Leaving the loop ends the threads after their current images.

        Args:
            images: see `segment`; or each with a prompt of its own, as a `PromptedImage`.
            prompt: see `segment`; the same for images without one of their own.
            color: see `segment`; the same for all images.
            thresholds: see `segment`; the same for all images.
            prefetch: hold at most this many images at once: read, in progress, or waiting with their results. 1: no
                overlap, for the shortest delay with live images. None: the number of threads (a few) + 1.
            keep_images: also return each image, in `StreamItem.image`.
            copy_images: copy images in memory when they are taken from `images`, so that a camera may use one buffer
                for all its frames; 3 megapixels take 0.3 ms. False: `images` gives a new array each time.
            tiles: see `segment`; images are then segmented one after the other, each with all threads.

        Yields:
            The segments or the error of each image.

        Raises:
            ParameterError: prefetch is below 1.
            Exception: any error of `images`, after the results of the images before it.

        Example:
            >>> for item in model.segment_stream(paths):  # doctest: +SKIP
            ...     print(item.source, item.error or len(item.segments))
        """
        segmenter, workers = self._segmenter.for_stream()
        if tiles is not None:
            segmenter, workers = self._segmenter, 1
        limits = self.thresholds if thresholds is None else thresholds

        def segment_one(source: StreamSource) -> tuple[Segments, NDArray[np.uint8] | None]:
            prompted = source if isinstance(source, PromptedImage) else PromptedImage(source, prompt)
            image, asked = prompted.image, prompted.prompt
            return segment_image(segmenter, image, asked, limits, color, keep=keep_images, tiles=tiles, clip=self.clip)

        ahead = workers + 1 if prefetch is None else prefetch
        return segment_stream(images, segment_one, workers, ahead, copy_images)

    def track(
        self,
        frames: Iterable[ImageSource],
        prompt: Prompt | Sequence[Prompt] | None = None,
        *,
        tracker: Tracker | DetectionsTracker | None = None,
        color: str = "RGB",
        thresholds: Thresholds | None = None,
        prefetch: int | None = None,
        keep_images: bool = False,
        copy_images: bool = True,
        tiles: Tiles | int | None = None,
    ) -> Generator[StreamItem, None, None]:
        """Segment the frames of a video and follow the objects: `Segments.track_ids` are the same in every frame.

        Args:
            frames: of one video, in their order, all of one size.
            prompt: for the first frame; later frames then have the objects that answered it. If nothing does, it is
                tried on the next frame. None for everything.
            tracker: None: a `Tracker` that begins with segments above the threshold `conf`, and also continues with
                those above half of it. Or one of your own, such as `trackers.ByteTrackTracker()` (boxes; the extra
                [supervision]), which gets the segments above `conf`. It is changed, and serves one video.
            color: see `segment`.
            thresholds: see `segment`.
            prefetch: see `segment_stream`.
            keep_images: see `segment_stream`.
            copy_images: see `segment_stream`.
            tiles: see `segment`.

        Yields:
            The segments or the error of each frame.

        Raises:
            PromptError: the prompt does not fit the first frame. ParameterError: see `segment_stream` and `Tracker`.

        Example:
            >>> for item in model.track(frames, Points([[320, 180]])):  # doctest: +SKIP
            ...     print(item.index, item.result().track_ids)
        """
        limits = self.thresholds if thresholds is None else thresholds
        limits, follower = start_following(prompt, tracker, limits)
        for item in self.segment_stream(
            frames,
            color=color,
            thresholds=limits,
            prefetch=prefetch,
            keep_images=keep_images,
            copy_images=copy_images,
            tiles=tiles,
        ):
            yield item if item.segments is None else replace(item, segments=follower.update(item.segments, item.index))
