"""Triton model fastsam_postprocess: the thin end of `fastsam_deploy.runtime.serving`."""

import json
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.serving import Parameters, Postprocess, inputs_of, responses


class TritonPythonModel:
    """The interface of Triton's Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called once, when the model is loaded."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self._stage = Postprocess(Parameters(json.loads(args["model_config"])), folder)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in their order."""
        return responses(self._stage([inputs_of(request) for request in requests]))
