"""ONNX files: a small network whose graph and metadata are damaged, and the metadata of the demo model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fastsam_deploy.runtime import EngineSettings, ModelSpec, ParameterError
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.spec import METADATA_KEY
from fastsam_deploy.runtime.system.scratch import scratch_folder
from tests.hostile.boundary import MB, Boundary

ROOT = Path(__file__).resolve().parents[3]


def small_network() -> bytes:
    """A file that opens: one convolution of the input with large steps makes detections, another one prototypes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    chance = np.random.default_rng(0)
    weights = {
        "w0": chance.normal(size=(37, 3, 8, 8)).astype(np.float32) * 0.01,
        "w1": chance.normal(size=(32, 3, 4, 4)).astype(np.float32) * 0.01,
        "shape": np.array([0, 37, -1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["images", "w0"], ["grid"], strides=[8, 8]),
        helper.make_node("Reshape", ["grid", "shape"], ["rows"]),
        helper.make_node("Sigmoid", ["rows"], ["output0"]),
        helper.make_node("Conv", ["images", "w1"], ["output1"], strides=[4, 4]),
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [tensor("images", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [
            tensor("output0", TensorProto.FLOAT, ["b", 37, "n"]),
            tensor("output1", TensorProto.FLOAT, ["b", 32, "p", "q"]),
        ],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, {METADATA_KEY: ModelSpec(imgsz=64).to_json()})
    return model.SerializeToString()


def foreign_network() -> bytes:
    """The same with the metadata that ultralytics writes."""
    import onnx

    model = onnx.ModelProto.FromString(small_network())
    onnx.helper.set_model_props(
        model,
        {"task": "segment", "stride": "32", "batch": "1", "imgsz": "[64, 64]", "names": "{0: 'object'}", "args": "{}"},
    )
    return model.SerializeToString()


def _seeds() -> list[bytes]:
    if not find_spec("onnx"):
        return [(ROOT / "tests/data/clip-tiny/image.onnx").read_bytes()[:5000]]
    return [small_network(), foreign_network()]


def _opened(content: bytes, **settings: Any) -> None:
    with scratch_folder() as folder:
        path = Path(folder, "x.onnx")
        path.write_bytes(content)
        with open_engine(path, EngineSettings(**settings)) as engine:
            height, width = engine.spec.fixed_hw or (64, 96)
            if height * width > 640**2 or (engine.spec.batch or 1) > 4:
                return  # honest, and large
            engine.run(np.zeros((engine.spec.batch or 1, 3, height, width), np.float32))


def _read(content: bytes) -> None:
    _opened(content, engine="onnxruntime", threads=1)


def _read_openvino(content: bytes) -> None:
    if not find_spec("openvino"):
        raise ParameterError("needs the extra [openvino]")
    _opened(content, engine="openvino", threads=1)


def _demo_seeds() -> list[bytes]:
    """The end of the demo model, where its metadata and the shapes of its inputs and outputs are."""
    return [(ROOT / "models/fastsam-demo.onnx").read_bytes()[-4000:]]


def _read_demo(content: bytes) -> None:
    whole = (ROOT / "models/fastsam-demo.onnx").read_bytes()
    with scratch_folder() as folder:
        path = Path(folder, "x.onnx")
        path.write_bytes(whole[:-4000] + content)
        with open_engine(path, EngineSettings(engine="onnxruntime", threads=1)):
            pass


BOUNDARIES = [
    Boundary("onnx", _seeds, _read, seconds=10.0, memory_bytes=800 * MB),
    Boundary("onnx-openvino", _seeds, _read_openvino, seconds=20.0, memory_bytes=1500 * MB, share=0.1),
    Boundary("onnx-demo", _demo_seeds, _read_demo, seconds=10.0, memory_bytes=800 * MB, share=0.02),
]
