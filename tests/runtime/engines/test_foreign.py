"""Metadata is text of strangers."""

from __future__ import annotations

import pytest

from fastsam_deploy.runtime.engines.tensors import spec_from_tensors
from fastsam_deploy.runtime.errors import ModelError
from fastsam_deploy.runtime.network import TensorInfo
from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec

IMAGES = TensorInfo("images", "float32", (None, 3, None, None))
OUTPUTS = [TensorInfo("o", "float32", (None, 37, None)), TensorInfo("p", "float32", (None, 32, None, None))]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"stride": "0"}, id="stride 0"),
        pytest.param({"stride": "-32"}, id="negative stride"),
        pytest.param({"stride": "1e400"}, id="infinite stride"),
        pytest.param({"stride": "[" * 100_000}, id="stride nested deeply"),
        pytest.param({"stride": "None"}, id="no stride"),
        pytest.param({"imgsz": "3200000"}, id="74 TiB"),
        pytest.param({"imgsz": "[640, 'x']"}, id="imgsz of two kinds"),
        pytest.param({"imgsz": "[]"}, id="no imgsz"),
        pytest.param({"imgsz": "{640}"}, id="a set"),
        pytest.param({METADATA_KEY: '{"a":' * 100_000}, id="JSON nested deeply"),
        pytest.param({METADATA_KEY: '{"stride": 0}'}, id="JSON: stride 0"),
        pytest.param({METADATA_KEY: '{"stride": 1e400}'}, id="JSON: infinite"),
        pytest.param({METADATA_KEY: '{"imgsz": 3200000}'}, id="JSON: 74 TiB"),
        pytest.param({METADATA_KEY: '{"imgsz": "640"}'}, id="JSON: text"),
        pytest.param({METADATA_KEY: '{"batch": true}'}, id="JSON: batch is no number"),
        pytest.param({METADATA_KEY: '{"class_names": [1, 2]}'}, id="JSON: names are numbers"),
        pytest.param({METADATA_KEY: '{"suppression": {"conf": 5}}'}, id="JSON: suppression"),
    ],
)
def test_metadata_that_cannot_be_is_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx: .*export it again") as raised:
        spec_from_tensors([IMAGES], OUTPUTS, metadata, "m.onnx")
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    "shape", [(1_000_000, 3, 1024, 1024), (1, 3, 3_200_000, 3_200_000), (1_000_000, 3, None, None)]
)
def test_inputs_that_no_memory_holds_are_refused(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx: .* expected"):
        spec_from_tensors([TensorInfo("i", "float32", shape)], OUTPUTS, {}, "m.onnx")


@pytest.mark.parametrize("text", ["[" * 5000, "[" * 100_000, "5", "{}", "{0: 'a', 'b': 'c'}", "{1e400: 'a'}"])
def test_names_and_arguments_that_cannot_be_are_left_out(text: str) -> None:
    spec = spec_from_tensors([IMAGES], OUTPUTS, {"args": text, "names": text}, "m.onnx")
    assert spec == ModelSpec(detections="o", prototypes="p")
