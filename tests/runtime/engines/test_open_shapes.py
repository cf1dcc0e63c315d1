"""Files whose outputs have no fixed side at all, as exporters write them that do not fold the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")

import onnx
from onnx import TensorProto, helper

from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.engines.tensors import with_known_shapes
from fastsam_deploy.runtime.errors import ModelError
from fastsam_deploy.runtime.network import TensorInfo
from fastsam_deploy.runtime.pipeline import FastSAM
from fastsam_deploy.runtime.settings import EngineSettings


@pytest.fixture(scope="module")
def unfolded(demo_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with a reshape before each output, whose target no shape inference follows."""
    model = onnx.load(demo_onnx)
    graph = model.graph
    for output in graph.output:
        name, rank = output.name, len(output.type.tensor_type.shape.dim)
        for node in graph.node:
            node.output[:] = [f"{name}_inner" if made == name else made for made in node.output]
            node.input[:] = [f"{name}_inner" if read == name else read for read in node.input]
        graph.node.extend(
            [
                helper.make_node("Shape", [f"{name}_inner"], [f"{name}_shape"]),
                helper.make_node("Cast", [f"{name}_shape"], [f"{name}_float"], to=TensorProto.FLOAT),
                helper.make_node("Sqrt", [f"{name}_float"], [f"{name}_root"]),
                helper.make_node("Mul", [f"{name}_root", f"{name}_root"], [f"{name}_square"]),
                helper.make_node("Round", [f"{name}_square"], [f"{name}_round"]),
                helper.make_node("Cast", [f"{name}_round"], [f"{name}_sides"], to=TensorProto.INT64),
                helper.make_node("Reshape", [f"{name}_inner", f"{name}_sides"], [name]),
            ]
        )
        output.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_{i}" for i in range(rank)]))
    path = tmp_path_factory.mktemp("open") / "unfolded.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_file_with_open_outputs_gives_the_same_segments(
    unfolded: Path, demo_onnx: Path, coffee: Path, engine: str
) -> None:
    pytest.importorskip(engine)
    with FastSAM(unfolded, engine=engine, imgsz=320) as model, FastSAM(demo_onnx, engine=engine, imgsz=320) as usual:
        assert model.spec == usual.spec
        segments, expected = model.segment(coffee), usual.segment(coffee)
    assert len(segments) == len(expected) > 3
    np.testing.assert_allclose(segments.boxes_xyxy, expected.boxes_xyxy, atol=0.01)


def test_classes_are_counted_in_a_run_where_metadata_does_not_name_them(unfolded: Path, tmp_path: Path) -> None:
    model = onnx.load(unfolded)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with open_engine(tmp_path / "bare.onnx", EngineSettings(engine="onnxruntime")) as engine:  # type: ignore[attr-defined]
        assert (engine.spec.class_count, engine.spec.mask_dim, engine.spec.layout) == (1, 32, "raw")


@pytest.mark.parametrize(
    ("shapes", "layout"),
    [
        pytest.param({"a": (None, None, None), "b": (None, None, None, None)}, True, id="all open"),
        pytest.param({"a": (None, None, 8400), "b": (None, 32, None, None)}, True, id="rows open"),
        pytest.param({"a": (), "b": ()}, True, id="no shape"),
        pytest.param({"a": (None, 37, None), "b": (None, 32, None, None)}, False, id="channels known"),
        pytest.param({"a": (None, None, 38), "b": (None, 32, None, None)}, False, id="suppressed, rows open"),
    ],
)
def test_a_network_is_run_only_where_it_has_to_be(shapes: dict[str, tuple[int | None, ...]], layout: bool) -> None:
    asked = []

    def run(inputs: object) -> dict[str, tuple[int, ...]]:
        asked.append(inputs)
        return {"a": (1, 37, 84), "b": (1, 32, 16, 16)}

    images = TensorInfo("images", "float32", (None, 3, None, None))
    outputs = [TensorInfo(name, "float32", shape) for name, shape in shapes.items()]
    with_known_shapes([images], outputs, run, "m.onnx")
    assert asked == ([{"images": (1, 3, 64, 64)}] if layout else [])


def test_a_run_that_fails_is_told(unfolded: Path) -> None:
    def fail(_: object) -> dict[str, tuple[int, ...]]:
        raise ModelError("out of memory")

    images, opened = TensorInfo("i", "float32", (1, 3, 64, 64)), TensorInfo("o", "float32", (None, None, None))
    with pytest.raises(ModelError, match=r"outputs are o \(\?, \?, \?\) .* to learn their sizes failed: out of memory"):
        with_known_shapes([images], [opened], fail, "m.onnx")
