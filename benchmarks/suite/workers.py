"""What contenders do in their processes: our runtime and ultralytics, asked for the same things."""

from __future__ import annotations

import gc
import importlib.util
import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Contender:
    """What runs, and with which settings.

    Attributes:
        name: key in results.
        title: what tables call it.
        source: model file, or folder of an OpenVINO export.
        ours: our runtime; else ultralytics.
        engine: of ours, "onnxruntime" or "openvino"; None where the installed runtime shall choose.
        retina: of ultralytics, masks at the size of the image.
        threads: of every library; 1: the process also keeps to one processor.
        as_it_comes: of ultralytics: leave PyTorch the threads that ultralytics chooses, which are one fewer than the
            processors of the machine.
        precision: of the file, where the engine does not say it; None: what the engine says.
        asked_precision: of ours, a setting of the engine; None: its own.
    """

    name: str
    title: str
    source: str
    ours: bool = False
    engine: str | None = None
    retina: bool = True
    threads: int = 2
    imgsz: int = 1024
    conf: float = 0.4
    iou: float = 0.9
    max_det: int = 300
    as_it_comes: bool = False
    precision: str | None = None
    asked_precision: str | None = None

    @property
    def missing(self) -> str | None:
        """The package that it needs and that is not installed."""
        needed = ["onnxruntime"] if self.source.endswith(".onnx") and self.engine != "openvino" else []
        needed += ["openvino"] if "openvino" in (self.engine or self.source.rsplit("/", 1)[-1]) else []
        needed += [] if self.ours else ["torch", "ultralytics"]
        return next((name for name in needed if importlib.util.find_spec(name) is None), None)


class Ours:
    """Our runtime."""

    def __init__(self, contender: Contender) -> None:
        from fastsam_deploy.runtime import FastSAM

        chosen = {} if contender.engine is None else {"engine": contender.engine}
        if contender.asked_precision is not None:
            chosen["precision"] = contender.asked_precision
        settings = {"imgsz": contender.imgsz, "conf": contender.conf, "iou": contender.iou}
        self._model = FastSAM(
            contender.source, threads=contender.threads, max_det=contender.max_det, **settings, **chosen
        )
        self._images: list[np.ndarray] = []
        self._found: Any = None
        self._blob: np.ndarray | None = None
        precision = contender.precision or self._model.description.get("precision") or self._model.spec.precision
        self.description = {**self._model.description, "precision": precision, "memory": memory_mb()}

    def library_threads(self) -> dict[str, int]:
        """Threads of each library."""
        return {self.description["engine"]: self.description["threads"]}

    def show(self, images: list[np.ndarray]) -> dict[str, Any]:
        self._images = images
        return {}

    def segment(
        self, masks: bool = False, conf: float | None = None, max_det: int | None = None, points: Any = None
    ) -> dict[str, Any]:
        """The first of the images shown: times of the stages, and its masks where they are wanted."""
        from fastsam_deploy.runtime import Points, Thresholds

        own = self._model.thresholds
        thresholds = Thresholds(own.conf if conf is None else conf, own.iou, max_det or own.max_det)
        prompt = None if points is None else Points(points, mode="all")
        self._found = None  # the memory of the last answer is not this one's
        start = time.perf_counter()
        found = self._model.segment(self._images[0], prompt, thresholds=thresholds)
        total = (time.perf_counter() - start) * 1000
        self._found = found
        network = found.timing_ms["engine"]
        before = found.timing_ms["load"] + found.timing_ms["letterbox"]
        # What is left, and not the sum of the named stages: what falls between them counts as well.
        ms = {"before": before, "network": network, "after": total - network - before, "total": total}
        return {
            "ms": {**ms, "prompt": found.timing_ms["prompt"]},
            "count": len(found),
            "masks": found.masks.rle() if masks else None,
        }

    def box_pixels(self) -> dict[str, Any]:
        """Pixels of all boxes of the last answer, which the bitmaps hold."""
        return {"box_pixels": sum(crop.size for crop in self._found.masks.crops)}

    def batch(self) -> dict[str, Any]:
        """All images shown, in one call."""
        start = time.perf_counter()
        found = self._model.segment_batch(self._images)
        return {"ms": {"total": (time.perf_counter() - start) * 1000}, "counts": [len(one) for one in found]}

    def network(self, blob: np.ndarray | None = None, outputs: bool = False) -> dict[str, Any]:
        """The network alone on (b, 3, H, W) float32, which is kept for the next time."""
        from fastsam_deploy.runtime.segmenters.host import LocalSegmenter

        segmenter = self._model._segmenter
        assert isinstance(segmenter, LocalSegmenter)
        self._blob = self._blob if blob is None else blob
        assert self._blob is not None
        start = time.perf_counter()
        raw = segmenter.engine.run(self._blob)
        ms = {"network": (time.perf_counter() - start) * 1000}
        return {"ms": ms, "outputs": [raw["detections"], raw["prototypes"]] if outputs else None}

    def memory_now(self) -> dict[str, Any]:
        return memory_mb()

    def memory(self, small: np.ndarray, image: str, **how: Any) -> dict[str, Any]:
        return _memory_of(self, small, image, how)


