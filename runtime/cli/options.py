"""Arguments and options of the command `fastsam`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..engines.registry import overview


class PointsMode(str, Enum):
    """Names of `prompts.POINT_MODES`; importing those here would import OpenCV for `--help`."""

    merge = "merge"
    each = "each"
    all = "all"


_PROMPT, _NETWORK, _RESULTS = "Prompts", "Network", "Results"

ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE|FOLDER|GLOB…",
        help="Image files; folders (the images directly in them); patterns in quotes, with ** for sub-folders.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="ONNX file, TensorRT plan, or a model on a Triton server: grpc://HOST:8001/fastsam. Default: the demo "
        "model that comes along.",
        show_default=False,
    ),
]
ModelFileOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="ONNX file. Default: the demo model that comes along.", show_default=False),
]
PointsOption = Annotated[
    str | None,
    typer.Option(
        help='Points, pixels of the image: "[[520,360],[620,300]]".', rich_help_panel=_PROMPT, show_default=False
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        help='One label for each point, 1 = foreground, 0 = background: "[1,0]". Default: all foreground.',
        rich_help_panel=_PROMPT,
        show_default=False,
    ),
]
PointsModeOption = Annotated[
    PointsMode,
    typer.Option(
        help="merge: one object from all points; each: one for each foreground point; "
        "all: every segment that holds a foreground and no background point.",
        rich_help_panel=_PROMPT,
    ),
]
BoxesOption = Annotated[
    str | None,
    typer.Option(
        help='Boxes, left, top, right, bottom: "[[570,200,800,600]]". One segment for each.',
        rich_help_panel=_PROMPT,
        show_default=False,
    ),
]
TextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="TEXT",
        help='What to look for: "a yellow dog". One segment for each --text; needs --clip.',
        rich_help_panel=_PROMPT,
        show_default=False,
    ),
]
PromptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        metavar="JSON",
        help='Any prompt as a server takes it: \'{"points": [[520, 360]], "mode": "each"}\'. Can be repeated; the '
        "options above come first.",
        rich_help_panel=_PROMPT,
        show_default=False,
    ),
]
ClipOption = Annotated[
    Path | None,
    typer.Option(
        "--clip",
        metavar="FOLDER",
        help="CLIP model for --text, made by: fastsam-export clip.",
        rich_help_panel=_NETWORK,
        show_default=False,
    ),
]
ConfOption = Annotated[float, typer.Option(help="Keep segments with a score above it.", rich_help_panel=_NETWORK)]
IouOption = Annotated[
    float, typer.Option(help="Of boxes that overlap more than this the better stays.", rich_help_panel=_NETWORK)
]
MaxDetOption = Annotated[int, typer.Option(help="At most this many segments, best first.", rich_help_panel=_NETWORK)]
ImgszOption = Annotated[
    int | None,
    typer.Option(
        help="Longest side of the network's input, a multiple of 32. Default: the model's own.",
        rich_help_panel=_NETWORK,
        show_default=False,
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        help=f"Engine that opens the file: {overview()}. Default: the first that is installed.",
        rich_help_panel=_NETWORK,
        show_default=False,
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="fp32 or bf16: the engine computes in it, or there is an error. Default: the engine's own.",
        rich_help_panel=_NETWORK,
        show_default=False,
    ),
]
HintOption = Annotated[
    str | None,
    typer.Option(
        help="latency, or throughput: OpenVINO has several images under way at once.",
        rich_help_panel=_NETWORK,
        show_default=False,
    ),
]
CacheOption = Annotated[
    bool,
    typer.Option(
        "--cache", help="Keep the prepared network beside the model: it opens sooner.", rich_help_panel=_NETWORK
    ),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; never another.", rich_help_panel=_NETWORK)]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        help="CPU threads. Default: all that this process may use.", rich_help_panel=_NETWORK, show_default=False
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for pictures: NAME.overlay.jpg for each image. Default: ./output; with --json alone, none.",
        rich_help_panel=_RESULTS,
        show_default=False,
    ),
]
JsonOption = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE|-",
        help="Write one line of JSON for each image; - is standard output, and messages go to standard error.",
        rich_help_panel=_RESULTS,
        show_default=False,
    ),
]
MasksOption = Annotated[
    bool,
    typer.Option("--masks", help="Also NAME.masks/000.png …: white inside, black outside.", rich_help_panel=_RESULTS),
]
CutoutsOption = Annotated[
    bool, typer.Option("--cutouts", help="Also NAME.cutouts/000.png …: transparent outside.", rich_help_panel=_RESULTS)
]
ContoursOption = Annotated[
    bool, typer.Option("--contours/--no-contours", help="Outline the segments.", rich_help_panel=_RESULTS)
]
