"""Arguments, options and groups of options of the command `fastsam`; see `groups` for what a group is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..engines.registry import overview
from ..errors import ParameterError
from .prompts import check_clip, parse_prompt

if TYPE_CHECKING:
    from ..opening import ModelSettings
    from ..segments import Prompt
    from ..stages.reading.decoded import Selection


class PointsMode(str, Enum):
    """Names of `prompts.POINT_MODES`; importing those here would import OpenCV for `--help`."""

    merge = "merge"
    each = "each"
    all = "all"


def option(text: str, *names: str, panel: str | None = None, **settings: Any) -> Any:
    """An option.

    Args:
        text: its help.
        names: such as "--output", "-o"; none: made of the parameter's name.
        panel: of the help, under which it stands.
        settings: as Typer takes them.

    >>> Annotated[float, option("Keep segments with a score above it.", panel="Network")]    # doctest: +SKIP
    """
    return typer.Option(*names, help=text, rich_help_panel=panel, **settings)


_prompt, _reading, network_option, result_option = (
    partial(option, panel=name) for name in ("Prompts", "Images", "Network", "Results")
)

ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE|FOLDER|GLOB…",
        help="Image files; folders (the images directly in them); patterns in quotes, with ** for sub-folders; "
        "- for standard input.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    option(
        "ONNX file, TensorRT plan, or a model on a Triton server: grpc://HOST:8001/fastsam. Default: the demo model "
        "that comes along.",
        "--model",
        "-m",
    ),
]
ModelFileOption = Annotated[
    Path | None, option("ONNX file. Default: the demo model that comes along.", "--model", "-m")
]
JsonLinesOption = Annotated[
    str | None,
    result_option(
        "Write one line of JSON for each image; - is standard output, and messages go to standard error.",
        "--json",
        metavar="FILE|-",
    ),
]
ContoursOption = Annotated[bool, result_option("Outline the segments.", "--contours/--no-contours")]


@dataclass(frozen=True)
class PromptOptions:
    """What to look for; everything where nothing is given."""

    points: Annotated[str | None, _prompt('Points, pixels of the image: "[[520,360],[620,300]]".')] = None
    labels: Annotated[
        str | None,
        _prompt('One label for each point, 1 = foreground, 0 = background: "[1,0]". Default: all foreground.'),
    ] = None
    points_mode: Annotated[
        PointsMode,
        _prompt(
            "merge: one object from all points; each: one for each foreground point; "
            "all: every segment that holds a foreground and no background point."
        ),
    ] = PointsMode.merge
    boxes: Annotated[
        str | None,
        _prompt('Boxes, left, top, right, bottom: "[[570,200,800,600]]". One segment for each.'),
    ] = None
    text: Annotated[
        list[str] | None,
        _prompt(
            'What to look for: "a yellow dog". One segment for each --text; needs --clip.', "--text", metavar="TEXT"
        ),
    ] = None
    json_prompts: Annotated[
        list[str] | None,
        _prompt(
            'Any prompt as a server takes it: \'{"points": [[520, 360]], "mode": "each"}\'. Can be repeated; the '
            "options above come first.",
            "--prompt",
            metavar="JSON",
        ),
    ] = None
    clip: Annotated[
        Path | None,
        network_option("CLIP model for --text, made by: fastsam-export clip.", "--clip", metavar="FOLDER"),
    ] = None

    def parsed(self, model: str | None) -> Prompt | list[Prompt] | None:
        """The prompt for a model; None for everything. Raises PromptError, see `parse_prompt` and `check_clip`."""
        prompt = parse_prompt(
            self.points, self.labels, self.points_mode.value, self.boxes, self.text, self.json_prompts
        )
        check_clip(prompt, self.clip, model)
        return prompt


@dataclass(frozen=True)
class ReadingOptions:
    """What of an image file is read."""

    page: Annotated[
        int | None,
        _reading("Of files with several images, such as TIFF and GIF: which one, from 0. Default: the first."),
    ] = None
    bands: Annotated[
        str | None,
        _reading(
            "Bands read as red, green and blue, or one as gray, counted from 1. Default: the file's colours.",
            metavar="3,2,1",
        ),
    ] = None
    value_range: Annotated[
        str,
        _reading(
            "Values of more than 8 bits that become black and white: of the type, of the image, or two numbers.",
            "--range",
            metavar="full|minmax|percentile|LOW,HIGH",
        ),
    ] = "full"

    def selection(self) -> Selection:
        """Raises ParameterError: a value is out of its range."""
        from ..stages.reading.decoded import Selection

        bands = None if self.bands is None else _numbers("--bands", self.bands, int, "3,2,1")
        value_range: Any = self.value_range
        if "," in self.value_range:
            value_range = _numbers("--range", self.value_range, float, "0,4095")
        return Selection(self.page, bands, value_range)


def _numbers(name: str, text: str, kind: Callable[[str], Any], example: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(f"{name}: {text!r:.80}; expected numbers with commas, such as {example}") from error


@dataclass(frozen=True)
class NetworkOptions:
    """How a model is opened, and what of its answers is kept. The names are `FastSAM`'s."""

    conf: Annotated[float, network_option("Keep segments with a score above it.")] = 0.4
    iou: Annotated[float, network_option("Of boxes that overlap more than this the better stays.")] = 0.9
    max_det: Annotated[int, network_option("At most this many segments, best first.")] = 300
    imgsz: Annotated[
        int | None,
        network_option("Longest side of the network's input, a multiple of 32. Default: the model's own."),
    ] = None
    device: Annotated[str, network_option("cpu, cuda or cuda:N; never another.")] = "cpu"
    threads: Annotated[int | None, network_option("CPU threads. Default: all that this process may use.")] = None
    engine: Annotated[
        str | None,
        network_option(f"Engine that opens the file: {overview()}. Default: the first that is installed."),
    ] = None
    precision: Annotated[
        str | None,
        network_option("fp32 or bf16: the engine computes in it, or there is an error. Default: the engine's own."),
    ] = None
    hint: Annotated[
        str | None, network_option("latency, or throughput: OpenVINO has several images under way at once.")
    ] = None
    cache: Annotated[
        bool, network_option("Keep the prepared network beside the model: it opens sooner.", "--cache")
    ] = False

    def settings(self, *, rect: bool | None = None) -> ModelSettings:
        """The settings of a model.

        Raises:
            DeviceError, ParameterError: a value is out of its range.
        """
        from ..opening import ModelSettings

        return ModelSettings.from_keywords(**vars(self), rect=rect)


@dataclass(frozen=True)
class ResultOptions:
    """What to write for images."""

    output: Annotated[
        Path | None,
        result_option(
            "Folder for pictures: NAME.overlay.jpg for each image. Default: ./output; with --json alone, none.",
            "--output",
            "-o",
        ),
    ] = None
    json_target: JsonLinesOption = None
    masks: Annotated[bool, result_option("Also NAME.masks/000.png …: white inside, black outside.", "--masks")] = False
    cutouts: Annotated[bool, result_option("Also NAME.cutouts/000.png …: transparent outside.", "--cutouts")] = False
    contours: ContoursOption = True

    @property
    def folder(self) -> Path | None:
        """For pictures; None where none are wanted."""
        if self.output is None and (self.json_target is None or self.masks or self.cutouts):
            return Path("output")
        return self.output