class Ultralytics:
    """Ultralytics' own pipeline, on its checkpoint or on one of its exports."""

    def __init__(self, contender: Contender) -> None:
        import torch
        import ultralytics

        torch.set_num_threads(contender.threads)
        torch.set_num_interop_threads(contender.threads)
        if contender.source.endswith(".onnx"):
            _limit_onnxruntime(contender.threads)
        self._contender = contender
        self._set_threads = torch.set_num_threads
        self._model = ultralytics.FastSAM(contender.source)
        self._backend: Any = None
        self._images: list[np.ndarray] = []
        self._blob: Any = None
        self.description = {"engine": f"ultralytics {ultralytics.__version__}", "memory": memory_mb()}
        if contender.source.endswith("_openvino_model"):
            self.description["precision"] = self._openvino_precision()

    def show(self, images: list[np.ndarray]) -> dict[str, Any]:
        # BGR is what it takes; turning it round is not counted.
        self._images = [np.ascontiguousarray(image[..., ::-1]) for image in images]
        return {}

    def segment(
        self, masks: bool = False, conf: float | None = None, max_det: int | None = None, points: Any = None
    ) -> dict[str, Any]:
        from pycocotools import mask as coco

        asked = {} if points is None else {"points": points, "labels": [1] * len(points)}
        start = time.perf_counter()
        result = self._predict(self._images[0], conf, max_det, **asked)[0]
        total = (time.perf_counter() - start) * 1000
        speed = result.speed
        ms = {"before": speed["preprocess"], "network": speed["inference"], "total": total}
        # As for ours: what is left, so that the stages add up to the whole.
        ms["after"] = total - ms["before"] - ms["network"]
        found = None
        if masks:
            dense = [] if result.masks is None else result.masks.data.numpy().astype(np.uint8, copy=False)
            found = [coco.encode(np.asfortranarray(mask)) for mask in dense]
        return {"ms": ms, "count": len(result), "masks": found}

    def library_threads(self) -> dict[str, int]:
        """Threads of each library, after a run."""
        import cv2
        import torch

        self._keep_threads()
        threads = {"torch": torch.get_num_threads(), "torch, between operations": torch.get_num_interop_threads()}
        backend = self._opened_backend().backend
        if hasattr(backend, "ov_compiled_model"):
            threads["openvino"] = int(backend.ov_compiled_model.get_property("INFERENCE_NUM_THREADS"))
        if hasattr(backend, "session"):
            # 0 stands for all cores of the machine.
            count = backend.session.get_session_options().intra_op_num_threads
            threads["onnxruntime"] = count or os.cpu_count() or 1
        return {**threads, "cv2": cv2.getNumThreads()}

    def box_pixels(self) -> dict[str, Any]:
        """Its masks are as large as the image, or the network's input."""
        return {"box_pixels": None}

    def batch(self) -> dict[str, Any]:
        start = time.perf_counter()
        results = self._predict(self._images, None, None, batch=len(self._images))
        return {"ms": {"total": (time.perf_counter() - start) * 1000}, "counts": [len(one) for one in results]}

    def network(self, blob: np.ndarray | None = None, outputs: bool = False) -> dict[str, Any]:
        import torch

        backend = self._opened_backend()
        self._set_threads(self._contender.threads)
        self._blob = self._blob if blob is None else torch.from_numpy(blob)
        with torch.inference_mode():
            start = time.perf_counter()
            raw = backend(self._blob)
            ms = {"network": (time.perf_counter() - start) * 1000}
        # The checkpoint's network gives ((detections, prototypes), training outputs), the exports the first of these.
        pair = raw[0] if isinstance(raw[0], (list, tuple)) else raw
        return {"ms": ms, "outputs": [part.numpy() for part in pair[:2]] if outputs else None}

    def memory_now(self) -> dict[str, Any]:
        return memory_mb()

    def memory(self, small: np.ndarray, image: str, **how: Any) -> dict[str, Any]:
        return _memory_of(self, small, image, how)

    def _opened_backend(self) -> Any:
        """The network as ultralytics' predictor opens it: that of the predictor itself once it has run."""
        import torch
        from ultralytics.nn.autobackend import AutoBackend

        predictor = self._model.predictor
        if predictor is not None and predictor.model is not None:
            return predictor.model
        if self._backend is None:
            source = self._contender.source
            self._backend = AutoBackend(source, device=torch.device("cpu"), fuse=True, verbose=False)
        return self._backend

    def _openvino_precision(self) -> str:
        """What OpenVINO computes in: on some processors BF16, of its own accord."""
        self.show([np.zeros((64, 64, 3), np.uint8)])
        self.segment()
        compiled = self._opened_backend().backend.ov_compiled_model
        name = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        return {"f32": "fp32", "f16": "fp16"}.get(name, name)

    def _keep_threads(self) -> None:
        """Its first run gives PyTorch other threads."""
        if not self._contender.as_it_comes and self._model.predictor is not None:
            self._set_threads(self._contender.threads)

    def _predict(self, images: Any, conf: float | None, max_det: int | None, **more: Any) -> Any:
        own = self._contender
        self._keep_threads()
        return self._model(
            images,
            retina_masks=own.retina,
            device="cpu",
            verbose=False,
            imgsz=own.imgsz,
            conf=own.conf if conf is None else conf,
            iou=own.iou,
            max_det=max_det or own.max_det,
            **more,
        )


