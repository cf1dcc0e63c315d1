"""A fidelity run with the arguments of a command: open the models, measure, close them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.console import with_progress
from ..batch.records import describe_model
from ..connection import is_address
from ..errors import ParameterError
from ..opening import ModelSettings, model_files, open_model
from ..pipeline import FastSAM
from ..system.identity import is_file
from .gate import Contender, FidelityLimits, measure
from .report import Report, folder_name

if TYPE_CHECKING:
    from rich.console import Console

_SETTINGS: dict[str, Callable[[str], Any]] = {
    "device": str, "engine": str, "precision": str, "threads": int, "imgsz": int
}  # fmt: skip
"""The settings that may follow the @ of a model."""


@dataclass(frozen=True)
class ModelArgument:
    """A model on the command line, `[NAME=]PATH|ADDRESS[@SETTING=VALUE,…]`.

    Attributes:
        name: used in reports.
        source: path or address.
        settings: keyword arguments of `FastSAM` for this model alone.

    Example:
        >>> ModelArgument("int8", "model-int8.onnx", {"threads": 1}).source
        'model-int8.onnx'
    """

    name: str
    source: str
    settings: dict[str, Any]


Opener = Callable[[ModelArgument, ModelSettings], Contender | None]
"""Opens models that the runtime cannot open, and returns None for all others. See `run_fidelity`."""


def parse_model(text: str) -> ModelArgument:
    """Read a model from the command line. The text before "=" is a name, unless it contains a folder separator.

    If the whole text is the path of a file, it is used as it is.

    Args:
        text: `[NAME=]PATH|ADDRESS[@SETTING=VALUE,…]`.

    Raises:
        ParameterError: a setting is unknown, or its value is of the wrong type.

    Example:
        >>> model = parse_model("int8=models/m.onnx@threads=1")
        >>> model.name, model.source, model.settings
        ('int8', 'models/m.onnx', {'threads': 1})
    """
    name, source, suffix = "", text, ""
    if not is_file(Path(source)) and (match := re.fullmatch(r"([^=/\\:@]+)=(.+)", source)):
        name, source = match.groups()
    if not is_file(Path(source)) and (match := re.fullmatch(r"(.+)@([^@/\\]*)", source)):
        source, suffix = match.groups()
    settings: dict[str, Any] = dict(_setting(setting, text) for setting in suffix.split(",") if suffix)
    last = re.split(r"[/\\]", source)[-1]
    return ModelArgument(name or last + (f"@{suffix}" if suffix else ""), source, settings)


def _setting(text: str, whole: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    try:
        if not equals or not value:
            raise ValueError("no value")
        return key, _SETTINGS[key](value)
    except (KeyError, ValueError) as error:
        known = ", ".join(f"{name}=…" for name in _SETTINGS)
        raise ParameterError(
            f"{whole:.200}: setting {text!r:.80}; expected some of {known} after the @, with commas"
        ) from error


def files_of(arguments: Iterable[ModelArgument]) -> list[Path]:
    """Files that are read when the models are opened. No report may overwrite them.

    Example:
        >>> [path.name for path in files_of([parse_model("fp32.plan")])]
        ['fp32.plan', 'fp32.json']
    """
    return [file for argument in arguments for file in model_files(argument.source)]


def settings_of(argument: ModelArgument, settings: ModelSettings) -> ModelSettings:
    """The settings for one model: the common settings that apply to it, and those of the argument.

    Args:
        argument: the model.
        settings: common to all models.

    Example:
        >>> settings_of(parse_model("a.onnx@imgsz=640"), ModelSettings()).imgsz
        640
        >>> settings_of(parse_model("grpc://host:8001/fastsam"), ModelSettings.from_keywords(threads=2)).engine.threads
    """
    return settings.for_model(argument.source).changed(**argument.settings)


def open_argument(argument: ModelArgument, settings: ModelSettings) -> FastSAM:
    """Open a model of the command line. A plan runs with every stage on its GPU.

    Args:
        argument: the model.
        settings: common to all models.

    Raises:
        FastSamError: see `open_model`.

    Example:
        >>> with open_argument(parse_model("model.onnx@threads=1"), ModelSettings()) as model:  # doctest: +SKIP
        ...     segments = model.segment("photo.jpg")
    """
    return open_model(argument.source, settings_of(argument, settings))


def open_contender(argument: ModelArgument, settings: ModelSettings) -> Contender:
    """Open a model as `open_argument` does. The caller closes its `segmenter`.

    Args:
        argument: the model.
        settings: common to all models.

    Raises:
        ParameterError: it is a checkpoint.
        FastSamError: see `open_model`.

    Example:
        >>> open_contender(parse_model("int8=model.onnx"), ModelSettings()).name  # doctest: +SKIP
        'int8'
    """
    if argument.source.lower().endswith(".pt"):
        raise ParameterError(
            f"{argument.source}: a PyTorch checkpoint, and the runtime has no PyTorch; expected an exported model; "
            "python -m benchmarks.fidelity compare takes a checkpoint as the reference, fastsam-export onnx exports it"
        )
    model = open_argument(argument, settings)
    description = {**describe_model(model), "class_names": list(model.spec.class_names)}
    if not is_address(argument.source):  # the input shapes of a server are not known here
        sides = model.spec.size_hw
        description["input"] = input_shape(model.imgsz, settings.rect) if None in sides else f"{sides[1]}×{sides[0]}"
    return Contender(argument.name, argument.source, model, description)


def input_shape(imgsz: int, rect: bool | None) -> str:
    """The `input` in `Contender.description` of a model that accepts any size.

    Args:
        imgsz: longest side, pixels.
        rect: see `FastSAM`.

    Example:
        >>> input_shape(1024, None), input_shape(1024, False)
        ('rectangle within 1024', '1024×1024')
    """
    return f"{imgsz}×{imgsz}" if rect is False else f"rectangle within {imgsz}"


def refuse_equal_names(arguments: Sequence[ModelArgument], key: Callable[[str], str] = str) -> None:
    """Refuse models that a report could not distinguish.

    Args:
        arguments: the models.
        key: two names are equal if this function returns the same for both.

    Raises:
        ParameterError: two models have the same name.

    Example:
        >>> refuse_equal_names([parse_model("a.onnx"), parse_model("other=a.onnx")])
    """
    counts = Counter(key(argument.name) for argument in arguments)
    for argument in arguments:
        if counts[key(argument.name)] > 1:
            raise ParameterError(
                f"two models are called {argument.name}; expected a name for each; write NAME={argument.source}"
            )


def run_fidelity(
    models: Sequence[ModelArgument],
    paths: Sequence[Path],
    settings: ModelSettings,
    limits: FidelityLimits,
    *,
    worst: int,
    console: Console,
    opener: Opener | None = None,
) -> Report:
    """Open all models, compare all others with the first, and close them.

    Args:
        models: the reference, then the candidates.
        paths: image files.
        settings: common to all models; an argument may change some of them for its model.
        limits: those that the candidates have to meet.
        worst: number of samples of each candidate to keep for pictures.
        console: shows the progress, if it is a terminal.
        opener: tried first for each model; see `Opener`.

    Raises:
        FastSamError: a model cannot be opened, two have the same name, or an image cannot be segmented.

    Example:
        >>> models = [parse_model("fp32.onnx"), parse_model("int8.onnx")]
        >>> limits = FidelityLimits(mean_iou=0.95)
        >>> run_fidelity(models, paths, ModelSettings(), limits, worst=0, console=console).passed  # doctest: +SKIP
        True
    """
    refuse_equal_names(models, lambda name: folder_name(name).casefold())
    with ExitStack() as stack:
        opened = []
        for argument in models:
            contender = (opener and opener(argument, settings)) or open_contender(argument, settings)
            stack.callback(contender.segmenter.close)
            opened.append(contender)
        show = partial(with_progress, console=console, label="comparing")
        results = measure(opened[0], opened[1:], paths, limits, worst=worst, progress=show)
    return Report(opened[0], results, paths, settings.to_json(), limits)
