"""Triton model fastsam_preprocess: the thin end of `fastsam_deploy.runtime.serving`."""

import json
from typing import Any

from fastsam_deploy.runtime.serving import Parameters, Preprocess, inputs_of, responses


class TritonPythonModel:
    """The interface of Triton's Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called once, when the model is loaded."""
        self._stage = Preprocess(Parameters(json.loads(args["model_config"])))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in their order."""
        return responses(self._stage([inputs_of(request) for request in requests]))
