"""Is the precision that was asked for in the plan's layers? Read from what TensorRT's inspector writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.export.tensorrt.layers import LayerTypes, check_precision, layer_types, layers_from_inspector


def layer(kind: str, name: str = "conv", *, version: int = 10, layer_type: str = "CaskConvolution") -> dict[str, Any]:
    """A layer as the inspector of that version tells it."""
    key = "Format/Datatype" if version == 10 else "Datatype"
    end = [{"Name": "x", "Dimensions": [1, 3, 8, 8], key: kind}]
    return {"Name": name, "LayerType": layer_type, "Inputs": end, "Outputs": end}


def read(*layers: Any) -> LayerTypes:
    return layer_types(layers_from_inspector(json.dumps({"Layers": layers, "Bindings": []})))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Row major linear FP32", "fp32"),
        ("Float", "fp32"),
        ("Row major linear FP16 format", "fp16"),
        ("Two wide channel vectorized row major FP16 format", "fp16"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Half", "fp16"),
        ("BFloat16", "bf16"),
        ("Row major linear BF16 format", "bf16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Int8", "int8"),
        ("FP8", "fp8"),
    ],
)
def test_types_are_read_from_both_versions(text: str, kind: str) -> None:
    for version in (10, 11):
        found = read(layer(text, version=version))
        assert (dict(found.convolutions), dict(found.others)) == ({kind: 1}, {})


def test_convolutions_are_told_from_the_rest() -> None:
    found = read(
        layer("Half", "/model.0/conv/Conv + PWN(Sigmoid)", layer_type="CaskConvolution"),
        layer("Half", "fused", layer_type="kgen") | {"Metadata": "[ONNX Layer: node_Conv_12]"},
        layer("Float", "decode", layer_type="kgen"),
        layer("Int32", "shapes", layer_type="Shape"),
        "a name alone",
    )
    assert (dict(found.convolutions), dict(found.others)) == ({"fp16": 2}, {"fp32": 1})
    assert str(found) == "convolutions: 2 fp16; other layers: 1 fp32"


def test_the_type_of_a_layer_is_the_narrowest_that_goes_in() -> None:
    mixed = layer("Half") | {"Inputs": [{"Format/Datatype": "Row major Int8 format"}, {"Format/Datatype": "Float"}]}
    assert dict(read(mixed).convolutions) == {"int8": 1}
    constant = layer("Half", "weights", layer_type="Constant") | {"Inputs": []}
    assert dict(read(constant).others) == {"fp16": 1}


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", json.dumps({"Layers": ["conv", "relu"]})])
def test_what_tells_no_types_is_an_error(text: str) -> None:
    with pytest.raises(ExportError, match="inspector"):
        layer_types(layers_from_inspector(text))


@pytest.mark.parametrize(
    ("asked", "convolutions", "others", "share", "sound"),
    [
        ("fp32", {"fp32": 70}, {"fp32": 9}, 1.0, True),
        ("fp32", {"fp32": 70}, {"fp16": 1}, 1.0, False),
        ("fp16", {"fp16": 60, "fp32": 10}, {"fp32": 9}, 0.9, True),
        ("fp16", {"fp16": 20, "fp32": 50}, {"fp16": 9}, 0.9, False),
        ("fp16", {"fp32": 70}, {"fp32": 9}, 0.0, False),  # never none at all
        ("fp16", {}, {"fp16": 5, "fp32": 3}, 0.9, True),  # all is fused into layers without a name
        ("int8", {"int8": 30, "fp32": 40}, {}, 0.6, True),
        ("int8", {"int8": 10, "fp16": 60}, {}, 0.6, False),
    ],
)
def test_a_plan_in_another_precision_is_refused(
    asked: str, convolutions: dict[str, int], others: dict[str, int], share: float, sound: bool
) -> None:
    found = LayerTypes(convolutions, others)
    if sound:
        check_precision(found, asked, share)
    else:
        with pytest.raises(ExportError, match=f"asked for {asked}, TensorRT built convolutions"):
            check_precision(found, asked, share)
