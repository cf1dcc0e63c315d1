"""Triton model fastsam_device: the whole pipeline in one process, from the image to its masks."""

import json
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.serving import Parameters, WholePipeline, inputs_of, responses


class TritonPythonModel:
    """The interface of Triton's Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called once, when the model is loaded."""
        folder = Path(args["model_repository"]) / args["model_version"]
        device = f"cuda:{args['model_instance_device_id']}" if args["model_instance_kind"] == "GPU" else "cpu"
        self._pipeline = WholePipeline(Parameters(json.loads(args["model_config"])), folder, device)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in their order."""
        return responses(self._pipeline([inputs_of(request) for request in requests]))

    def finalize(self) -> None:
        """Called once, when the model is unloaded."""
        self._pipeline.close()
