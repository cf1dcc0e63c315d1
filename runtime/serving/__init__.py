"""What Triton's Python models do with requests. Generated model repositories import these names from here."""

from __future__ import annotations

from .models import Postprocess, Preprocess, WholePipeline
from .parameters import Parameters
from .requests import Result, inputs_of, responses

__all__ = ["Parameters", "Postprocess", "Preprocess", "Result", "WholePipeline", "inputs_of", "responses"]
