"""The command `fastsam`. It parses, calls and returns a code; heavy libraries are imported by the commands."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from ..errors import FastSamError
from ..system.signals import exit_on_signals
from .bench_fidelity import app as bench_app
from .bench_speed import speed
from .options import (
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
    PromptOption,
    TextOption,
    ThreadsOption,
)
from .settings import json_file, model_files, network_settings, open_model, parse_prompt
from .video import video

if TYPE_CHECKING:
    from ..segments import Prompt

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
app.command()(video)


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
    json_prompts: PromptOption = None,
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
    prompt = parse_prompt(points, labels, points_mode.value, boxes, text, json_prompts)
    network = network_settings(
        prompt, model=model, device=device, conf=conf, iou=iou, max_det=max_det, imgsz=imgsz, clip=clip,
        threads=threads, engine=engine, precision=precision, hint=hint, cache=cache,
    )  # fmt: skip
    if output is None and (json_target is None or masks or cutouts):
        output = Path("output")
    drawn = {"masks": masks, "cutouts": cutouts, "contours": contours}
    _segment(images, prompt, output, json_target, network, drawn)


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

    from ..batch.images import Pictures, segment_files
    from ..batch.outputs import JsonLines, OutputFolder
    from ..sources.paths import find_images
    from ..system.identity import check_outputs

    paths = find_images(images)
    inputs = [*paths, *model_files(network["model"], network["clip"])]
    outputs = {"--json": json_file(json_target)}
    check_outputs(inputs, outputs)
    with ExitStack() as stack:
        sink = stack.enter_context(JsonLines(json_target)) if json_target is not None else None
        pictures = Pictures(OutputFolder(output, inputs, outputs) if output is not None else None, **drawn)
        fastsam = stack.enter_context(open_model(network))
        failed = segment_files(fastsam, paths, prompt, pictures, sink, Console(stderr=True))
        if len(paths) == 1 and failed:
            raise failed[0][1]
        if len(failed) == len(paths):  # inside, so that no empty file takes the place of an earlier answer
            raise FastSamError(f"all {len(paths)} images failed; see the lines above")
    if failed:
        raise FastSamError(f"{len(failed)} of {len(paths)} images failed, the others are done; see the lines above")


@app.command()
def doctor(
    model: ModelFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Show what is installed, which engines and devices work, and why the others do not."""
    from ..measure.doctor import examine, lines

    report = examine(model)
    typer.echo(json.dumps(report, indent=2) if as_json else "\n".join(lines(report)))
    if not any(engine["works"] for engine in report["engines"]):
        raise FastSamError("no engine works on this machine; see the reasons above")


def main() -> int:
    """Run the command line: 0, or 2 with one line on standard error. Anything unexpected keeps its traceback."""
    try:
        with exit_on_signals():
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