def _limit_onnxruntime(threads: int) -> None:
    """Give sessions that others open this many threads. By themselves they take all cores of the machine, also in a
    process that keeps to one of them; where all cores are wanted, they are left alone."""
    import onnxruntime

    if threads >= (os.cpu_count() or 1):
        return
    opened = onnxruntime.InferenceSession

    class Session(opened):  # type: ignore[misc,valid-type]
        def __init__(self, path: Any, sess_options: Any = None, **more: Any) -> None:
            options = sess_options or onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            super().__init__(path, options, **more)

    onnxruntime.InferenceSession = Session


def worker_of(contender: Contender) -> Ours | Ultralytics:
    """Open what a contender names, in this process."""
    return Ours(contender) if contender.ours else Ultralytics(contender)


def _memory_of(runner: Ours | Ultralytics, small: np.ndarray, path: str, how: dict[str, Any]) -> dict[str, Any]:
    """What segmenting an image (.npy) takes above the memory of the engine and of the image itself, MB.

    Args:
        small: an image with the same network input, segmented first, so that the engine has its memory.
        how: arguments of `segment`.
    """
    runner.show([small])
    runner.segment()
    runner.show([np.load(path)])
    gc.collect()
    reset = _forget_peak()
    before = memory_mb()
    found = runner.segment(**how)
    after = memory_mb()
    return {
        "engine_and_image_mb": before["now"],
        "peak_mb": after["peak"],
        "over_engine_mb": round(after["peak"] - before["now"], 1),
        "peak_was_reset": reset,
        "masks": found["count"],
        # Not before: looking at the pixels may unpack them.
        **runner.box_pixels(),
    }


def memory_mb() -> dict[str, float]:
    """Resident memory of this process now and at its peak, MB of 2^20 bytes."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123  # of the system, and a short way
        lines = dict(line.split(":", 1) for line in status if line.startswith(("VmRSS", "VmHWM")))
    return {name: round(int(lines[key].split()[0]) / 1024, 1) for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))}


def _forget_peak() -> bool:
    """Let the peak of this process begin anew; False where the system does not allow it."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:  # noqa: PTH123
            clear.write("5")
    except OSError:
        return False
    return True
