"""A Triton backend in Python that runs the `model.onnx` in the folder of a model with ONNX Runtime on the CPU.

`triton_server.py` uses it instead of Triton's backends for ONNX Runtime and TensorRT, which its wheel lacks. Like them,
it reads names, dtypes and `intra_op_thread_count` from the configuration.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb


class TritonPythonModel:
    """The interface that Triton's Python backend requires."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the ONNX file of this version."""
        config = json.loads(args["model_config"])
        threads = config["parameters"].get("intra_op_thread_count", {}).get("string_value", "0")
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(threads)
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests: list) -> list:
        """One run for all requests, which have the same shape: the scheduler batches only such requests."""
        columns = [[pb.get_input_tensor_by_name(r, name).as_numpy() for r in requests] for name in self._inputs]
        feed = {
            name: column[0] if len(column) == 1 else np.concatenate(column)
            for name, column in zip(self._inputs, columns, strict=True)
        }
        outputs = self._session.run(self._outputs, feed)
        ends = np.cumsum([len(part) for part in columns[0]])[:-1]
        parts = [np.split(output, ends) for output in outputs]
        return [
            pb.InferenceResponse([pb.Tensor(n, p[i]) for n, p in zip(self._outputs, parts, strict=True)])
            for i in range(len(requests))
        ]
