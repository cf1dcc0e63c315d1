"""How near a rounded file's answer is to that of the FP32 file, on photographs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
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
from ...runtime.measure.fidelity import Fidelity, fidelity
from ...runtime.pipeline import FastSAM
from ...runtime.segments import Segments
from ...runtime.system.cpu import usable_cpus
from ..errors import ExportError

_CONF, _IOU, _MAX_DET = 0.4, 0.9, 300
_MARGIN = 0.1
"""An object whose score fell below the threshold by less than this is found, but not counted as above it."""

_FOUND_IOU = 0.5


@dataclass(frozen=True)
class Limits:
    """What a rounded file has to reach.

    Attributes:
        mean_iou: of the masks of detections that both files make.
        recall: see `Likeness.recall`.
    """

    mean_iou: float = 0.95
    recall: float = 0.98


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

    def shortfalls(self, limits: Limits) -> list[str]:
        """What does not reach its limit, in words; nothing where all is well."""
        wanted = {"mean mask IoU": (self.mean_iou, limits.mean_iou), "recall": (self.recall, limits.recall)}
        return [f"{name} {value:.4f}, expected at least {low:g}" for name, (value, low) in wanted.items()
                if not value >= low]  # fmt: skip


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
            self._reference = self._answers(engine, _CONF)
        if not any(len(segments) for segments in self._reference):
            raise ExportError(
                f"{model.name} finds nothing with a score above {_CONF} in {len(self._photographs)} photographs; "
                "expected some of what the model was trained for: give others"
            )

    def judge(self, graph: onnx.ModelProto, *, as_written: bool) -> Likeness:
        """Compare a rounded graph.

        Args:
            as_written: round in floating point exactly as the nodes say, which is what another runtime than ONNX
                Runtime on this processor would compute; False: with ONNX Runtime's integer kernels.
        """
        with closing(SegmentationEngine(_RoundedNetwork(graph, as_written=as_written))) as engine:
            return self._likeness(self._answers(engine, _CONF - _MARGIN))

    def _answers(self, engine: Engine, conf: float) -> list[Segments]:
        inside = engine.spec.suppression
        iou, most = (_IOU, _MAX_DET) if inside is None else (inside.iou, inside.max_det)
        lowest = conf if inside is None else max(conf, inside.conf)
        with FastSAM(engine, conf=lowest, iou=iou, max_det=most, imgsz=self._imgsz) as model:
            return [model.segment(path) for path in self._photographs]

    def _likeness(self, answers: Sequence[Segments]) -> Likeness:
        above = [segments[np.flatnonzero(segments.scores > _CONF)] for segments in answers]
        found: Fidelity = fidelity(self._reference, above)
        held = sum(_held(true, seen) for true, seen in zip(self._reference, answers, strict=True))
        return Likeness(
            found.mean_iou,
            held / found.reference_count,
            found.recall(_FOUND_IOU),
            found.reference_count,
            found.candidate_count,
            found.quality,
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
