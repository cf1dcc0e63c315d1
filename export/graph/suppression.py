"""NMS inside the graph: outputs that are detections already, made of standard operators.

For callers that do not use the runtime, such as C++ programs and robots. The detections are those of `decode` on the
raw file: scores above `conf`, best class only, NMS within a class, the `max_det` best of each image.

The graph uses only what TensorRT's parser accepts: NonMaxSuppression (the length of its output depends on the data), a
TopK whose K is a constant and whose axis is never shorter than K, and no tensor without elements where an image is
empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ...runtime.errors import ParameterError
from ...runtime.spec import METADATA_KEY, SPLIT_OUTPUTS, ModelSpec
from ...runtime.stages.decode import CLASS_OFFSET_PX, largest_float32_below
from ...runtime.suppression import Suppression
from ..errors import ExportError

TOP_K_LIMIT = 3840
"""Largest K that TensorRT's TopK accepts."""

OLDEST_OPSET = 13
"""The first in which Split takes its sizes as an input."""


def check_suppression(suppression: Suppression, opset: int) -> None:
    """Check that a graph can be made with these thresholds.

    Raises:
        ParameterError: it cannot.

    Example:
        >>> check_suppression(Suppression(0.001, 0.9, 300), opset=18)
        >>> check_suppression(Suppression(0.001, 0.9, 5000), opset=18)
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ParameterError: max_det is 5000, expected 1 to 3840, TensorRT's limit of TopK
    """
    if suppression.max_det > TOP_K_LIMIT:
        raise ParameterError(f"max_det is {suppression.max_det}, expected 1 to {TOP_K_LIMIT}, TensorRT's limit of TopK")
    if opset < OLDEST_OPSET:
        raise ParameterError(f"opset is {opset}, NMS in the graph needs {OLDEST_OPSET} or more")


def with_suppression(model: onnx.ModelProto, spec: ModelSpec, suppression: Suppression) -> onnx.ModelProto:
    """Copy a graph of the layout "raw" with NMS added and the outputs and metadata of the layout "split".

    Outputs: num_dets (b, 1) int32, boxes (b, max_det, 4) float32 x1, y1, x2, y2 in pixels of the input, scores
    (b, max_det) float32, classes (b, max_det) int32, coefficients (b, max_det, mask_dim) float32, best score first,
    zero past num_dets; and the prototypes. A score that is NaN becomes infinity, so that it is not overlooked.

    Raises:
        ExportError: the graph has another layout.

    Example:
        >>> with_suppression(onnx.load("raw.onnx"), spec, Suppression(0.001, 0.9, 300))  # doctest: +SKIP
    """
    if spec.layout != "raw":
        raise ExportError(f"the graph has the layout {spec.layout!r}, expected 'raw'; export it without --nms first")
    result = onnx.ModelProto.FromString(model.SerializeToString())
    graph = result.graph
    maker = _Maker(spec, suppression)
    graph.node.extend(maker.nodes())
    graph.initializer.extend(maker.constants)
    prototypes = next(output for output in graph.output if output.name == spec.prototypes)
    batch = next(iter(graph.input)).type.tensor_type.shape.dim[0]
    outputs = [*_outputs(batch.dim_param or batch.dim_value, spec.mask_dim, suppression.max_det), prototypes]
    copies = [onnx.ValueInfoProto.FromString(output.SerializeToString()) for output in outputs]
    del graph.output[:]
    graph.output.extend(copies)
    metadata = {entry.key: entry.value for entry in result.metadata_props}
    metadata[METADATA_KEY] = spec_with_suppression(spec, suppression).to_json()
    helper.set_model_props(result, metadata)
    return result


def spec_with_suppression(spec: ModelSpec, suppression: Suppression) -> ModelSpec:
    """Spec of the file that `with_suppression` makes.

    Example:
        >>> spec = spec_with_suppression(ModelSpec(), Suppression(0.001, 0.9, 300))
        >>> spec.layout, spec.detections
        ('split', 'boxes')
    """
    return replace(spec, layout="split", detections=SPLIT_OUTPUTS[0], suppression=suppression)


