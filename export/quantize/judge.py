"""How near the segments of a quantized file are to those of the FP32 file, on photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ...runtime.engines import open_engine
from ...runtime.engines.interface import Engine
from ...runtime.engines.onnxruntime.tensors import tensor_infos
from ...runtime.engines.segmentation import SegmentationEngine
from ...runtime.engines.telemetry import without_telemetry
from ...runtime.masks.overlap import mask_ious
from ...runtime.measure.fidelity import fidelity
from ...runtime.measure.findings import Comparison, Finding
from ...runtime.pipeline import FastSAM
from ...runtime.segments import Segments
from ...runtime.settings import Thresholds
from ...runtime.system.cpu import usable_cpus
from ...runtime.system.scratch import scratch_folder
from ..errors import ExportError

with without_telemetry():
    import onnxruntime as ort

_SHOWN = Thresholds(0.4, 0.9, 300)
"""Detections that are compared."""

_MARGIN = 0.1
"""A segment whose score fell below the threshold by less than this counts for `Likeness.recall`."""

_MATCH_IOU = 0.5
_MEAN_IOU, _RECALL = "mean mask IoU", "recall"


@dataclass(frozen=True)
class Likeness:
    """Agreement of a quantized file with the FP32 file, at a confidence of 0.4, over all photographs.

    Attributes:
        mean_iou: of the masks of matched detections.
        recall: share of the FP32 file's masks for which the quantized file has a mask with an IoU of 0.5 or more and a
            score above 0.3. Where NMS with an IoU of 0.9 leaves two boxes on one object, either of them will do.
        matched: share of the FP32 file's detections that are matched one to one, also above 0.4.
        detections, detections_rounded: number of detections of the FP32 file and of the quantized one.
        quality: panoptic quality.
        images: how many were compared.

    Example:
        >>> Likeness(0.98, 1.0, 0.95, detections=130, detections_rounded=128, quality=0.94, images=12).recall
        1.0
    """

    mean_iou: float
    recall: float
    matched: float
    detections: int
    detections_rounded: int
    quality: float
    images: int


@dataclass(frozen=True)
class QuantizationLimits:
    """The least agreement with the FP32 file that is accepted.

    Attributes:
        mean_iou: see `Likeness.mean_iou`.
        recall: see `Likeness.recall`.

    Example:
        >>> QuantizationLimits(recall=0.95)
        QuantizationLimits(mean_iou=0.95, recall=0.95)
    """

    mean_iou: float = 0.95
    recall: float = 0.98

    def findings(self, *likenesses: Likeness) -> tuple[Finding, ...]:
        """A finding for each limit, with the worst value of all likenesses: each of them has to reach it.

        Example:
            >>> exact = Likeness(0.99, 0.97, 0.95, 100, 98, 0.96, images=12)
            >>> coarse = Likeness(0.94, 0.99, 0.95, 100, 98, 0.92, images=12)
            >>> [finding.worst for finding in QuantizationLimits().findings(exact, coarse)]
            [0.94, 0.97]
        """
        worst = Comparison()
        for likeness in likenesses:
            worst.add(_MEAN_IOU, likeness.mean_iou, more_is_better=True)
            worst.add(_RECALL, likeness.recall, more_is_better=True)
        return worst.findings({_MEAN_IOU: self.mean_iou, _RECALL: self.recall})


class Judge:
    """Compares quantized graphs with the FP32 file, whose segments it keeps.

    Example:
        >>> judge = Judge(Path("fastsam.onnx"), [Path("coffee.jpg")], 640)  # doctest: +SKIP
        >>> likeness = judge.judge(quantized, as_written=True)  # doctest: +SKIP
    """

    def __init__(self, model: Path, photographs: Sequence[Path], imgsz: int) -> None:
        """
        Args:
            model: the FP32 file.
            photographs: image files.
            imgsz: longest side of the network's input, pixels.

        Raises:
            ExportError: the FP32 file detects nothing in the photographs, so that nothing can be compared.
        """
        self._photographs = tuple(photographs)
        self._imgsz = imgsz
        with closing(open_engine(model)) as engine:
            self._reference = self._answers(engine, _SHOWN.conf)
        if not any(len(segments) for segments in self._reference):
            raise ExportError(
                f"{model.name} finds nothing with a score above {_SHOWN.conf} in {len(self._photographs)} photographs; "
                "expected photographs of what the model was trained for: give others"
            )

    @property
    def count(self) -> int:
        """Number of photographs."""
        return len(self._photographs)

    def judge(self, graph: onnx.ModelProto, *, as_written: bool) -> Likeness:
        """Compare a quantized graph with the FP32 file.

        Args:
            graph: of the same network.
            as_written: quantize in floating point exactly as the nodes say, which is what runtimes other than ONNX
                Runtime on this processor compute; False: use ONNX Runtime's integer kernels.
        """
        with closing(SegmentationEngine(_QuantizedNetwork(graph, as_written=as_written))) as engine:
            return self._likeness(self._answers(engine, _SHOWN.conf - _MARGIN))

    def _answers(self, engine: Engine, conf: float) -> list[Segments]:
        asked, suppression = replace(_SHOWN, conf=conf), engine.spec.suppression
        served = suppression.nearest(asked) if suppression else asked
        with FastSAM(engine, **asdict(served), imgsz=self._imgsz) as model:
            return [model.segment(path) for path in self._photographs]

    def _likeness(self, answers: Sequence[Segments]) -> Likeness:
        above = [segments[np.flatnonzero(segments.scores > _SHOWN.conf)] for segments in answers]
        measured = fidelity(self._reference, above)
        held = sum(_held(reference, answer) for reference, answer in zip(self._reference, answers, strict=True))
        return Likeness(
            measured.mean_iou,
            held / measured.reference_count,
            measured.recall(_MATCH_IOU),
            measured.reference_count,
            measured.candidate_count,
            measured.quality,
            len(self._photographs),
        )


def _held(reference: Segments, answer: Segments) -> int:
    """Masks of the reference for which the answer has one of the same class and an IoU of 0.5 or more."""
    ious = mask_ious(reference.masks, answer.masks, _MATCH_IOU)
    ious[reference.classes[:, None] != answer.classes] = 0
    return int((ious >= _MATCH_IOU).any(1).sum())


class _QuantizedNetwork:
    """A `Network` that runs a graph in memory with ONNX Runtime."""

    def __init__(self, graph: onnx.ModelProto, *, as_written: bool) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = usable_cpus()
        if as_written:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        with scratch_folder() as folder:
            path = folder / "quantized.onnx"
            onnx.save(graph, path)
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.name = "the quantized graph"
        self.device = "cpu"
        self.description: dict[str, Any] = {"engine": "onnxruntime", "version": ort.__version__}
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.inputs = tensor_infos(self._session.get_inputs())
        self.outputs = tensor_infos(self._session.get_outputs())

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        tensors: list[NDArray[Any]] = self._session.run(list(outputs), dict(feed))
        return tensors

    def close(self) -> None:
        """Nothing to free: the session is freed with this object."""
