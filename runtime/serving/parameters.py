"""The parameters of a Triton model's configuration, as the values that the runtime needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..clip.encoders import Clip
from ..documents import quoted
from ..errors import ParameterError
from ..spec import METADATA_KEY, ModelSpec, parameters_of
from ..stages.image import load_image
from ..stages.isolated import IsolatedLoader
from ..wire.question import Limits
from .clip import clip_on_this_server
from .requests import Decoder


class Parameters:
    """The `parameters` of a model's configuration. Triton stores each of them as text.

    Args:
        config: the model's configuration as the Python backend passes it, parsed from JSON.

    Example:
        >>> texts = {"imgsz": "640", "rect": "false", "limit_prompts": "100"}
        >>> parameters = Parameters({"parameters": {name: {"string_value": text} for name, text in texts.items()}})
        >>> parameters.number("imgsz"), parameters.rect, parameters.limits.prompts
        (640, False, 100)
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._texts = parameters_of(config)

    def text(self, name: str, default: str = "") -> str:
        """The parameter, or `default` if it is missing or empty.

        Example:
            >>> Parameters({}).text("model", "model.onnx")
            'model.onnx'
        """
        return self._texts.get(name) or default

    def number(self, name: str) -> int | None:
        """The parameter as a whole number, or None if it is missing or empty.

        Raises:
            ParameterError: the text is not a whole number.

        Example:
            >>> Parameters({"parameters": {"threads": {"string_value": "4"}}}).number("threads")
            4
        """
        text = self.text(name)
        try:
            return int(text) if text else None
        except ValueError:
            raise ParameterError(f"parameter {name} is {text!r}, expected a whole number") from None

    @property
    def rect(self) -> bool:
        """Whether the input of the network is the smallest rectangle around the image.

        Raises:
            ParameterError: the text is neither true nor false.

        Example:
            >>> Parameters({}).rect
            True
        """
        text = self.text("rect", "true")
        if text not in ("true", "false"):
            raise ParameterError(f"parameter rect is {quoted(text)}, expected true or false")
        return text == "true"

    @property
    def limits(self) -> Limits:
        """The limits of the `limit_…` parameters, with defaults for those that are missing.

        Example:
            >>> Parameters({}).limits == Limits()
            True
        """
        numbers = {limit.name: self.number(f"limit_{limit.name}") for limit in fields(Limits)}
        return Limits(**{name: value for name, value in numbers.items() if value is not None})

    def decoder(self, *, started: bool = False) -> Decoder:
        """Reads image files, in a process of its own: a file of a kilobyte may ask a decoder for seconds and gigabytes.

        The parameter `decode_seconds` is the time that an image may take, by default 20; with "off", files are decoded
        in the model's own process.

        Args:
            started: start the process now, for a model that decodes every image; otherwise with the first one.

        Raises:
            ParameterError: `decode_seconds` is neither "off" nor a whole number above 0.

        Example:
            >>> Parameters({"parameters": {"decode_seconds": {"string_value": "off"}}}).decoder() is load_image
            True
        """
        if self.text("decode_seconds") == "off":
            return load_image
        seconds = self.number("decode_seconds")
        loader = IsolatedLoader() if seconds is None else IsolatedLoader(seconds=seconds)
        if started:
            loader.start()
        return loader.load_image

    def clip(self, folder: Path) -> Clip | None:
        """The CLIP encoders of the repository, or None if it has none.

        Args:
            folder: the one that holds the tokenizer.

        Example:
            >>> Parameters({}).clip(Path("1")) is None
            True
        """
        text = self.text("clip")
        return clip_on_this_server(text, folder) if text else None

    @property
    def spec(self) -> ModelSpec:
        """The spec of the repository's network.

        Example:
            >>> Parameters({}).spec.imgsz
            1024
        """
        return ModelSpec.from_json(self.text(METADATA_KEY, "{}"), "model configuration")
