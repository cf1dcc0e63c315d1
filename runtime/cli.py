"""The command `fastsam`. It parses, calls and returns a code; heavy libraries are imported by the commands."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .cli_bench import app as bench_app
from .connection import is_address
from .errors import FastSamError, PromptError

if TYPE_CHECKING:
    from .segments import Prompt

app = typer.Typer(
    name="fastsam",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a bug keeps its own traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)

FAILED = 2
"""Exit code of every expected failure."""


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
        help="ONNX file, or a model on a Triton server: grpc://HOST:8001/fastsam. Default: the demo model that comes "
        "along.",
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


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastsam-deploy {__version__}")
        raise typer.Exit

app.add_typer(bench_app)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Segment anything in images with FastSAM: no PyTorch, no GPU needed."""


@app.command()
def segment(
    images: ImagesArgument,
    model: ModelOption = None,
    points: PointsOption = None,
    labels: LabelsOption = None,
    points_mode: PointsModeOption = PointsMode.merge,
    boxes: BoxesOption = None,
    text: TextOption = None,
    clip: ClipOption = None,
    conf: ConfOption = 0.4,
    iou: IouOption = 0.9,
    max_det: MaxDetOption = 300,
    imgsz: ImgszOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    output: OutputOption = None,
    json_target: JsonOption = None,
    masks: MasksOption = False,
    cutouts: CutoutsOption = False,
    contours: ContoursOption = True,
) -> None:
    """Segment images: everything in them, or what points, boxes and texts ask for.

    A bad image does not stop the others; it is reported, and the exit code is 2 at the end.
    """
    prompt = parse_prompt(points, labels, points_mode.value, boxes, text)
    # A server may have a CLIP of its own, and says it where it has none.
    if (clip is None) != (not text) and not (clip is None and is_address(model)):
        raise PromptError(
            "--clip without --text; expected both or none; add what to look for: --text 'a dog'"
            if clip
            else "--text without --clip; expected the folder of a CLIP model; make one with fastsam-export clip"
        )
    if output is None and (json_target is None or masks or cutouts):
        output = Path("output")
    network = {"conf": conf, "iou": iou, "max_det": max_det, "imgsz": imgsz, "threads": threads, "clip": clip}
    drawn = {"masks": masks, "cutouts": cutouts, "contours": contours}
    _segment(images, prompt, output, json_target, {"model": model, "device": device, **network}, drawn)


def _segment(
    images: list[str],
    prompt: Prompt | list[Prompt] | None,
    output: Path | None,
    json_target: str | None,
    network: dict[str, Any],
    drawn: dict[str, bool],
) -> None:
    """Find the images, open the model and the outputs, segment, close.

    Args:
        network: arguments of FastSAM.
        drawn: switches of Pictures.
    """
    from rich.console import Console

    from .files import JsonLines, OutputFolder, find_images
    from .pipeline import FastSAM
    from .segment_files import Pictures, segment_files

    paths = find_images(images)
    with ExitStack() as stack:
        sink = stack.enter_context(JsonLines(json_target, paths)) if json_target is not None else None
        pictures = Pictures(OutputFolder(output, paths) if output is not None else None, **drawn)
        fastsam = stack.enter_context(FastSAM(**network))
        failed = segment_files(fastsam, paths, prompt, pictures, sink, Console(stderr=True))
        if len(paths) == 1 and failed:
            raise failed[0][1]
        if len(failed) == len(paths):  # inside, so that no empty file takes the place of an earlier answer
            raise FastSamError(f"all {len(paths)} images failed; see the lines above")
    if failed:
        raise FastSamError(f"{len(failed)} of {len(paths)} images failed, the others are done; see the lines above")


def parse_prompt(
    points: str | None, labels: str | None, points_mode: str, boxes: str | None, texts: list[str] | None = None
) -> Prompt | list[Prompt] | None:
    """The prompt of the command line; None for everything.

    Args:
        points, labels, boxes: JSON text, None where not given.
        points_mode: one of `prompts.POINT_MODES`.
        texts: as they are.

    Raises:
        PromptError: not JSON, not of the shape of points, labels or boxes, or a text without a word.
    """
    from .prompts import Boxes, Points

    if labels is not None and points is None:
        raise PromptError(f"--labels {labels} without --points; expected one label for each point; add --points")
    prompts: list[Prompt] = []
    if points is not None:
        given = _json_option("--points", points, "[[x, y], …]")
        flags = _json_option("--labels", labels, "[1, 0, …]") if labels is not None else None
        prompts.append(Points(given, flags, mode=points_mode))
    if boxes is not None:
        prompts.append(Boxes(_json_option("--boxes", boxes, "[[x1, y1, x2, y2], …]")))
    if texts:
        from .text import Text

        prompts.append(Text(texts))
    if not prompts:
        return None
    return prompts[0] if len(prompts) == 1 else prompts


def _json_option(option: str, text: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f'{option}: {text!r:.80} is no JSON ({error}); expected "{expected}" in quotes') from error


@app.command()
def doctor(
    model: ModelFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Show what is installed, which engines and devices work, and why the others do not."""
    from .doctor import examine, lines

    report = examine(model)
    typer.echo(json.dumps(report, indent=2) if as_json else "\n".join(lines(report)))
    if not any(engine["works"] for engine in report["engines"]):
        raise FastSamError("no engine works on this machine; see the reasons above")


def main() -> int:
    """Run the command line: 0, or 2 with one line on standard error. Anything unexpected keeps its traceback."""
    try:
        app()
    except FastSamError as error:
        print(f"fastsam: {error}", file=sys.stderr)  # noqa: T201
        return FAILED
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise
        print("fastsam: OpenCV is not installed; run: pip install 'fastsam-deploy[cpu]'", file=sys.stderr)  # noqa: T201
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
