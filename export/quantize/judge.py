"""How near a rounded file's answer is to that of the FP32 file, on photographs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from ...runtime.engines import open_engine
from ...runtime.engines.interface import Engine
from ...runtime.engines.onnxruntime.tensors import tensor_infos
from ...runtime.engines.segmentation import SegmentationEngine
from ...runtime.masks.overlap import mask_ious
from ...runtime.measure.fidelity import fidelity
from ...runtime.measure.findings import Comparison, Finding
from ...runtime.pipeline import FastSAM
from ...runtime.segments import Segments
from ...runtime.settings import Thresholds
from ...runtime.system.cpu import usable_cpus
from ..errors import ExportError

_SHOWN = Thresholds(0.4, 0.9, 300)
"""Detections that are compared."""

_MARGIN = 0.1
"""An object whose score fell below the threshold by less than this is found, but not counted as above it."""

_FOUND_IOU = 0.5
_MEAN_IOU, _RECALL = "mean mask IoU", "recall"


@dataclass(frozen=True)
class Likeness:
    """A rounded file beside the FP32 file, at a confidence of 0.4, over all photographs.

    Attributes:
        mean_iou: of the masks of pairs of detections.
        recall: share of the FP32 file's masks for which the rounded one has a mask of IoU 0.5 or more with a score
            above 0.3: of two boxes on one object, which NMS with an IoU of 0.9 lets through, either will do.
        matched: share of the FP32 file's detections that have a partner of their own, above 0.4 as well.
        detections, detections_rounded: by the FP32 file and by the rounded one.
        quality: panoptic quality, one figure for all of it.
        images: how many were compared.
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
    """What a rounded file has to reach.

    Attributes:
        mean_iou: of the masks of detections that both files make.
        recall: see `Likeness.recall`.
    """

    mean_iou: float = 0.95
    recall: float = 0.98

    def findings(self, *likenesses: Likeness) -> tuple[Finding, ...]:
        """A finding for each limit, of the worst of the likenesses: all of them have to reach it.

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
    """Holds the FP32 file's answers, so that any number of rounded graphs can be compared with them."""

    def __init__(self, model: Path, photographs: Sequence[Path], imgsz: int) -> None:
        """
        Raises:
            ExportError: the FP32 file finds nothing in the photographs.
        """
        self._photographs = tuple(photographs)
        self._imgsz = imgsz
        with closing(open_engine(model)) as engine:
            self._reference = self._answers(engine, _SHOWN.conf)
        if not any(len(segments) for segments in self._reference):
            raise ExportError(
                f"{model.name} finds nothing with a score above {_SHOWN.conf} in {len(self._photographs)} photographs; "
                "expected some of what the model was trained for: give others"
            )

    def judge(self, graph: onnx.ModelProto, *, as_written: bool) -> Likeness:
        """Compare a rounded graph.

        Args:
            as_written: round in floating point exactly as the nodes say, which is what another runtime than ONNX
                Runtime on this processor would compute; False: with ONNX Runtime's integer kernels.
        """
        with closing(SegmentationEngine(_RoundedNetwork(graph, as_written=as_written))) as engine:
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
            measured.recall(_FOUND_IOU),
            measured.reference_count,
            measured.candidate_count,
            measured.quality,
            len(self._photographs),
        )


def _held(reference: Segments, answer: Segments) -> int:
    """Masks of the reference for which the answer has one of the same class and an IoU of 0.5 or more."""
    ious = mask_ious(reference.masks, answer.masks, _FOUND_IOU)
    ious[reference.classes[:, None] != answer.classes] = 0
    return int((ious >= _FOUND_IOU).any(1).sum())


class _RoundedNetwork:
    """A graph that was never a file, in ONNX Runtime: a `Network`."""

    def __init__(self, graph: onnx.ModelProto, *, as_written: bool) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = usable_cpus()
        if as_written:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rounded.onnx"
            onnx.save(graph, path)
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.name = "the rounded graph"
        self.device = "cpu"
        self.description: dict[str, Any] = {"engine": "onnxruntime", "version": ort.__version__}
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.inputs = tensor_infos(self._session.get_inputs())
        self.outputs = tensor_infos(self._session.get_outputs())

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = self._session.run(list(outputs), dict(feed))
        return found

    def close(self) -> None:
        """The session goes with this."""
