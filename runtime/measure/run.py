"""A fidelity run from the command line's words: which models, on which images; open, measure, close."""

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
from ..batch.images import describe_model
from ..connection import is_address
from ..errors import ParameterError
from ..opening import ModelSettings, model_files, open_model
from ..pipeline import FastSAM
from .gate import Contender, FidelityLimits, measure
from .report import Report, folder_name

if TYPE_CHECKING:
    from rich.console import Console

_SETTINGS: dict[str, Callable[[str], Any]] = {
    "device": str, "engine": str, "precision": str, "threads": int, "imgsz": int
}  # fmt: skip
"""What may follow the @ of a model."""


@dataclass(frozen=True)
class ModelArgument:
    """A model of the command line, `[NAME=]PATH|ADDRESS[@SETTING=VALUE,…]`.

    Attributes:
        name: what reports call it.
        source: path or address.
        settings: keywords of `FastSAM` that this model has of its own.
    """

    name: str
    source: str
    settings: dict[str, Any]


Opener = Callable[[ModelArgument, ModelSettings], Contender | None]
"""Opens a model that the runtime cannot, None where it is not of its kind. See `run_fidelity`."""


def parse_model(text: str) -> ModelArgument:
    """Take a model of the command line apart. A name is what stands before a "=", before any separator of folders.

    A file whose name looks like that is taken as it is.

    Raises:
        ParameterError: an unknown setting, or a value that is not of its kind.
    """
    name, source, given = "", text, ""
    if not Path(source).is_file() and (match := re.fullmatch(r"([^=/\\:@]+)=(.+)", source)):
        name, source = match.groups()
    if not Path(source).is_file() and (match := re.fullmatch(r"(.+)@([^@/\\]*)", source)):
        source, given = match.groups()
    settings: dict[str, Any] = dict(_setting(setting, text) for setting in given.split(",") if given)
    last = re.split(r"[/\\]", source)[-1]
    return ModelArgument(name or last + (f"@{given}" if given else ""), source, settings)


def _setting(text: str, whole: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    try:
        if not equals or not value:
            raise ValueError("no value")
        return key, _SETTINGS[key](value)
    except (KeyError, ValueError) as error:
        known = ", ".join(f"{name}=…" for name in _SETTINGS)
        raise ParameterError(f"{whole}: setting {text!r}; expected some of {known} after the @, with commas") from error


def files_of(arguments: Iterable[ModelArgument]) -> list[Path]:
    """Files that opening the models reads, which no report may replace."""
    return [file for argument in arguments for file in model_files(argument.source)]


def settings_of(argument: ModelArgument, settings: ModelSettings) -> ModelSettings:
    """The settings of one model: those of all models that it can have, and its own.

    >>> settings_of(parse_model("grpc://host:8001/fastsam"), ModelSettings.from_keywords(threads=2)).engine.threads
    """
    return settings.for_model(argument.source).changed(**argument.settings)


def open_argument(argument: ModelArgument, settings: ModelSettings) -> FastSAM:
    """Open a model of the command line, a plan with every stage on its GPU.

    Args:
        settings: of all models.

    Raises:
        FastSamError: see `open_model`.
    """
    return open_model(argument.source, settings_of(argument, settings))


def open_contender(argument: ModelArgument, settings: ModelSettings) -> Contender:
    """Open a model as `open_argument` does; the caller closes its `segmenter`.

    Raises:
        ParameterError: it is a checkpoint. FastSamError: see `open_model`.
    """
    if argument.source.lower().endswith(".pt"):
        raise ParameterError(
            f"{argument.source}: a PyTorch checkpoint, and the runtime has no PyTorch; expected an exported model; "
            "python -m benchmarks.fidelity compare takes a checkpoint as the reference, fastsam-export onnx exports it"
        )
    model = open_argument(argument, settings)
    described = {**describe_model(model), "class_names": list(model.spec.class_names)}
    if not is_address(argument.source):  # what shapes a server makes is its own affair
        sides = model.spec.size_hw
        described["input"] = input_shape(model.imgsz, settings.rect) if None in sides else f"{sides[1]}×{sides[0]}"
    return Contender(argument.name, argument.source, model, described)


def input_shape(imgsz: int, rect: bool | None) -> str:
    """What `Contender.description` says of the `input` of a model that takes any size."""
    return f"{imgsz}×{imgsz}" if rect is False else f"rectangle within {imgsz}"


def refuse_equal_names(arguments: Sequence[ModelArgument], key: Callable[[str], str] = str) -> None:
    """Refuse models that a report could not tell apart.

    Args:
        key: names are equal where this is.

    Raises:
        ParameterError: two have one name.

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
    """Open all models, the first being the reference, measure, and close them.

    Args:
        paths: image files.
        settings: of all models; each may have some of its own.
        worst: so many samples of each candidate are kept for pictures.
        console: where a terminal sees how far it is.
        opener: is asked first for each model; see `Opener`.

    Raises:
        FastSamError: a model cannot be opened, two have one name, or an image cannot be segmented.
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