class _Maker:
    """Writes the nodes that follow the raw detections; all of their names begin with "nms/"."""

    def __init__(self, spec: ModelSpec, suppression: Suppression) -> None:
        self.spec = spec
        self.suppression = suppression
        self.constants: list[TensorProto] = []
        self._nodes: list[NodeProto] = []

    def nodes(self) -> list[NodeProto]:
        boxes, scores, classes, coefficients = self._candidates()
        kept = self._suppressed(boxes, scores, classes)
        self._best(kept, boxes, classes, coefficients)
        return self._nodes

    def _constant(self, value: NDArray[np.generic]) -> str:
        name = f"nms/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def _integers(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64))

    def _floats(self, *values: float) -> str:
        return self._constant(np.array(values, np.float32))

    def _add(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: int | list[int]
    ) -> str:
        name = f"nms/{operator}_{len(self._nodes)}"
        made = list(outputs) or [name]
        self._nodes.append(helper.make_node(operator, list(inputs), made, name, **attributes))
        return made[0]

    def _candidates(self) -> tuple[str, str, str, str]:
        """Corners (b, n, 4), best score (b, 1, n), its class (b, 1, n) int64, coefficients (b, n, mask_dim)."""
        spec = self.spec
        parts = ["nms/centres", "nms/sizes", "nms/class_scores", "nms/coefficients"]
        sizes = self._integers(2, 2, spec.class_count, spec.mask_dim)
        centres, half_of, raw_scores, coefficients = parts
        self._add("Split", [spec.detections, sizes], parts, axis=1)
        half = self._add("Mul", [half_of, self._floats(0.5)])
        corners = self._add("Concat", [self._add("Sub", [centres, half]), self._add("Add", [centres, half])], axis=1)
        # NaN is above no threshold: the image would look empty. As infinity it comes first and the runtime refuses it.
        bad = self._add("IsNaN", [raw_scores])
        scores = self._add("Where", [bad, self._floats(np.inf), raw_scores])
        classes = self._add("ArgMax", [scores], axis=1, keepdims=1)
        best = self._add("GatherElements", [scores, classes], axis=1)
        rows, per_anchor = (self._add("Transpose", [name], perm=[0, 2, 1]) for name in (corners, coefficients))
        return rows, best, classes, per_anchor

    def _suppressed(self, boxes: str, scores: str, classes: str) -> str:
        """(b, n + max_det) float32: the score of each anchor that NMS keeps, 0 elsewhere.

        The zeros at the end let TopK find max_det columns in any image. One of them is also a row that is always
        selected, so that nothing is empty where NMS finds nothing.
        """
        s = self.suppression
        offset = self._add("Mul", [self._add("Cast", [classes], to=TensorProto.FLOAT), self._constant(CLASS_OFFSET_PX)])
        moved = self._add("Add", [boxes, self._add("Transpose", [offset], perm=[0, 2, 1])])
        limits = [self._integers(s.max_det)]
        limits += [self._floats(float(x)) for x in (largest_float32_below(s.iou), s.conf)]
        selected = self._add("NonMaxSuppression", [moved, scores, *limits])
        places = self._add("Gather", [selected, self._integers(0, 2)], axis=1)
        count = self._add("Gather", [self._add("Shape", [scores]), self._integers(2)], axis=0)
        spare = self._add("Concat", [self._integers(0), count], axis=0)
        spare = self._add("Unsqueeze", [spare, self._integers(0)])
        places = self._add("Concat", [places, spare], axis=0)
        flat = self._add("Squeeze", [scores, self._integers(1)])
        padded = self._add("Pad", [flat, self._integers(0, 0, 0, s.max_det), self._constant(np.float32(0))])
        values = self._add("GatherND", [padded, places])
        empty = self._add("ConstantOfShape", [self._add("Shape", [padded])])
        return self._add("ScatterND", [empty, places, values])

    def _best(self, kept: str, boxes: str, classes: str, coefficients: str) -> None:
        """The outputs, from the scores of what NMS kept."""
        s, mask_dim = self.suppression, self.spec.mask_dim
        zero = self._floats(0)
        top, at = "nms/top", "nms/top_at"
        self._add("TopK", [kept, self._integers(s.max_det)], [top, at], axis=1)
        real = self._add("Greater", [top, self._floats(s.conf)])
        self._add("Where", [real, top, zero], ["scores"])
        counted = self._add("Cast", [real], to=TensorProto.FLOAT)
        total = self._add("ReduceSum", [counted, self._integers(1)], keepdims=1)
        self._add("Cast", [total], ["num_dets"], to=TensorProto.INT32)
        place = self._add("Where", [real, at, self._integers(0)])
        place = self._add("Unsqueeze", [place, self._integers(2)])
        numbers = self._add("Cast", [self._add("Transpose", [classes], perm=[0, 2, 1])], to=TensorProto.FLOAT)
        rows = self._add("Concat", [boxes, numbers, coefficients], axis=2)
        best = self._add("GatherND", [rows, place], batch_dims=1)
        best = self._add("Where", [self._add("Unsqueeze", [real, self._integers(2)]), best, zero])
        self._add("Split", [best, self._integers(4, 1, mask_dim)], ["boxes", "nms/class", "coefficients"], axis=2)
        number = self._add("Squeeze", ["nms/class", self._integers(2)])
        self._add("Cast", [number], ["classes"], to=TensorProto.INT32)


def _outputs(batch: str | int, mask_dim: int, max_det: int) -> list[onnx.ValueInfoProto]:
    shapes = {
        "num_dets": (TensorProto.INT32, [batch, 1]),
        "boxes": (TensorProto.FLOAT, [batch, max_det, 4]),
        "scores": (TensorProto.FLOAT, [batch, max_det]),
        "classes": (TensorProto.INT32, [batch, max_det]),
        "coefficients": (TensorProto.FLOAT, [batch, max_det, mask_dim]),
    }
    return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in shapes.items()]
