"""What Triton's Python models do with requests. Copied model repositories import these names from here."""

from __future__ import annotations

from .models import Parameters, Postprocess, Preprocess, Result, WholePipeline, inputs_of, responses

__all__ = ["Parameters", "Postprocess", "Preprocess", "Result", "WholePipeline", "inputs_of", "responses"]
