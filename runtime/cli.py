"""The command `fastsam`. It parses, calls and returns a code; heavy libraries are imported by the commands."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .cli_bench import app as bench_app
from .cli_options import (
    BoxesOption,
    CacheOption,
    ClipOption,
    ConfOption,
    ContoursOption,
    CutoutsOption,
    DeviceOption,
    EngineOption,
    HintOption,
    ImagesArgument,
    ImgszOption,
    IouOption,
    JsonOption,
    LabelsOption,
    MasksOption,
    MaxDetOption,
    ModelFileOption,
    ModelOption,
    OutputOption,
    PointsMode,
    PointsModeOption,
    PointsOption,
    PrecisionOption,
    TextOption,
    ThreadsOption,
)
from .cli_speed import speed
from .connection import is_address
from .errors import FastSamError, ParameterError, PromptError

if TYPE_CHECKING:
    from .pipeline import FastSAM
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


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastsam-deploy {__version__}")
        raise typer.Exit


bench_app.command("speed")(speed)
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
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    hint: HintOption = None,
    cache: CacheOption = False,
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
    network: dict[str, Any] = {"conf": conf, "iou": iou, "max_det": max_det, "imgsz": imgsz, "clip": clip}
    own = {"threads": threads, "engine": engine, "precision": precision, "hint": hint, "cache": cache or None}
    network |= {name: value for name, value in own.items() if value is not None}
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
        network: arguments of FastSAM, or of TRTFastSAM for a plan.
        drawn: switches of Pictures.
    """
    from rich.console import Console

    from .files import JsonLines, OutputFolder, find_images
    from .segment_files import Pictures, segment_files

    paths = find_images(images)
    with ExitStack() as stack:
        sink = stack.enter_context(JsonLines(json_target, paths)) if json_target is not None else None
        pictures = Pictures(OutputFolder(output, paths) if output is not None else None, **drawn)
        fastsam = stack.enter_context(_opened(network))
        failed = segment_files(fastsam, paths, prompt, pictures, sink, Console(stderr=True))
        if len(paths) == 1 and failed:
            raise failed[0][1]
        if len(failed) == len(paths):  # inside, so that no empty file takes the place of an earlier answer
            raise FastSamError(f"all {len(paths)} images failed; see the lines above")
    if failed:
        raise FastSamError(f"{len(failed)} of {len(paths)} images failed, the others are done; see the lines above")


def _opened(settings: dict[str, Any]) -> FastSAM:
    """The model of the command line: a plan with every stage on its GPU, anything else as `FastSAM` opens it."""
    from .pipeline import FastSAM

    if Path(settings["model"] or "").suffix not in (".plan", ".engine"):
        return FastSAM(**settings)
    for name in ("threads", "engine", "precision", "hint", "cache"):
        if name in settings:
            raise ParameterError(f"--{name}: a plan is made for one GPU and one precision already: leave it out")
    from .trt import TRTFastSAM

    return TRTFastSAM(**settings)


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
