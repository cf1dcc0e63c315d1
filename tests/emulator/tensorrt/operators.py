"""The ONNX operators and types that TensorRT's parser takes.

Source: "Supported ONNX Operators" (docs/operators.md) of onnx/onnx-tensorrt for TensorRT 10.15: opset 9 to 24. The
operators that a segmentation network may consist of are here with their types; recurrent, signal, sequence and text
operators, attention and the like are left out, so they count as not supported.
Restrictions that matter to us: zero points of Quantize- and DequantizeLinear are 0; K of TopK is below 3840; axes of
reductions are initializers; Resize has neither antialiasing nor other policies than "stretch".
"""

from __future__ import annotations

SOURCE = "onnx/onnx-tensorrt, docs/operators.md, TensorRT 10.15"
OPSETS = range(9, 25)

_FLOATS = {"FP32", "FP16", "BF16"}
_NUMBERS = _FLOATS | {"INT32", "INT64"}
_ALL = _NUMBERS | {"BOOL"}

_BY_TYPES: list[tuple[set[str], str]] = [
    (
        _FLOATS,
        "AveragePool BatchNormalization Ceil Clip Conv ConvTranspose CumSum Elu Erf Exp Floor Gemm GlobalAveragePool "
        "GlobalMaxPool GroupNormalization HardSigmoid HardSwish InstanceNormalization IsInf LayerNormalization "
        "LeakyRelu Log LogSoftmax MatMul MaxPool PRelu Reciprocal Resize Round Sigmoid Sin Cos Softmax Softplus "
        "Softsign Sqrt Tanh Upsample Einsum",
    ),
    (
        _NUMBERS,
        "Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min Mod "
        "Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
        "ReduceProd ReduceSum ReduceSumSquare Relu Scatter ScatterElements ScatterND Sign SpaceToDepth Sub Sum TopK",
    ),
    (
        _ALL,
        "Concat ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND Identity OneHot Reshape Shape "
        "Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where",
    ),
    ({"BOOL"}, "And Or Not Xor"),
    ({"FP32", "FP16"}, "NonMaxSuppression NonZero GridSample RoiAlign Mish"),
    (_ALL | {"UINT8"}, "Cast CastLike"),
    (_ALL, "Constant"),
    (_FLOATS, "QuantizeLinear"),
    ({"INT8", "FP8", "FP4", "INT4"}, "DequantizeLinear"),
    (_FLOATS | {"INT8", "INT32", "INT64"}, "Gelu"),
]

SUPPORTED: dict[str, set[str]] = {name: types for types, names in _BY_TYPES for name in names.split()}
"""Operator → types."""

ONNX_TYPES = {1: "FP32", 10: "FP16", 16: "BF16", 6: "INT32", 7: "INT64", 9: "BOOL", 2: "UINT8", 3: "INT8"}
"""TensorProto's number → name in the table; others are in no plan."""
